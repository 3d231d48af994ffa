"""Node classes as ComfyUI describes them, and graphs held against them. Pure."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_image_gen_local.domain.errors import (
    ImageGenError,
    InvalidRequest,
    ModelNotFound,
    NodeMissing,
    WorkflowRejected,
)
from mcp_image_gen_local.domain.text import MAX_NAME, clean, is_clean
from mcp_image_gen_local.engines.comfyui.values import entries, number, table

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

MAX_OPTIONS = 20_000  #: of one input; a folder of that many files takes ComfyUI seconds to list
MAX_COMPARED = 500  #: names that are compared letter by letter, which takes 0.05 ms each


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What an input of a node takes."""

    options: tuple[str, ...] | None = (
        None  #: of a combo; None for other inputs, and combos that ask a route of their own
    )
    low: float | None = None  #: smallest number; None: no bound
    high: float | None = None  #: largest number
    is_required: bool = False


@dataclass(frozen=True, kw_only=True)
class NodeInfo:
    """A node class."""

    inputs: Mapping[str, InputSpec] = field(default_factory=dict)

    def options(self, name: str) -> tuple[str, ...] | None:
        """Return the choices of a combo input; None if it has none, or there is no such input."""
        spec = self.inputs.get(name)
        return spec.options if spec else None


UNDESCRIBED = NodeInfo()  #: of a class that ComfyUI has and could not describe: everything is left to it


def parse_class(info: Mapping[str, Any]) -> NodeInfo:
    """Return the node class of this description; inputs of an odd shape take anything."""
    declared = table(info.get("input"))
    groups = ((name, table(declared.get(name))) for name in ("optional", "required"))
    return NodeInfo(inputs={n: _spec(s, group == "required") for group, specs in groups for n, s in specs.items()})


def _spec(spec: object, is_required: bool) -> InputSpec:
    extra = table(spec[1]) if isinstance(spec, list) and len(spec) > 1 else {}
    low, high = number(extra.get("min")), number(extra.get("max"))
    return InputSpec(options=options(spec), low=low, high=high, is_required=is_required)


def options(spec: object) -> tuple[str, ...] | None:
    """Return the choices of a combo input; None for other inputs and for combos that ask a route of their own.

    Two shapes are about: `[["a", "b"], {...}]` and `["COMBO", {"options": ["a", "b"]}]`. Choices that are not fit to be
    shown, such as names with line ends, are left out.
    """
    if not isinstance(spec, list) or not spec:
        return None
    if isinstance(spec[0], list):
        return _choices(spec[0])
    extra = table(spec[1]) if len(spec) > 1 else {}
    if spec[0] == "COMBO" and isinstance(extra.get("options"), list):
        return _choices(entries(extra["options"]))
    return None


def _choices(values: Sequence[object]) -> tuple[str, ...]:
    texts = (v if isinstance(v, str) else str(v) for v in values if isinstance(v, str) or number(v) is not None)
    return tuple(text for text in texts if is_clean(text))[:MAX_OPTIONS]


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
        for name, spec in info.inputs.items():
            if spec.is_required and name not in node["inputs"]:
                raise WorkflowRejected(
                    f"ComfyUI's node {class_type} needs the input {clean(name, MAX_NAME)!r}, which the workflow does "
                    "not give.",
                    hint="This ComfyUI is newer than this server's workflow: update mcp-image-gen.",
                )
        for name, value in node["inputs"].items():
            if found := info.inputs.get(name):
                _check_value(class_type, name, value, found)


def missing_node(class_type: str) -> NodeMissing:
    """Return the error for a node class that the server lacks."""
    package = CUSTOM_NODES.get(class_type)
    hint = (
        f"Install the custom nodes {package} (ComfyUI Manager, or git clone into custom_nodes) and restart ComfyUI."
        if package
        else "Update ComfyUI, or install the custom nodes that bring it (ComfyUI Manager shows missing ones)."
    )
    return NodeMissing(f"ComfyUI has no node {clean(class_type, MAX_NAME)!r}.", hint=hint)


def _check_value(class_type: str, name: str, value: object, spec: InputSpec) -> None:
    if isinstance(value, list):
        return  # a link
    if spec.options is not None:
        if str(value) not in spec.options and len(spec.options) < MAX_OPTIONS:
            raise not_in_list(name, str(value), spec.options)
        return
    low, high = spec.low, spec.high
    if isinstance(value, int | float) and ((low is not None and value < low) or (high is not None and value > high)):
        raise InvalidRequest(f"{name}={value} is out of range {low}..{high} for ComfyUI's node {class_type}.")


def not_in_list(name: str, value: str, allowed: Sequence[str]) -> ImageGenError:
    """Return the error for a value that is none of a combo's choices."""
    near, folder, shown = nearest(value, allowed), MODEL_INPUTS.get(name), clean(value, MAX_NAME)
    if folder is None:
        return InvalidRequest(
            f"{name.removesuffix('_name')}={shown!r} is unknown to ComfyUI.", hint=f"Use one of: {', '.join(near)}."
        )
    if not near:
        return ModelNotFound(f"ComfyUI has no file {shown!r}.", hint=f"Put it into {folder}.")
    return ModelNotFound(
        f"ComfyUI has no file {shown!r}.", hint=f"Nearest: {', '.join(near)}. Or put it into {folder}."
    )


def nearest(value: str, names: Sequence[str], count: int = 5) -> list[str]:
    """Return the names that are most like the value, or the first ones; of many only those that hold its beginning."""
    value = value[:MAX_NAME]
    if len(names) > MAX_COMPARED:
        alike = [name for name in names if value[:4].lower() in name.lower()] or names
        names = list(alike)[:MAX_COMPARED]
    return difflib.get_close_matches(value, names, n=count, cutoff=0.3) or list(names[:count])
