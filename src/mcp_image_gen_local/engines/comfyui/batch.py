"""A batch as one graph in which every image has a sampler, a seed and a file of its own.

A latent batch would be quicker to write, but its images cannot be generated again alone: only the first is what its
seed gives. Model, text encoders and VAE are loaded once either way.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_image_gen_local.domain.request import MAX_SEED
from mcp_image_gen_local.engines.comfyui.graph import Graph, Node, bind, trace
from mcp_image_gen_local.engines.comfyui.replies import ImageFile
from mcp_image_gen_local.engines.comfyui.values import whole

MAX_IMAGES = 16  #: of one job


def fan_out(graph: Mapping[str, Node], seeds: Sequence[int], prefix: str) -> Graph:
    """Return a copy that generates one image for each seed, into files that begin with `prefix`.

    All nodes that depend on the seed are repeated, from the sampler to the node that saves; all others are shared.
    """
    slots = trace(graph)
    if "seed" not in slots:
        return bind(graph, {"filename_prefix": prefix})
    seed, name = slots["seed"], slots["filename_prefix"]
    repeated = _downstream(graph, seed.node_id)
    result: Graph = {node_id: copy.deepcopy(node) for node_id, node in graph.items()}
    for index, value in enumerate(seeds):
        for node_id in repeated:
            result[_nth(node_id, index)] = _nth_node(graph[node_id], repeated, index)
        result[_nth(seed.node_id, index)]["inputs"][seed.input_name] = value
        result[_nth(name.node_id, index)]["inputs"][name.input_name] = _nth(prefix, index)
    return result


def seeds_in(graph: Mapping[str, Node]) -> list[int | None]:
    """Return the seed of each image of a graph that `fan_out` made; of any other, that of its first image.

    None stands for what is no seed.
    """
    slot = trace(graph).get("seed")
    if slot is None:
        return []
    nodes = [graph.get(_nth(slot.node_id, index)) for index in range(MAX_IMAGES)]
    return [whole(node["inputs"].get(slot.input_name), 0, MAX_SEED) for node in nodes if node]


def file_name(job_id: str, index: int) -> str:
    """Return the name that ComfyUI gives the image of this index."""
    return f"{_nth(job_id, index)}_00001_.png"


def by_index(images: Sequence[ImageFile], job_id: str) -> dict[int, ImageFile]:
    """Return index in the batch -> image, by their file names; those of other graphs are counted as they come."""
    pattern = re.compile(rf"{re.escape(job_id)}(?:-(\d{{1,2}}))?_\d+_\.\w+")
    found = {int(m[1] or 0): image for image in images if (m := pattern.fullmatch(image.filename))}
    return found if len(found) == len(images) else dict(enumerate(images))


def _nth(name: str, index: int) -> str:
    # "-", as ComfyUI counts files "NAME_00001_" and takes the number after "NAME_" for one of NAME.
    return f"{name}-{index}" if index else name


def _nth_node(node: Node, repeated: Sequence[str], index: int) -> Node:
    inputs: dict[str, Any] = copy.deepcopy(node["inputs"])
    for name, value in inputs.items():
        if isinstance(value, list) and value and value[0] in repeated:
            inputs[name] = [_nth(value[0], index), *value[1:]]
    return {**node, "inputs": inputs}


def _downstream(graph: Mapping[str, Node], start: str) -> list[str]:
    """Return the node and all that depend on it."""
    found = [start]
    for node_id in found:
        for other, node in graph.items():
            links = [v[0] for v in node.get("inputs", {}).values() if isinstance(v, list) and v]
            if node_id in links and other not in found:
                found.append(other)
    return found
