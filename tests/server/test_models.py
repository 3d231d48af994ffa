"""list_available_models, and which model generates when none is named."""

import pytest

from mcp_image_gen_local.engines.comfyui.families import FLUX_SCHNELL
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

BOTH_ERAS = pytest.mark.parametrize("era", ["modern", "handshake"])
SD15, SDXL = "v1-5-pruned-emaonly-fp16.safetensors", "sd_xl_base_1.0.safetensors"


@pytest.fixture
def era() -> str:
    """One era, where a test does not ask for both."""
    return "modern"


@BOTH_ERAS
async def test_the_list_tells_models_readiness_defaults_and_files(caller: Caller):
    answer = await caller.call("list_available_models")
    facts = answer.facts
    assert facts["engine"] == "comfyui"
    assert facts["models"][0] == {
        "name": "flux1-schnell.safetensors",
        "role": "diffusion_model",
        "family": "flux1-schnell",
        "ready": True,
        "steps": 4,
        "cfg": 1.0,
        "width": 1024,
        "height": 1024,
    }
    assert [m["name"] for m in facts["models"]] == ["flux1-schnell.safetensors", SDXL, SD15]
    assert facts["files"] == {
        "checkpoint": [SDXL, SD15],
        "diffusion_model": ["flux1-schnell.safetensors"],
        "text_encoder": ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"],
        "vae": ["ae.safetensors", "pixel_space"],
        "lora": ["flux/tiny_flux_style.safetensors"],
        "upscaler": ["RealESRGAN_x4plus.pth"],  # this combo comes in ComfyUI's newer shape
    }
    assert answer.story == f"Ready to generate: flux1-schnell.safetensors, {SDXL}, {SD15}."


async def test_flux_schnell_stands_first_with_its_download_when_it_is_missing(caller: Caller, comfyui: ComfyUIServer):
    comfyui.models["diffusion_models"] = []
    answer = await caller.call("list_available_models")
    first = answer.facts["models"][0]
    assert (first["name"], first["ready"], first["missing"]) == ("flux1-schnell", False, [FLUX_SCHNELL.download])
    assert answer.story == (
        f"Ready to generate: {SDXL}, {SD15}. flux1-schnell is not ready; missing: {FLUX_SCHNELL.download}."
    )


async def test_flux_schnell_stands_first_with_its_missing_parts(caller: Caller, comfyui: ComfyUIServer):
    comfyui.models["text_encoders"] = ["clip_l.safetensors"]
    first = (await caller.call("list_available_models")).facts["models"][0]
    assert (first["name"], first["ready"]) == ("flux1-schnell.safetensors", False)
    assert first["missing"] == [
        "t5xxl_fp8_e4m3fn.safetensors from comfyanonymous/flux_text_encoders into models/text_encoders"
    ]


async def test_an_empty_comfyui_says_that_nothing_can_generate(caller: Caller, comfyui: ComfyUIServer):
    comfyui.models.clear()
    assert (await caller.call("list_available_models")).story == (
        f"No model is ready to generate. flux1-schnell is not ready; missing: {FLUX_SCHNELL.download}."
    )
    error = (await caller.generate()).error
    assert error == f"ComfyUI has no model 'flux1-schnell'. Download {FLUX_SCHNELL.download}."


async def test_a_comfyui_without_a_loader_lists_the_rest(caller: Caller, comfyui: ComfyUIServer):
    comfyui.remove_node("UpscaleModelLoader")
    comfyui.remove_node("UNETLoader")
    facts = (await caller.call("list_available_models")).facts
    assert [m["ready"] for m in facts["models"]] == [False, True, True]
    assert facts["files"].keys().isdisjoint({"upscaler", "diffusion_model"})


async def test_a_file_that_is_added_while_comfyui_runs_is_listed_and_generated_with_at_once(
    caller: Caller, comfyui: ComfyUIServer
):
    comfyui.models["vae"] = []
    assert (await caller.call("list_available_models")).facts["models"][0]["ready"] is False
    assert "Missing: ae.safetensors" in (await caller.generate(model="flux1-schnell")).error
    comfyui.models["vae"] = ["ae.safetensors"]
    assert (await caller.generate(model="flux1-schnell")).facts["model"] == "flux1-schnell.safetensors"
    assert (await caller.call("list_available_models")).facts["models"][0]["ready"] is True


@BOTH_ERAS
async def test_without_flux_schnell_another_ready_model_generates_and_says_so(caller: Caller, comfyui: ComfyUIServer):
    comfyui.models["diffusion_models"] = []
    answer = await caller.generate(steps=2)
    assert answer.facts["model"] == SDXL
    assert f"flux1-schnell is not ready at ComfyUI, so {SDXL} generated this." in answer.story


async def test_flux_schnell_generates_as_soon_as_it_is_installed(caller: Caller, comfyui: ComfyUIServer):
    comfyui.models["diffusion_models"] = []
    assert (await caller.generate(steps=2)).facts["model"] == SDXL
    comfyui.models["diffusion_models"] = ["flux1-schnell.safetensors"]
    answer = await caller.generate()
    assert answer.facts["model"] == "flux1-schnell.safetensors"
    assert "not ready" not in answer.story


async def test_the_default_model_is_a_setting_and_a_call_wins_over_it(connect):
    caller = await connect(IMAGE_GEN_MODEL="sd15")
    answer = await caller.generate(steps=2)
    assert answer.facts["model"] == SD15
    assert "not ready" not in answer.story
    assert (await caller.generate(model="sdxl", steps=2)).facts["model"] == SDXL


@pytest.mark.parametrize("name", ["FLUX1-schnell", "deep/Flux1-Schnell-FP8", "deep\\flux1-schnell-fp8.safetensors"])
async def test_a_model_is_generated_with_under_any_spelling_and_sent_as_comfyui_spells_it(
    caller: Caller, comfyui: ComfyUIServer, name
):
    """On Windows ComfyUI lists and takes folders with a backslash."""
    comfyui.models["checkpoints"] = ["deep\\flux1-schnell-fp8.safetensors"]
    comfyui.models["diffusion_models"] = []
    assert (await caller.generate(model=name)).facts["model"] == "deep\\flux1-schnell-fp8.safetensors"
    (loader,) = [n for n in comfyui.prompts[0]["prompt"].values() if n["class_type"] == "CheckpointLoaderSimple"]
    assert loader["inputs"]["ckpt_name"] == "deep\\flux1-schnell-fp8.safetensors"


async def test_the_newer_shape_of_a_file_list_is_generated_from(caller: Caller, comfyui: ComfyUIServer):
    info = comfyui._catalogue.get("CheckpointLoaderSimple")
    info["input"]["required"]["ckpt_name"] = ["COMBO", {"options": []}]  # the catalogue fills it
    comfyui.models["checkpoints"] = [SD15]
    answer = await caller.generate(model="sd15", steps=2)
    assert answer.facts["model"] == SD15


async def test_a_long_list_is_cut_and_says_so(caller: Caller, comfyui: ComfyUIServer):
    comfyui.models["loras"] = [f"lora-{n:03}.safetensors" for n in range(45)]
    answer = await caller.call("list_available_models")
    assert len(answer.facts["files"]["lora"]) == 40
    assert "Not listed: 5 more of role lora; `mcp-image-gen models` lists all." in answer.story
