"""A client that is gone leaves its job running, and its image is not lost; one that cancels takes its job back."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_image_gen_local import app as composition
from mcp_image_gen_local.engines.comfyui import client
from tests.comfyui_server import ComfyUIServer
from tests.conftest import SHORT, Caller


async def begin(caller: Caller, comfyui: ComfyUIServer, point: str) -> str:
    """Generate with a caller that does not wait; return the prompt_id when the job has got to the point."""
    comfyui.hold(point)
    prompt_id = (await caller.generate()).facts["prompt_id"]
    await comfyui.reached(point)
    return str(prompt_id)


async def leave_in_the_middle(caller: Caller, comfyui: ComfyUIServer, **arguments: Any) -> str:
    """Close the client while its call waits; return the job's prompt_id."""
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate(**arguments))
    await comfyui.reached("step:1")
    await caller.client.close()
    await asyncio.wait({call})
    call.exception()
    return str(comfyui.prompts[-1]["prompt_id"])


async def test_the_next_server_saves_unasked(connect, comfyui: ComfyUIServer, tmp_path: Path):
    """The next server saves what ComfyUI finished without being asked for it."""
    prompt_id = await leave_in_the_middle(await connect(), comfyui, seed=11)
    assert (comfyui.interrupted, comfyui.queue_remaining) == ([], 1)
    comfyui.release("step:1")
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert not list((tmp_path / "images").iterdir())
    after = await connect()
    await after.generate(seed=12)
    async with asyncio.timeout(20):
        while len(list((tmp_path / "images").glob("*.png"))) < 2:
            await asyncio.sleep(0.01)
    facts = (await after.call("get_generation_status", prompt_id=prompt_id)).facts
    assert (facts["status"], facts["seed"]) == ("done", 11)
    assert len(comfyui.rendered) == 2


async def test_an_earlier_image_needs_no_comfyui(connect, comfyui: ComfyUIServer):
    """An image that was generated before a restart is returned without asking ComfyUI."""
    first = await connect()
    facts = (await first.generate(seed=13)).facts
    await first.client.close()
    comfyui.stop()
    answer = await (await connect()).call("get_generation_status", prompt_id=facts["prompt_id"])
    same = {name: facts[name] for name in ("status", "path", "seed", "width", "height", "model", "engine", "seconds")}
    assert {name: answer.facts[name] for name in same} == same
    assert answer.image().size == (64, 64)


async def test_an_image_that_was_deleted_is_fetched_again(connect, comfyui: ComfyUIServer):
    caller = await connect()
    facts = (await caller.generate(seed=14)).facts
    Path(facts["path"]).unlink()
    answer = await caller.call("get_generation_status", prompt_id=facts["prompt_id"])
    assert answer.facts["path"] == facts["path"]
    assert Path(facts["path"]).is_file()
    assert len(comfyui.rendered) == 1


async def test_an_image_deleted_everywhere_is_lost(connect, comfyui: ComfyUIServer):
    """An image that was deleted everywhere is lost and its seed is reported."""
    caller = await connect()
    facts = (await caller.generate(seed=15)).facts
    Path(facts["path"]).unlink()
    comfyui.files.outputs.clear()
    comfyui.restart()
    answer = await caller.call("get_generation_status", prompt_id=facts["prompt_id"])
    assert (answer.facts["status"], answer.facts["error"]["code"]) == ("lost", "image_gone")
    assert "seed=15 generates the same image" in answer.story


async def test_another_comfyuis_job_names_its_address(connect, comfyui: ComfyUIServer):
    """A job of another ComfyUI is reported with its address."""
    prompt_id = await leave_in_the_middle(await connect(), comfyui)
    comfyui.release("step:1")
    with ComfyUIServer() as other:
        caller = await connect(COMFYUI_URL=other.url)
        answer = await caller.call("get_generation_status", prompt_id=prompt_id)
        assert answer.facts["status"] == "unknown"
        assert f"was sent to the engine comfyui at {comfyui.url}" in answer.story


async def test_a_running_job_has_a_preview(connect, comfyui: ComfyUIServer):
    """A preview comes with the status of a running job."""
    comfyui.previews = True
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = await begin(caller, comfyui, "step:3")
    async with asyncio.timeout(20):
        while not (answer := await caller.call("get_generation_status", prompt_id=prompt_id)).images:
            await asyncio.sleep(0.01)
    assert (answer.images[0].mime_type, answer.facts["status"]) == ("image/jpeg", "running")
    assert answer.image().size == (64, 64)


# -- cancelling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["pending", "step:1"])
async def test_the_tool_cancels_a_job_and_no_other(connect, comfyui: ComfyUIServer, point: str):
    comfyui.hold(point)
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await caller.generate()).facts["prompt_id"]
    await comfyui.until(lambda server: server.queue_remaining == 1)
    other = (await caller.generate(seed=2)).facts["prompt_id"]
    await comfyui.until(lambda server: server.queue_remaining == 2)
    answer = await caller.call("cancel_generation", prompt_id=prompt_id)
    assert (answer.facts["status"], answer.facts["error"]["code"]) == ("cancelled", "generation_cancelled")
    comfyui.release(point)
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert (comfyui.rendered, set(comfyui.interrupted + comfyui.deleted)) == ([other], {prompt_id})


