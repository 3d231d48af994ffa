"""Recorded node classes, and graphs held against them before anything is sent."""

from typing import Any

import pytest

from mcp_image_gen_local.domain.errors import InvalidRequest, ModelNotFound, NodeMissing, WorkflowRejected
from mcp_image_gen_local.engines.comfyui.object_info import check_graph, options, parse_class
from tests.comfyui_nodes import recording

RECORDED: dict[str, Any] = recording("object_info.json")
CLASSES = {name: parse_class(info) for name, info in RECORDED.items()}


def described(class_type: str, name: str, *files: str) -> Any:
    """Return a loader that lists these files."""
    return {class_type: parse_class({"input": {"required": {name: [list(files)]}}})}


LOADER = described("UNETLoader", "unet_name", "flux1-schnell.safetensors")


def choices_of(class_type: str, name: str) -> Any:
    return CLASSES[class_type].options(name)


def graph(class_type: str = "KSampler", **inputs: Any) -> Any:
    """Return a graph of one node with all that it requires, but for the inputs given."""
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    values = {"seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    return {"7": {"class_type": class_type, "inputs": {**links, **values, **inputs}}}


def test_the_older_shape_of_a_combo_tells_its_choices():
    assert choices_of("UNETLoader", "unet_name") == ("flux1-schnell.safetensors",)


def test_the_newer_shape_of_a_combo_tells_its_choices():
    assert RECORDED["UpscaleModelLoader"]["input"]["required"]["model_name"][0] == "COMBO"
    assert choices_of("UpscaleModelLoader", "model_name") == ("4x-UltraSharp.safetensors", "RealESRGAN_x4plus.pth")


def test_a_remote_combo_has_no_known_choices():
    """A combo that asks a route of its own has no known choices."""
    assert "remote" in RECORDED["LoadImageOutput"]["input"]["required"]["image"][1]
    assert choices_of("LoadImageOutput", "image") is None


@pytest.mark.parametrize("spec", [None, [], "COMBO", ["INT", {"min": 0}], ["COMBO"], ["COMBO", None], ["MODEL"]])
def test_what_is_no_combo_has_no_choices(spec):
    assert options(spec) is None


def test_an_empty_combo_has_choices_but_none_fits():
    assert (options([[]]), options(["COMBO", {"options": []}])) == ((), ())


def test_optional_inputs_are_known_as_well():
    assert not CLASSES["DualCLIPLoader"].inputs["device"].is_required
    assert parse_class({}) == parse_class({"input": {"required": None, "optional": None}})


def test_a_graph_that_comfyui_would_take_passes():
    check_graph(graph(), CLASSES)
    check_graph(recording("graphs/sdxl.json"), CLASSES)


def test_a_missing_node_is_named_with_its_cure():
    with pytest.raises(NodeMissing) as caught:
        check_graph(graph("NoSuchSampler"), {"NoSuchSampler": None})
    assert str(caught.value) == (
        "ComfyUI has no node 'NoSuchSampler'. Update ComfyUI, or install the custom nodes that bring it "
        "(ComfyUI Manager shows missing ones)."
    )


def test_a_missing_node_names_its_package():
    """A missing node of a known package names the package."""
    with pytest.raises(NodeMissing, match="Install the custom nodes ComfyUI-GGUF"):
        check_graph(graph("UnetLoaderGGUF"), {})


def test_a_newly_required_input_is_named():
    """An input that a newer ComfyUI requires is named."""
    wanting = graph()
    del wanting["7"]["inputs"]["denoise"]
    with pytest.raises(WorkflowRejected, match=r"KSampler needs the input 'denoise'.*update mcp-image-gen"):
        check_graph(wanting, CLASSES)


def test_an_unknown_input_is_comfyuis_to_judge():
    """An input that the class does not know is ComfyUI's to judge."""
    check_graph(graph(unheard_of="x"), CLASSES)


@pytest.mark.parametrize(("name", "value"), [("sampler_name", "eular"), ("scheduler", "simpel")])
def test_an_unknown_sampler_names_the_nearest(name, value):
    """An unknown sampler or scheduler is answered with the nearest."""
    with pytest.raises(InvalidRequest) as caught:
        check_graph(graph(**{name: value}), CLASSES)
    word, near = ("sampler", "euler") if name == "sampler_name" else ("scheduler", "simple")
    assert caught.value.message == f"{word}={value!r} is unknown to ComfyUI."
    assert caught.value.hint.startswith(f"Use one of: {near}")


def test_a_value_like_no_choice():
    """A value like no choice is answered with the first choices."""
    with pytest.raises(InvalidRequest, match="Use one of: euler, euler_cfg_pp"):
        check_graph(graph(sampler_name="@@@"), CLASSES)


def test_a_long_value_has_a_short_answer():
    """A value of any length is answered in a few words."""
    with pytest.raises(InvalidRequest) as caught:
        check_graph(graph(sampler_name="x" * 100_000), CLASSES)
    assert len(str(caught.value)) < 500


def test_a_missing_file_names_the_nearest():
    """A missing file is answered with the nearest and its folder."""
    with pytest.raises(ModelNotFound) as caught:
        check_graph({"1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1.sft"}}}, LOADER)
    assert str(caught.value) == (
        "ComfyUI has no file 'flux1.sft'. Nearest: flux1-schnell.safetensors. Or put it into models/diffusion_models."
    )


def test_a_missing_file_of_an_empty_folder():
    """A missing file of an empty folder names the folder."""
    empty = described("VAELoader", "vae_name")
    with pytest.raises(ModelNotFound, match=r"has no file 'ae.safetensors'. Put it into models/vae"):
        check_graph({"3": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}}}, empty)


@pytest.mark.parametrize(
    ("name", "value", "bounds"),
    [("steps", 0, "1..10000"), ("cfg", 100.5, "0.0..100.0"), ("denoise", -0.1, "0.0..1.0"),
     ("seed", 2**64, "0..18446744073709551615")],
)  # fmt: skip
def test_a_number_out_of_range_is_told_with_the_range(name, value, bounds):
    with pytest.raises(InvalidRequest, match=f"{name}={value} is out of range {bounds} for ComfyUI's node KSampler"):
        check_graph(graph(**{name: value}), CLASSES)


@pytest.mark.parametrize(("name", "value"), [("seed", 0), ("seed", 2**64 - 1), ("steps", 10_000), ("denoise", 0)])
def test_the_ends_of_a_range_belong_to_it(name, value):
    check_graph(graph(**{name: value}), CLASSES)
