"""Replies of ComfyUI are lost, cut short, or trickle."""

import asyncio
import hashlib
from pathlib import Path

import pytest
from PIL import Image

from mcp_image_gen_local.engines.comfyui import client as comfyui_client
from mcp_image_gen_local.engines.comfyui import queueing
from tests.comfyui_images import png
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

IMAGE = png(Image.frombytes("RGB", (96, 96), hashlib.shake_128(b"noise").digest(96 * 96 * 3)))


@pytest.fixture
def noisy(comfyui: ComfyUIServer) -> ComfyUIServer:
    """A ComfyUI whose images do not compress."""
    comfyui.image = lambda *_: IMAGE
    comfyui.restart()
    return comfyui


async def test_an_image_cut_at_every_kilobyte_arrives_whole(caller: Caller, noisy: ComfyUIServer):
    prompt_id = ""
    for at in range(0, len(IMAGE), 1000):
        noisy.fail("truncated_view", at=at, times=1)
        facts = (await caller.generate(seed=at)).facts
        assert facts["status"] == "done"
        with Image.open(facts["path"]) as image:
            image.load()
        assert facts["prompt_id"] != prompt_id
        prompt_id = facts["prompt_id"]
        assert "truncated_view" not in noisy.faults


async def test_an_image_that_is_always_cut_is_fetched_later(caller: Caller, noisy: ComfyUIServer):
    noisy.fail("truncated_view", at=5000)
    error = (await caller.generate()).error
    prompt_id = noisy.prompts[0]["prompt_id"]
    assert f'get_generation_status(prompt_id="{prompt_id}") fetches it' in error
    noisy.heal("truncated_view")
    assert (await caller.call("get_generation_status", prompt_id=prompt_id)).facts["status"] == "done"


async def test_an_image_that_trickles_is_fetched_later(
    caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch
):
    """An image that trickles is given up and fetched later.

    Each byte comes in time, so that no time-out of a single read ever strikes.
    """
    monkeypatch.setattr(comfyui_client, "VIEW_SECONDS", 0.3)
    comfyui.fail("slow_view", seconds=0.02)
    error = (await caller.generate()).error
    assert "did not hand out the image" in error
    assert f"{comfyui.url}/view?filename=" in error
    comfyui.heal("slow_view")
    answer = await caller.call("get_generation_status", prompt_id=comfyui.prompts[0]["prompt_id"])
    assert answer.facts["status"] == "done"


@pytest.mark.parametrize("fault", ["lost_reply", "reply_500"])
async def test_a_lost_reply_is_not_sent_again(caller: Caller, comfyui: ComfyUIServer, fault: str):
    """A prompt whose reply is lost is not sent again."""
    comfyui.fail(fault, times=1)
    assert (await caller.generate()).facts["status"] == "done"
    assert len(comfyui.rendered) == len(comfyui.prompts) == 1


async def test_a_lost_prompt_is_sent_again(caller: Caller, comfyui: ComfyUIServer):
    """A prompt that was lost on its way is sent again."""
    comfyui.fail("lost_request", times=1)
    assert (await caller.generate()).facts["status"] == "done"
    assert len(comfyui.rendered) == 1
    assert len([seen for seen in comfyui.requests if (seen.method, seen.path) == ("POST", "/prompt")]) == 2


async def test_a_prompt_that_is_always_lost(caller: Caller, comfyui: ComfyUIServer):
    """A prompt that is lost every time is reported and safe to repeat."""
    comfyui.fail("lost_request")
    assert "ComfyUI did not take the job" in (await caller.generate()).error
    assert (comfyui.rendered, comfyui.queue_remaining) == ([], 0)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.3, 0.65])
async def test_a_prompt_after_a_cut_is_generated_once(caller: Caller, comfyui: ComfyUIServer, seconds: float):
    """A prompt that arrives after the connection was cut is generated once."""
    comfyui.fail("late_prompt", seconds=seconds, times=1)
    answer = await caller.generate(seed=3)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 3)
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert len(comfyui.rendered) == 1


async def test_a_late_copy_is_not_generated(caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """A copy that arrives behind another job is not generated.

    By then ComfyUI's cache no longer knows the first image.
    """
    monkeypatch.setattr(queueing, "LOOKUP_DELAYS", (0.0,))
    comfyui.step_seconds = 0.1
    comfyui.hold("step:1")
    comfyui.fail("late_prompt", seconds=0.3, times=1)
    first = asyncio.ensure_future(caller.generate(seed=1))
    await comfyui.reached("step:1")
    second = asyncio.ensure_future(caller.generate(seed=2))
    await comfyui.until(lambda server: server.queue_remaining == 3)
    comfyui.release("step:1")
    assert [(await call).facts["seed"] for call in (first, second)] == [1, 2]
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert len(comfyui.rendered) == 2


async def test_a_prompt_without_a_reply_is_cancelled(
    caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch
):
    """A prompt without a reply is cancelled in case it arrives."""
    monkeypatch.setattr(comfyui_client, "SUBMIT_SECONDS", 0.2)
    comfyui.fail("stalled", paths=("POST /prompt",))
    assert "ComfyUI did not take the job: no reply within 0.2 s" in (await caller.generate()).error
    assert comfyui.rendered == []


async def test_one_image_of_a_batch_is_gone(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("finishing")
    call = asyncio.ensure_future(caller.generate(batch_size=3))
    await comfyui.reached("finishing")
    comfyui.files.outputs.clear()
    comfyui.release("finishing")
    answer = await call
    assert (answer.facts["status"], len(answer.facts["images"])) == ("done", 2)
    assert "ComfyUI returned HTTP 404" in answer.story
    assert "Only 2 of 3 images are available." in answer.story
    assert all(Path(image["path"]).is_file() for image in answer.facts["images"])
