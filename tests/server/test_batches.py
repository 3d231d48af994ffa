"""Batches that end before their time, or of which ComfyUI has a part already."""

import asyncio
from pathlib import Path

import pytest

from mcp_image_gen_local.imaging import decode_image
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.engines.others import post


def saved(answer) -> list[Path]:
    return [Path(image["path"]) for image in answer.facts["images"]]


@pytest.mark.parametrize("way", ["events", "polls"])
async def test_images_before_a_failure_are_kept(caller: Caller, comfyui: ComfyUIServer, way: str):
    """The third image's sampler runs out of memory; also when only the history tells of the others."""
    if way == "polls":
        comfyui.fail("deaf_socket")
    comfyui.fail("out_of_memory", after=2)
    answer = await caller.generate(batch_size=3, seed=5)
    assert answer.facts["status"] == "done"
    assert [decode_image(path.read_bytes()).size for path in saved(answer)] == [(64, 64)] * 2
    assert "ComfyUI ran out of memory in node KSampler" in answer.story
    assert "Only 2 of 3 images are available." in answer.story
    assert "Seeds 5, 6 generate each again alone." in answer.story


async def test_images_before_an_interrupt_are_kept(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("finishing")
    call = asyncio.ensure_future(caller.generate(batch_size=3, seed=5))
    await comfyui.reached("finishing")
    await post(comfyui, "/interrupt", {})
    comfyui.release("finishing")
    answer = await call
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 5)
    assert "The image was interrupted at ComfyUI" in answer.story
    assert "Only 1 of 3 images are available." in answer.story


async def test_progress_counts_what_is_not_cached(caller: Caller, comfyui: ComfyUIServer):
    """Two of three images were generated before: ComfyUI keeps what their samplers gave."""
    await caller.generate(batch_size=2, seed=5)
    caller.progress.clear()
    await caller.generate(batch_size=3, seed=5)
    assert [text.split(" (")[0] for _, _, text in caller.progress if "step" in text][-1] == "generating, step 4/4"
