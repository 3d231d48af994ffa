"""list_available_models, and which model generates when none is named."""

import json
from typing import Any

import pytest
from starlette.responses import Response

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
async def test_the_list_of_models(caller: Caller):
    """The list reports models readiness defaults and files."""
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


async def test_a_missing_flux_schnell_stands_first(caller: Caller, comfyui: ComfyUIServer):
    """FLUX.1-schnell stands first with its download when it is missing."""
    comfyui.models["diffusion_models"] = []
    answer = await caller.call("list_available_models")
    first = answer.facts["models"][0]
    assert (first["name"], first["ready"], first["missing"]) == ("flux1-schnell", False, [FLUX_SCHNELL.download])
    assert answer.story == (
        f"Ready to generate: {SDXL}, {SD15}. flux1-schnell is not ready; missing: {FLUX_SCHNELL.download}."
    )


async def test_an_incomplete_flux_schnell_stands_first(caller: Caller, comfyui: ComfyUIServer):
    """FLUX.1-schnell stands first with its missing parts."""
    comfyui.models["text_encoders"] = ["clip_l.safetensors"]
    first = (await caller.call("list_available_models")).facts["models"][0]
    assert (first["name"], first["ready"]) == ("flux1-schnell.safetensors", False)
    assert first["missing"] == [
        "t5xxl_fp8_e4m3fn.safetensors from comfyanonymous/flux_text_encoders into models/text_encoders"
    ]


async def test_an_empty_comfyui_has_no_model(caller: Caller, comfyui: ComfyUIServer):
    """An empty ComfyUI'says that nothing can generate."""
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


async def test_an_added_file_is_listed_at_once(caller: Caller, comfyui: ComfyUIServer):
    """A file that is added while ComfyUI runs is listed and generated with at once."""
    comfyui.models["vae"] = []
    assert (await caller.call("list_available_models")).facts["models"][0]["ready"] is False
    assert "Missing: ae.safetensors" in (await caller.generate(model="flux1-schnell")).error
    comfyui.models["vae"] = ["ae.safetensors"]
    assert (await caller.generate(model="flux1-schnell")).facts["model"] == "flux1-schnell.safetensors"
    assert (await caller.call("list_available_models")).facts["models"][0]["ready"] is True


@BOTH_ERAS
async def test_another_ready_model_generates(caller: Caller, comfyui: ComfyUIServer):
    """Without FLUX.1-schnell another ready model generates and says so."""
    comfyui.models["diffusion_models"] = []
    answer = await caller.generate(steps=2)
    assert answer.facts["model"] == SDXL
    assert f"flux1-schnell is not ready at ComfyUI, so {SDXL} generated this." in answer.story


async def test_flux_schnell_once_it_is_installed(caller: Caller, comfyui: ComfyUIServer):
    """FLUX.1-schnell generates as soon as it is installed."""
    comfyui.models["diffusion_models"] = []
    assert (await caller.generate(steps=2)).facts["model"] == SDXL
    comfyui.models["diffusion_models"] = ["flux1-schnell.safetensors"]
    answer = await caller.generate()
    assert answer.facts["model"] == "flux1-schnell.safetensors"
    assert "not ready" not in answer.story


async def test_the_default_model_is_a_setting(connect):
    """The default model is a setting and a call wins over it."""
    caller = await connect(IMAGE_GEN_MODEL="sd15")
    answer = await caller.generate(steps=2)
    assert answer.facts["model"] == SD15
    assert "not ready" not in answer.story
    assert (await caller.generate(model="sdxl", steps=2)).facts["model"] == SDXL


@pytest.mark.parametrize("name", ["FLUX1-schnell", "deep/Flux1-Schnell-FP8", "deep\\flux1-schnell-fp8.safetensors"])
async def test_a_model_under_any_spelling(caller: Caller, comfyui: ComfyUIServer, name):
    """A model is generated with under any spelling and sent as ComfyUI'spells it.

    On Windows ComfyUI lists and takes folders with a backslash.
    """
    comfyui.models["checkpoints"] = ["deep\\flux1-schnell-fp8.safetensors"]
    comfyui.models["diffusion_models"] = []
    assert (await caller.generate(model=name)).facts["model"] == "deep\\flux1-schnell-fp8.safetensors"
    (loader,) = [n for n in comfyui.prompts[0]["prompt"].values() if n["class_type"] == "CheckpointLoaderSimple"]
    assert loader["inputs"]["ckpt_name"] == "deep\\flux1-schnell-fp8.safetensors"


