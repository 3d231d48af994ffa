"""Reading and filling API-format graphs by following their links, never by node id. Pure.

The walk begins at the node that saves images, finds the sampler behind it, and from there whatever feeds the
sampler. Shipped workflows and the graphs of other clients go through the same code.
"""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcp_image_gen_local.domain.errors import RequestNotSupported

Node = dict[str, Any]
Graph = dict[str, Node]

SAMPLERS = frozenset({"KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced"})
SAVERS = ("SaveImage", "SaveAnimatedWEBP", "SaveImageWebsocket", "PreviewImage")
#: Links by which an advanced sampler gets what a KSampler holds itself.
SAMPLER_HELPERS = ("guider", "noise", "sampler", "sigmas")

#: value -> names of the input that may hold it, at the sampler or its helpers
AT_SAMPLER = {
    "seed": ("seed", "noise_seed"),
    "steps": ("steps",),
    "cfg": ("cfg",),
    "sampler": ("sampler_name",),
    "scheduler": ("scheduler",),
    "denoise": ("denoise",),
}
#: value -> (links of the sampler or its helpers to walk up, names of the input that may hold it)
BEHIND_SAMPLER = {
    "prompt": (("positive", "conditioning"), ("text",)),
    "guidance": (("positive", "conditioning"), ("guidance",)),
    "negative_prompt": (("negative",), ("text",)),
    "width": (("latent_image",), ("width",)),
    "height": (("latent_image",), ("height",)),
    "batch_size": (("latent_image",), ("batch_size", "amount")),
    "checkpoint": (("model",), ("ckpt_name",)),
    "diffusion_model": (("model",), ("unet_name",)),
    "text_encoder_1": (("positive", "conditioning"), ("clip_name1", "clip_name")),
    "text_encoder_2": (("positive", "conditioning"), ("clip_name2",)),
}


@dataclass(frozen=True)
class Slot:
    """The place in a graph that holds one value."""

    node_id: str
    input_name: str


def missing_slot(name: str) -> RequestNotSupported:
    """Return the error for a value that the graph has no input for."""
    return RequestNotSupported(f"The workflow has no input for {name}.", hint=f"Leave {name} out.")


def trace(graph: Mapping[str, Node]) -> dict[str, Slot]:
    """Return where each value of a request lives in the graph; values without a place are left out."""
    saver = _first_of_class(graph, SAVERS)
    if saver is None:
        return {}
    slots = {"filename_prefix": Slot(saver, "filename_prefix")} if _holds(graph, saver, "filename_prefix") else {}
    sampler = next((n for n in upstream(graph, [saver]) if graph[n].get("class_type") in SAMPLERS), None)
    if sampler is None:
        return slots
    heads = [sampler, *_linked(graph, [sampler], SAMPLER_HELPERS)]
    for value, names in AT_SAMPLER.items():
        _note(slots, value, _find(graph, heads, names))
    for value, (links, names) in BEHIND_SAMPLER.items():
        _note(slots, value, _find(graph, upstream(graph, _linked(graph, heads, links)), names))
    decoders = [n for n in upstream(graph, [saver]) if n not in heads and _link(graph, n, "samples")]
    _note(slots, "vae", _find(graph, upstream(graph, _linked(graph, decoders[:1], ("vae",))), ("vae_name",)))
    if slots.get("negative_prompt") == slots.get("prompt"):  # a zeroed-out copy of the prompt is no negative prompt
        slots.pop("negative_prompt", None)
    return slots


def bind(graph: Mapping[str, Node], values: Mapping[str, Any]) -> Graph:
    """Return a copy of the graph with every value in its place.

    Raises:
        RequestNotSupported: the graph has no place for one of the values.
    """
    slots, bound = trace(graph), {node_id: copy.deepcopy(node) for node_id, node in graph.items()}
    for name, value in values.items():
        if name not in slots:
            raise missing_slot(name)
        bound[slots[name].node_id]["inputs"][slots[name].input_name] = value
    return bound


def read(graph: Mapping[str, Node]) -> dict[str, Any]:
    """Return the values that the graph holds, by name."""
    return {name: graph[slot.node_id]["inputs"][slot.input_name] for name, slot in trace(graph).items()}


def begin_with_image(graph: Mapping[str, Node], file: str) -> Graph:
    """Return a copy in which the sampler begins with an uploaded image where it had an empty latent.

    Width and height, which `bind` sets as before, are those to which the image is scaled; what overhangs is cut off.

    Raises:
        RequestNotSupported: the graph has no empty latent, or no VAE to encode with.
    """
    slots = trace(graph)
    decoder = next((n for n in graph if _link(graph, n, "samples") and _link(graph, n, "vae")), None)
    if "width" not in slots or decoder is None:
        raise missing_slot("init_image")
    latent = slots["width"].node_id
    size = {name: graph[latent]["inputs"][name] for name in ("width", "height")}
    scale = {"image": ["init_image", 0], "upscale_method": "lanczos", "crop": "center", **size}
    added: Graph = {
        "init_image": {"class_type": "LoadImage", "inputs": {"image": file}},
        "init_scale": {"class_type": "ImageScale", "inputs": scale},
        "init_latent": {
            "class_type": "VAEEncode",
            "inputs": {"pixels": ["init_scale", 0], "vae": graph[decoder]["inputs"]["vae"]},
        },
        "init_batch": {"class_type": "RepeatLatentBatch", "inputs": {"samples": ["init_latent", 0], "amount": 1}},
    }
    changed = {node_id: copy.deepcopy(node) for node_id, node in graph.items() if node_id != latent}
    for node in changed.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == latent:
                node["inputs"][name] = ["init_batch", 0]
    return changed | added


def upstream(graph: Mapping[str, Node], starts: Iterable[str]) -> Iterator[str]:
    """Yield the start nodes and everything that feeds them, nearest first, each once."""
    waiting = deque(starts)
    seen = set(waiting)
    while waiting:
        node_id = waiting.popleft()
        yield node_id
        for name in graph[node_id].get("inputs", {}):
            source = _link(graph, node_id, name)
            if source and source not in seen:
                seen.add(source)
                waiting.append(source)


def _first_of_class(graph: Mapping[str, Node], classes: Iterable[str]) -> str | None:
    return next((n for c in classes for n, node in graph.items() if node.get("class_type") == c), None)


def _link(graph: Mapping[str, Node], node_id: str, name: str) -> str | None:
    """Return the node that feeds this input; None if it holds a value of its own."""
    value = graph[node_id].get("inputs", {}).get(name)
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in graph
    return str(value[0]) if is_link else None


def _linked(graph: Mapping[str, Node], node_ids: Iterable[str], names: Iterable[str]) -> list[str]:
    names = tuple(names)
    return [source for node_id in node_ids for name in names if (source := _link(graph, node_id, name))]


def _holds(graph: Mapping[str, Node], node_id: str, name: str) -> bool:
    value = graph[node_id].get("inputs", {}).get(name)
    return value is not None and not isinstance(value, list)


def _find(graph: Mapping[str, Node], node_ids: Iterable[str], names: Iterable[str]) -> Slot | None:
    names = tuple(names)
    return next((Slot(n, name) for n in node_ids for name in names if _holds(graph, n, name)), None)


def _note(slots: dict[str, Slot], value: str, slot: Slot | None) -> None:
    if slot:
        slots[value] = slot
