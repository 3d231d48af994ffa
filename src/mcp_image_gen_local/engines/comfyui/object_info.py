"""Node classes as ComfyUI describes them, and graphs held against them. Pure."""

import difflib
from collections.abc import Mapping
from typing import Any

from mcp_image_gen_local.domain.errors import (
    ImageGenError,
    InvalidRequest,
    ModelNotFound,
    NodeMissing,
    WorkflowRejected,
)

#: input that names a file -> the folder it comes from
MODEL_INPUTS = {
    "ckpt_name": "models/checkpoints",
    "unet_name": "models/diffusion_models",
    "clip_name": "models/text_encoders",
    "clip_name1": "models/text_encoders",
    "clip_name2": "models/text_encoders",
    "vae_name": "models/vae",
    "lora_name": "models/loras",
    "model_name": "models/upscale_models",
}
#: node class -> the package of custom nodes that brings it
CUSTOM_NODES = {
    "UnetLoaderGGUF": "ComfyUI-GGUF",
    "DualCLIPLoaderGGUF": "ComfyUI-GGUF",
    "CLIPLoaderGGUF": "ComfyUI-GGUF",
}

MAX_VALUE = 200  #: characters of an unknown value that are repeated to its sender

NodeInfo = Mapping[str, Any]


def input_specs(info: NodeInfo) -> dict[str, Any]:
    """Return input name -> specification, required and optional ones."""
    declared = info.get("input") or {}
    return {**(declared.get("optional") or {}), **(declared.get("required") or {})}


def options(spec: object) -> tuple[str, ...] | None:
    """Return the choices of a combo input; None for other inputs and for combos that ask a route of their own.

    Two shapes are about: `[["a", "b"], {...}]` and `["COMBO", {"options": ["a", "b"]}]`.
    """
    if not isinstance(spec, list) or not spec:
        return None
    if isinstance(spec[0], list):
        return tuple(str(o) for o in spec[0])
    extra = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
    if spec[0] == "COMBO" and isinstance(extra.get("options"), list):
        return tuple(str(o) for o in extra["options"])
    return None


def check_graph(graph: Mapping[str, Any], classes: Mapping[str, NodeInfo | None]) -> None:
    """Raise what ComfyUI would refuse, in words that say what to do.

    Raises:
        NodeMissing, ModelNotFound, InvalidRequest, WorkflowRejected.
    """
    for node in graph.values():
        class_type = node["class_type"]
        info = classes.get(class_type)
        if info is None:
            raise missing_node(class_type)
        specs = input_specs(info)
        for name in (info.get("input") or {}).get("required") or {}:
            if name not in node["inputs"]:
                raise WorkflowRejected(
                    f"ComfyUI's node {class_type} needs the input {name!r}, which the workflow does not give.",
                    hint="This ComfyUI is newer than this server's workflow: update mcp-image-gen.",
                )
        for name, value in node["inputs"].items():
            _check_value(class_type, name, value, specs.get(name))


def missing_node(class_type: str) -> NodeMissing:
    """Return the error for a node class that the server lacks."""
    package = CUSTOM_NODES.get(class_type)
    hint = (
        f"Install the custom nodes {package} (ComfyUI Manager, or git clone into custom_nodes) and restart ComfyUI."
        if package
        else "Update ComfyUI, or install the custom nodes that bring it (ComfyUI Manager shows missing ones)."
    )
    return NodeMissing(f"ComfyUI has no node {class_type!r}.", hint=hint)


def _check_value(class_type: str, name: str, value: object, spec: object) -> None:
    if isinstance(value, list):
        return  # a link
    allowed = options(spec)
    if allowed is not None:
        if value not in allowed:
            raise not_in_list(name, str(value), allowed)
        return
    extra = spec[1] if isinstance(spec, list) and len(spec) > 1 and isinstance(spec[1], dict) else {}
    low, high = extra.get("min"), extra.get("max")
    if isinstance(value, int | float) and ((low is not None and value < low) or (high is not None and value > high)):
        raise InvalidRequest(f"{name}={value} is out of range {low}..{high} for ComfyUI's node {class_type}.")


def not_in_list(name: str, value: str, allowed: tuple[str, ...]) -> ImageGenError:
    """Return the error for a value that is none of a combo's choices."""
    near = difflib.get_close_matches(value, allowed, n=5, cutoff=0.3) or list(allowed[:5])
    folder, value = MODEL_INPUTS.get(name), value[:MAX_VALUE]
    if folder is None:
        return InvalidRequest(
            f"{name.removesuffix('_name')}={value!r} is unknown to ComfyUI.", hint=f"Use one of: {', '.join(near)}."
        )
    if not near:
        return ModelNotFound(f"ComfyUI has no file {value!r}.", hint=f"Put it into {folder}.")
    return ModelNotFound(
        f"ComfyUI has no file {value!r}.", hint=f"Nearest: {', '.join(near)}. Or put it into {folder}."
    )
