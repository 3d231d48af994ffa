"""Every error a user can meet says what happened and what to do."""

import asyncio
import errno
import json
import os
import re
from pathlib import Path

import anyio.to_thread
import pytest

from mcp_image_gen_local.domain import errors
from mcp_image_gen_local.domain.errors import ImageGenError
from mcp_image_gen_local.engine_kit.registry import engine_names
from mcp_image_gen_local.storage.images import ImageStore
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.engines.others import post

BOTH_ERAS = pytest.mark.parametrize("era", ["modern", "handshake"])
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"


@pytest.fixture
def era() -> str:
    """One era, where a test does not ask for both."""
    return "modern"


def kinds(base: type[ImageGenError] = ImageGenError) -> list[type[ImageGenError]]:
    """Return all errors below `base`."""
    return [kind for child in base.__subclasses__() for kind in (child, *kinds(child))]


# -- the errors themselves ----------------------------------------------------------------------------------------


def test_every_error_has_a_code_and_a_sentence():
    """Every error has a code of its own and a sentence."""
    codes = [kind.code for kind in kinds()]
    assert len(set(codes)) == len(codes)
    assert ImageGenError.code not in codes
    assert all(kind.__doc__ for kind in kinds())


def test_the_tree_names_every_error():
    """The tree in the errors module names every error."""
    assert {kind.__name__ for kind in kinds()} <= set((errors.__doc__ or "").split())


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference is not written yet")
def test_every_error_stands_in_the_reference():
    text = REFERENCE.read_text("utf-8")
    assert [kind.code for kind in kinds() if kind.code not in text and kind.__name__ not in text] == []


# -- ComfyUI is not there -----------------------------------------------------------------------------------------


@BOTH_ERAS
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("generate_image", {"prompt": "a red apple"}),
        ("list_available_models", {}),
        ("get_generation_status", {"prompt_id": "6fa459ea-ee8a-4ca4-894e-db77e160355e"}),
    ],
)
async def test_without_comfyui_every_tool_says_so(caller: Caller, comfyui: ComfyUIServer, tool, arguments):
    """Without ComfyUI every tool says how to start it."""
    await anyio.to_thread.run_sync(comfyui.stop)
    answer = await caller.call(tool, **arguments)
    assert answer.error == f"ComfyUI not reachable at {comfyui.url}. Start with: python main.py --listen 127.0.0.1"


async def test_the_next_call_generates_after_a_start(caller: Caller, comfyui: ComfyUIServer):
    """Once ComfyUI is started the next call generates."""
    await anyio.to_thread.run_sync(comfyui.stop)
    assert (await caller.generate()).is_error
    await anyio.to_thread.run_sync(comfyui.start)
    assert (await caller.generate()).facts["status"] == "done"


# -- models and nodes ---------------------------------------------------------------------------------------------


@BOTH_ERAS
async def test_an_unknown_model_is_answered_with_the_nearest(caller: Caller):
    assert (await caller.generate(model="sd_xl_bsae")).error == (
        "ComfyUI has no model 'sd_xl_bsae'. Installed: sd_xl_base_1.0.safetensors, flux1-schnell.safetensors, "
        "v1-5-pruned-emaonly-fp16.safetensors. Call list_available_models for all."
    )


async def test_an_unknown_default_model_is_told_the_same_way(connect):
    caller = await connect(IMAGE_GEN_MODEL="flux1-dev")
    error = (await caller.generate()).error
    assert error.startswith("ComfyUI has no model 'flux1-dev'. Download flux1-dev-fp8.safetensors from")


async def test_a_missing_vae_is_named_with_its_folder(caller: Caller, comfyui: ComfyUIServer):
    comfyui.models["vae"] = []
    assert (await caller.generate(model="flux1-schnell")).error == (
        "The model 'flux1-schnell.safetensors' cannot generate yet. Missing: ae.safetensors from "
        "black-forest-labs/FLUX.1-schnell into models/vae. Put the files into ComfyUI's folders, then call again."
    )


async def test_a_file_that_vanishes_between_calls(caller: Caller, comfyui: ComfyUIServer):
    """A file that vanishes between two calls is reported.

    ComfyUI refuses the graph; the next call looks again and takes another model.
    """
    assert (await caller.generate()).facts["model"] == "flux1-schnell.safetensors"
    comfyui.models["diffusion_models"] = []
    error = (await caller.generate()).error
    assert "ComfyUI has no file 'flux1-schnell.safetensors'." in error
    assert "models/diffusion_models" in error
    assert (await caller.generate()).facts["model"] == "sd_xl_base_1.0.safetensors"


