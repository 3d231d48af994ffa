"""Graphs traced, filled and read by their links."""

import copy
import json
from importlib.resources import files
from typing import Any

import pytest

from mcp_image_gen_local.domain.errors import RequestNotSupported
from mcp_image_gen_local.engines.comfyui.families import FAMILIES
from mcp_image_gen_local.engines.comfyui.graph import Slot, begin_with_image, bind, read, trace, upstream
from tests.comfyui_nodes import recording

WORKFLOWS = sorted(
    f.name
    for f in files("mcp_image_gen_local.engines.comfyui").joinpath("workflows").iterdir()
    if f.name.endswith(".json")
)
VALUES = {
    "prompt": "a fox",
    "negative_prompt": "blurry",
    "seed": 2**64 - 1,
    "steps": 7,
    "cfg": 2.5,
    "sampler": "dpmpp_2m",
    "scheduler": "karras",
    "width": 640,
    "height": 768,
    "batch_size": 2,
    "filename_prefix": "mcp-image-gen/x",
}


def shipped(name: str) -> Any:
    return json.loads(files("mcp_image_gen_local.engines.comfyui").joinpath("workflows", name).read_text("utf-8"))


def recorded(name: str) -> Any:
    return recording(f"graphs/{name}.json")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_takes_every_value(name):
    """A shipped workflow takes every value of a request."""
    assert VALUES.items() <= read(bind(shipped(name), VALUES)).items()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_filling_a_workflow_leaves_the_original(name):
    """Filling a workflow leaves the original and all else as it was."""
    graph = shipped(name)
    before = copy.deepcopy(graph)
    bound = bind(graph, VALUES)
    assert graph == before
    slots = {(slot.node_id, slot.input_name) for slot in map(trace(graph).__getitem__, VALUES)}
    changed = {(n, i) for n in graph for i in graph[n]["inputs"] if graph[n]["inputs"][i] != bound[n]["inputs"][i]}
    assert changed <= slots


def test_every_workflow_belongs_to_a_family():
    """Every shipped workflow belongs to a family and takes its files."""
    used = {(workflow, role) for family in FAMILIES for role, workflow in family.workflows.items()}
    assert {workflow for workflow, _ in used} == set(WORKFLOWS)
    for workflow, role in used:
        parts = {"text_encoder_1", "text_encoder_2", "vae"} if role == "diffusion_model" else set()
        assert {role, *parts} <= set(trace(shipped(workflow)))


def test_the_ids_of_the_nodes_do_not_matter():
    graph = shipped("flux_schnell.json")
    text = json.dumps(graph)
    for node_id in graph:
        text = text.replace(f'"{node_id}":', f'"node-{node_id}":').replace(f'["{node_id}",', f'["node-{node_id}",')
    assert read(bind(json.loads(text), VALUES)) == read(bind(graph, VALUES))


def test_a_graph_with_helpers_is_read():
    """A graph with guider noise and sigmas is read through its helpers."""
    assert read(recorded("flux_schnell_custom_advanced")) == {
        "filename_prefix": "lab/flux_adv",
        "seed": 1,
        "steps": 4,
        "sampler": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
        "prompt": "a lighthouse at dusk",
        "width": 64,
        "height": 64,
        "batch_size": 1,
        "diffusion_model": "flux1-schnell.safetensors",
        "text_encoder_1": "t5xxl_fp8_e4m3fn.safetensors",
        "text_encoder_2": "clip_l.safetensors",
        "vae": "ae.safetensors",
    }


def test_the_model_is_found_behind_a_lora():
    values = read(recorded("sd15_lora"))
    assert values["checkpoint"] == "v1-5-pruned-emaonly-fp16.safetensors"
    assert (values["prompt"], values["negative_prompt"]) == ("a lighthouse at dusk", "blurry")


def test_a_graph_from_an_image_has_no_size():
    """A graph that starts from an image has a denoise but no size."""
    values = read(recorded("sd15_img2img"))
    assert values["denoise"] == 0.6
    assert values.keys().isdisjoint({"width", "height", "batch_size"})


def test_a_graph_without_a_sampler_has_a_prefix_alone():
    assert read(recorded("two_outputs")) == {"filename_prefix": "lab/two"}


def test_a_checkpoint_graph_tells_all_its_values():
    values = read(recorded("sdxl"))
    assert (values["checkpoint"], values["seed"], values["cfg"]) == ("sd_xl_base_1.0.safetensors", 1, 7.0)


@pytest.mark.parametrize(
    "graph",
    [
        {},
        {"1": {"class_type": "EmptyImage", "inputs": {}}},
        {"1": {"class_type": "SaveLatent", "inputs": {"samples": ["2", 0]}}, "2": {"class_type": "KSampler"}},
    ],
)
def test_a_graph_that_saves_no_image_holds_no_values(graph):
    assert read(graph) == {}


def test_a_saver_without_a_prefix_is_still_a_beginning():
    graph = {
        "1": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        "2": {"class_type": "KSampler", "inputs": {"seed": 5}},
    }
    assert trace(graph) == {"seed": Slot("2", "seed")}


def test_a_value_without_a_place_is_refused_by_name():
    with pytest.raises(match="width"):
        bind(recorded("sd15_img2img"), {"width": 64})


def test_a_zeroed_out_prompt_is_no_negative_prompt():
    graph = recorded("sdxl")
    graph["5"] = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["4", 0]}}
    assert "negative_prompt" not in read(graph)
    assert read(graph)["prompt"] == "a lighthouse at dusk"


def test_a_linked_value_is_not_the_sampler_s_own():
    """A seed that comes from another node stays there."""
    graph = recorded("sdxl")
    graph["7"]["inputs"]["seed"] = ["20", 0]
    graph["20"] = {"class_type": "PrimitiveInt", "inputs": {"value": 3}}
    assert "seed" not in read(graph)


def test_cycles_and_links_to_nowhere_end_the_walk():
    graph = {
        "a": {"class_type": "X", "inputs": {"in": ["b", 0], "other": ["gone", 0], "points": [[0, 1], [2, 3]]}},
        "b": {"class_type": "X", "inputs": {"in": ["a", 0], "short": ["a"]}},
    }
    assert list(upstream(graph, ["a"])) == ["a", "b"]


@pytest.mark.parametrize("lacking", ["latent", "decoder"])
def test_a_graph_that_cannot_take_an_image(lacking: str):
    """A graph without a latent or a decoder cannot begin with an image."""
    bare = {
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "2": {"class_type": "KSampler", "inputs": {"latent_image": ["1", 0], "seed": 1}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
    }
    if lacking == "latent":
        bare["1"]["inputs"] = {}
        bare["2"]["inputs"]["vae"] = bare["2"]["inputs"]["samples"] = ["1", 0]
    with pytest.raises(RequestNotSupported):
        begin_with_image(bare, "a.png")
