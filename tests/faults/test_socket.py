"""ComfyUI's WebSocket is cut, or falls silent, at every message of a job."""

import asyncio

import pytest

from mcp_image_gen_local.engines.comfyui import socket
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

MESSAGES = 42  #: addressed ones of a FLUX.1-schnell job of 4 steps; a test holds that there are no more


async def test_no_more_messages_than_are_cut(caller: Caller, comfyui: ComfyUIServer):
    """There are no more messages than these tests cut."""
    comfyui.fail("drop_socket", after=MESSAGES)
    assert (await caller.generate()).facts["status"] == "done"
    assert "drop_socket" in comfyui.faults


@pytest.mark.parametrize("after", range(MESSAGES))
async def test_a_socket_that_is_cut_costs_no_image(caller: Caller, comfyui: ComfyUIServer, after: int):
    comfyui.fail("drop_socket", after=after)
    answer = await caller.generate(seed=after)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", after)
    assert len(comfyui.rendered) == 1


@pytest.mark.parametrize("after", range(0, MESSAGES, 3))
async def test_a_socket_that_falls_silent_costs_no_image(caller: Caller, comfyui: ComfyUIServer, after: int):
    comfyui.fail("deaf_socket", after=after)
    answer = await caller.generate(seed=after)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", after)
    assert len(comfyui.rendered) == 1


async def test_a_lost_socket_is_opened_anew(caller: Caller, comfyui: ComfyUIServer):
    """A lost socket is opened again under a name of its own.

    With the same name ComfyUI would forget the newer socket when the older closes.
    """
    comfyui.hold("step:2")
    comfyui.fail("drop_socket", at="step:1", times=1)
    call = asyncio.ensure_future(caller.generate())
    await comfyui.until(lambda server: len(server.client_ids) == 2 and server.sockets == 1)
    comfyui.release("step:2")
    assert (await call).facts["status"] == "done"
    assert len(set(comfyui.client_ids)) == 2


async def test_steps_return_after_a_lost_socket(caller: Caller, comfyui: ComfyUIServer):
    """The next job after a lost socket has its steps again."""
    comfyui.hold("step:2")
    comfyui.fail("drop_socket", at="step:1", times=1)
    first = asyncio.ensure_future(caller.generate())
    await comfyui.until(lambda server: len(server.client_ids) == 2)
    second = asyncio.ensure_future(caller.generate(seed=2, steps=3))
    await comfyui.until(lambda server: server.queue_remaining == 2)
    comfyui.release("step:2")
    assert [(await call).facts["status"] for call in (first, second)] == ["done", "done"]
    assert any("generating, step 3/3" in text for _, _, text in caller.progress)


async def test_a_restart_means_a_new_socket(caller: Caller, comfyui: ComfyUIServer):
    """A restart of ComfyUI ends in a new socket for the next job."""
    assert (await caller.generate(seed=1)).facts["status"] == "done"
    comfyui.restart()
    caller.progress.clear()
    assert (await caller.generate(seed=2)).facts["status"] == "done"
    assert any("generating, step 4/4" in text for _, _, text in caller.progress)


async def test_a_socket_without_an_answer(caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """A handshake without an answer costs one job a moment and the next ones nothing."""
    monkeypatch.setattr(socket, "PATIENCE_SECONDS", 0.05)
    comfyui.fail("stalled", paths=("/ws",))
    for seed in range(3):
        assert (await caller.generate(seed=seed)).facts["status"] == "done"
    assert caller.app.engine._stream._stalled_until > 0