async def test_the_newer_shape_of_a_file_list(caller: Caller, comfyui: ComfyUIServer):
    """The newer shape of a file list is generated from."""
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


# -- lists that cannot be read ------------------------------------------------------------------------------------


def failing(comfyui: ComfyUIServer, *classes: str, status: int = 500, body: str = "trouble") -> None:
    """Let ComfyUI fail to describe these node classes, all if none is named."""

    def mutate(method: str, path: str, response: Any) -> Any:
        name = path.removeprefix("/object_info/")
        is_meant = name != path and (not classes or name in classes)
        return Response(body.replace("NAME", name), status) if is_meant else response

    comfyui.mutate = mutate


BROKEN = {"http_500": (500, "trouble"), "no_json": (200, "<html>"), "odd": (200, '{"NAME": 5}'),
          "no_list": (200, '{"NAME": {"input": {"required": []}}}')}  # fmt: skip


@pytest.mark.parametrize(("status", "body"), BROKEN.values(), ids=BROKEN)
async def test_a_list_that_cannot_be_read(caller: Caller, comfyui: ComfyUIServer, status: int, body: str):
    """The others are listed, a sentence tells of it, and calls that do not need it go on."""
    failing(comfyui, "UpscaleModelLoader", "CheckpointLoaderSimple", status=status, body=body)
    answer = await caller.call("list_available_models")
    assert [m["name"] for m in answer.facts["models"]] == ["flux1-schnell.safetensors"]
    for role in ("checkpoint", "upscaler"):
        assert f"ComfyUI's files of role {role} are not known: " in answer.story
    drawn = await caller.generate()
    assert drawn.facts["model"] == "flux1-schnell.safetensors"
    assert "not known" not in drawn.story


async def test_a_model_of_a_list_that_cannot_be_read(caller: Caller, comfyui: ComfyUIServer):
    failing(comfyui, "CheckpointLoaderSimple")
    answer = await caller.generate(model="sdxl")
    assert answer.code == "engine_answer_unusable"
    assert answer.error.startswith("ComfyUI's files of role checkpoint are not known: ")
    assert "answered HTTP 500. ComfyUI's log says more." in answer.error


async def test_a_part_of_a_list_that_cannot_be_read(caller: Caller, comfyui: ComfyUIServer):
    failing(comfyui, "VAELoader")
    answer = await caller.generate(model="flux1-schnell")
    assert answer.code == "engine_answer_unusable"
    assert answer.error.startswith("ComfyUI's files of role vae are not known: ")
    second = await caller.generate()
    assert second.facts["model"] == SDXL
    assert "ComfyUI's files of role vae are not known: " in second.story


async def test_a_node_that_cannot_be_described(caller: Caller, comfyui: ComfyUIServer):
    """Whether the graph fits it is left to ComfyUI."""
    failing(comfyui, "CLIPTextEncode", "KSampler")
    assert (await caller.generate()).facts["status"] == "done"


async def test_nothing_can_be_described(caller: Caller, comfyui: ComfyUIServer):
    failing(comfyui)
    for answer in (await caller.generate(), await caller.call("list_available_models")):
        assert answer.code == "engine_answer_unusable"
        assert f"{comfyui.url}/object_info/" in answer.error


async def test_a_refused_file_is_looked_for_again(caller: Caller, comfyui: ComfyUIServer):
    """ComfyUI refuses a file that its list holds: custom nodes stand between, and it is not called missing.

    Of more than 20 files it tells none with the refusal.
    """
    comfyui.models["diffusion_models"] = ["flux1-schnell.safetensors", *(f"{n}.safetensors" for n in range(30))]
    fault = {"type": "value_not_in_list", "message": "Value not in list", "details": "...",
             "extra_info": {"input_name": "unet_name", "received_value": "flux1-schnell.safetensors"}}  # fmt: skip
    body = {"error": {"message": "x"}, "node_errors": {"1": {"class_type": "UNETLoader", "errors": [fault]}}}
    comfyui.mutate = lambda method, path, response: (
        Response(json.dumps(body), 400) if (method, path) == ("POST", "/prompt") else response
    )
    answer = await caller.generate()
    assert answer.code == "workflow_rejected"
    assert "though its own list holds it" in answer.error
    assert "has no file" not in answer.error