async def test_a_missing_node_is_named(caller: Caller, comfyui: ComfyUIServer):
    comfyui.remove_node("EmptySD3LatentImage")
    error = (await caller.generate()).error
    assert error.startswith("ComfyUI has no node 'EmptySD3LatentImage'. Update ComfyUI, or install the custom nodes")
    assert comfyui.prompts == []


# -- while generating ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["cuda", "rocm", "cpu"])
async def test_out_of_memory_says_what_to_lower(caller: Caller, comfyui: ComfyUIServer, text):
    comfyui.fail("out_of_memory", text=text)
    error = (await caller.generate()).error
    assert error.startswith("ComfyUI ran out of memory in node KSampler: ")
    assert "Lower width, height or batch_size" in error
    assert "ollama stop MODEL" in error
    assert "Traceback" not in error


@BOTH_ERAS
async def test_a_failing_node_is_reported(caller: Caller, comfyui: ComfyUIServer):
    """A node that fails is reported with reason and cure."""
    comfyui.fail("node_error", times=1)
    error = (await caller.generate()).error
    assert re.match(r"ComfyUI failed in node \w+Loader: ERROR: Could not detect model type of: ", error)
    assert error.endswith("This ComfyUI does not know this kind of model file: update it or use another.")
    assert (await caller.generate()).facts["status"] == "done"


async def test_a_job_that_takes_too_long_is_withdrawn(connect, comfyui: ComfyUIServer):
    caller = await connect(IMAGE_GEN_JOB_TIMEOUT_SECONDS=0.8)
    comfyui.hold("step:1")
    error = (await caller.generate()).error
    prompt_id = comfyui.prompts[0]["prompt_id"]
    assert error == (
        f"The job {prompt_id} did not end within 0.8 s and was cancelled. "
        "Raise IMAGE_GEN_JOB_TIMEOUT_SECONDS, or use fewer steps or a smaller image."
    )
    assert set(comfyui.interrupted) == {prompt_id}
    assert comfyui.queue_remaining == 0


# -- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 15}, "width=15 is out of range 16..4096. Sizes are pixels; 1024 suits most models."),
        ({"height": 4097}, "height=4097 is out of range 16..4096. Sizes are pixels; 1024 suits most models."),
        ({"steps": 201}, "steps=201 is out of range 1..200. FLUX.1-schnell needs 4, most other models 20 to 30."),
        ({"seed": 2**64}, f"seed={2**64} is out of range 0..{2**64 - 1}. Leave seed out for a random one."),
        ({"cfg": -0.5}, "cfg=-0.5 is out of range 0..100. "
                        "Distilled models such as FLUX.1-schnell need 1, others 4 to 8."),
        ({"batch_size": 17}, "batch_size=17 is out of range 1..16. Call again with other seeds for more images."),
        ({"prompt": " \n"}, "The prompt is empty. Say what to generate, e.g. 'a lighthouse at dusk'."),
        ({"prompt": "x" * 20_001}, "prompt has 20001 characters; the limit is 20000. "
                                   "Shorten it: models read a few hundred words at most."),
        ({"negative_prompt": "x" * 20_001}, "negative_prompt has 20001 characters; the limit is 20000. "
                                            "Shorten it: models read a few hundred words at most."),
    ],
)  # fmt: skip
async def test_a_wrong_argument_generates_nothing(caller: Caller, comfyui: ComfyUIServer, arguments, message):
    """A wrong argument is reported and nothing is generated."""
    assert (await caller.generate(**arguments)).error == message
    assert comfyui.prompts == []


@pytest.mark.parametrize(("name", "wrong", "near"), [("sampler", "eular", "euler"), ("scheduler", "simpel", "simple")])
async def test_an_unknown_sampler_names_the_nearest(caller: Caller, comfyui: ComfyUIServer, name, wrong, near):
    """An unknown sampler or scheduler is answered with the nearest."""
    error = (await caller.generate(**{name: wrong})).error
    assert error.startswith(f"{name}={wrong!r} is unknown to ComfyUI. Use one of: {near}")
    assert comfyui.prompts == []