async def test_a_cancel_during_a_model_load(connect, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """A cancel during a model load is reported as cancelling and verified."""
    monkeypatch.setattr(composition, "TIMINGS", replace(SHORT, cancel=0.1))
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = await begin(caller, comfyui, "loading")
    answer = await caller.call("cancel_generation", prompt_id=prompt_id)
    assert (answer.facts["status"], answer.facts["progress"]) == ("running", "cancelling")
    told = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert (told.facts["status"], told.facts["progress"]) == ("running", "cancelling")
    comfyui.release("loading")
    async with asyncio.timeout(20):
        while (await caller.call("get_generation_status", prompt_id=prompt_id)).facts["status"] != "cancelled":
            await asyncio.sleep(0.01)
    assert (comfyui.queue_remaining, comfyui.rendered) == (0, [])


@pytest.mark.parametrize("by", ["the tool", "the client"])
async def test_a_cancel_before_the_socket_opens(
    connect, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch, by: str
):
    """A job that waits for a silent socket and is cancelled is not generated.

    It is sent after ComfyUI was found not to have it.
    """
    monkeypatch.setattr(composition, "TIMINGS", replace(SHORT, settle=5))
    comfyui.fail("stalled", paths=("/ws",))
    comfyui.hold("step:2")
    caller = await connect()
    call = asyncio.ensure_future(caller.generate())
    async with asyncio.timeout(20):
        while not (jobs := await caller.app.jobs.recent(1)) or not jobs[0].plan:
            await asyncio.sleep(0.001)
    prompt_id = jobs[0].job_id
    if by == "the tool":
        answer = await caller.call("cancel_generation", prompt_id=prompt_id)
        assert answer.facts["status"] == "cancelled"
        assert "was cancelled" in (await call).error
    else:
        call.cancel()
    await comfyui.until(lambda server: server.interrupted or server.deleted)
    comfyui.release("step:2")
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert comfyui.rendered == []


async def test_a_comfyui_without_a_version_is_new_enough(
    connect, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch
):
    """A ComfyUI that does not report its version is taken for new enough. A proxy may not pass the question."""
    monkeypatch.setattr(client, "ASK_SECONDS", 0.5)
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = await begin(caller, comfyui, "step:1")
    comfyui.fail("stalled", paths=("GET /system_stats",))
    answer = await caller.call("cancel_generation", prompt_id=prompt_id)
    assert (answer.facts["status"], comfyui.interrupted) == ("cancelled", [prompt_id])


async def test_an_old_comfyui_is_not_interrupted(connect, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """A running job is not interrupted at a ComfyUI that might interrupt another.

    Before 0.3.57 `/interrupt` does not look at the prompt_id.
    """
    monkeypatch.setattr(composition, "TIMINGS", replace(SHORT, cancel=0.1))
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = await begin(caller, comfyui, "step:1")
    comfyui.system_stats["system"]["comfyui_version"] = "0.3.56"
    async with asyncio.timeout(10):
        while "too old" not in (answer := await caller.call("cancel_generation", prompt_id=prompt_id)).story:
            pass
    assert (answer.facts["status"], answer.facts["progress"]) == ("running", "cancelling")
    assert f"The ComfyUI at {comfyui.url} is too old: it is version 0.3.56" in answer.story
    assert "Update ComfyUI to 0.3.57 or newer." in answer.story
    assert comfyui.interrupted == []
    comfyui.release("step:1")


async def test_cancelling_a_finished_job_returns_its_image(connect):
    caller = await connect()
    prompt_id = (await caller.generate()).facts["prompt_id"]
    answer = await caller.call("cancel_generation", prompt_id=prompt_id)
    assert (answer.facts["status"], len(answer.images)) == ("done", 1)


async def test_cancelling_what_nobody_knows_is_answered(connect):
    answer = await (await connect()).call("cancel_generation", prompt_id="nope")
    assert answer.facts["status"] == "unknown"


async def test_a_job_of_an_earlier_server_is_cancelled(connect, comfyui: ComfyUIServer):
    prompt_id = await leave_in_the_middle(await connect(), comfyui)
    answer = await (await connect()).call("cancel_generation", prompt_id=prompt_id)
    assert answer.facts["status"] == "cancelled"
    assert comfyui.interrupted[0] == prompt_id


async def test_a_foreign_job_is_not_cancelled(connect, comfyui: ComfyUIServer):
    """A job of another client of ComfyUI is left alone."""
    from tests.engines.others import graph, submit

    comfyui.hold("step:1")
    theirs = await submit(comfyui, graph())
    await comfyui.reached("step:1")
    answer = await (await connect()).call("cancel_generation", prompt_id=theirs)
    assert "was queued by another client" in answer.error
    comfyui.release("step:1")
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert (comfyui.interrupted, comfyui.deleted) == ([], [])