@BOTH_ERAS
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"prompt": "x", "steps": "many"}, "steps='many' is not a number"),
        ({"prompt": "x", "width": {"a": 1}}, "width={'a': 1} is not a single value"),
        ({"prompt": None}, "prompt is missing"),
        ({}, "prompt is missing"),
        ({"steps": [], "what": 1}, "prompt is missing"),
    ],
)
async def test_arguments_of_the_wrong_kind_are_told_by_name(caller: Caller, arguments, problem):
    error = (await caller.call("generate_image", **arguments)).error
    assert error.startswith("generate_image: ")
    assert problem in error
    assert error.endswith("Correct the arguments and call again.")
    assert "pydantic" not in error


# -- the output folder --------------------------------------------------------------------------------------------


async def test_a_file_in_place_of_the_output_folder(caller: Caller, comfyui: ComfyUIServer, tmp_path: Path):
    """A file in the place of the output folder is reported before anything is generated."""
    folder = tmp_path / "images"
    folder.write_text("in the way")
    error = (await caller.generate()).error
    assert error == (
        f"Cannot write to the output folder (File exists): {folder}. "
        "Make it writable, or set IMAGE_OUTPUT_DIR to another folder, then call again."
    )
    assert comfyui.prompts == []


@BOTH_ERAS
async def test_a_full_disk_leaves_the_image_at_comfyui(
    caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A full disk leaves the image at ComfyUI and it is saved once there is space."""

    def full(*_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        error = (await caller.generate(seed=4)).error
    prompt_id = comfyui.prompts[0]["prompt_id"]
    assert error.startswith(f"The disk is full: {tmp_path / 'images'}. The image is not lost: it stays at")
    assert f"{comfyui.url}/view?filename=" in error
    assert "Free space, then" in error
    assert f'get_generation_status(prompt_id="{prompt_id}")' in error
    assert list((tmp_path / "images").iterdir()) == []
    saved = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert (saved.facts["status"], saved.facts["seed"]) == ("done", 4)
    assert [str(path) for path in (tmp_path / "images").iterdir()] == [saved.facts["path"]]
    assert len(comfyui.prompts) == 1


# -- settings -----------------------------------------------------------------------------------------------------


async def test_an_unknown_engine_names_the_known(connect):
    """An unknown engine is answered with the known ones."""
    caller = await connect(IMAGE_GEN_ENGINE="comfy")
    assert (await caller.generate()).error == (
        f"IMAGE_GEN_ENGINE='comfy' is not an engine. Use one of: {', '.join(engine_names())}."
    )
    assert "comfyui" in engine_names()


async def test_a_cancel_while_comfyui_dies_ends(caller: Caller, comfyui: ComfyUIServer):
    """A call that is cancelled while ComfyUI dies ends all the same."""
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    prompt_id = comfyui.prompts[0]["prompt_id"]
    await anyio.to_thread.run_sync(comfyui.stop)
    call.cancel()
    await asyncio.wait({call})
    status = (await caller.call("get_generation_status", prompt_id=prompt_id)).facts
    assert status["status"] == "cancelled"


async def test_a_cleared_history_costs_no_image(caller: Caller, comfyui: ComfyUIServer):
    """A global clear of the history does not cost a saved image."""
    prompt_id = (await caller.generate(seed=8)).facts["prompt_id"]
    await post(comfyui, "/history", {"clear": True})
    assert (await caller.call("get_generation_status", prompt_id=prompt_id)).facts["seed"] == 8


# -- for programs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"model": "nobody"}, "model_not_found"),
        ({"width": 1}, "invalid_request"),
        ({"width": "abc"}, "invalid_request"),
        ({"prompt": ""}, "invalid_request"),
        ({"init_image": "/etc/passwd"}, "invalid_request"),
    ],
)
async def test_an_error_begins_with_its_code(caller: Caller, arguments: dict[str, object], code: str):
    assert (await caller.generate(**arguments)).code == code


async def test_a_failed_job_tells_its_id(caller: Caller, comfyui: ComfyUIServer):
    comfyui.fail("out_of_memory")
    answer = await caller.generate()
    facts = json.loads(answer.text.splitlines()[0])
    assert (facts["status"], facts["prompt_id"]) == ("failed", comfyui.prompts[0]["prompt_id"])
    assert facts["error"]["code"] == "out_of_memory"
    assert answer.error == f"{facts['error']['message']} {facts['error']['hint']}".strip()


async def test_a_fault_of_the_server_has_a_code_too(caller: Caller, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(ImageStore, "describe", broken)
    answer = await caller.call("get_output_directory")
    assert answer.code == "unexpected_error"
    assert answer.error == "An unexpected error: ZeroDivisionError('a fault'). Report it with the log."
