"""ComfyUI is killed, restarted, or blocked, at every point of a job."""

import asyncio
from pathlib import Path

import pytest

from mcp_image_gen_local.engines.comfyui import client as comfyui_client
from mcp_image_gen_local.engines.comfyui import follow
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

POINTS = ["pending", "loading", "step:1", "step:4", "saving"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI may be away for as long as a test lets it."""
    monkeypatch.setattr(follow, "UNREACHABLE_SECONDS", 20)


async def at(comfyui: ComfyUIServer, point: str) -> None:
    """Return when the job has got to the point."""
    if point == "pending":
        await comfyui.until(lambda server: server.queue_remaining == 1)
    else:
        await comfyui.reached(point)


@pytest.mark.parametrize("point", POINTS)
async def test_killed_and_gone(caller: Caller, comfyui: ComfyUIServer, point: str):
    comfyui.hold(point)
    call = asyncio.ensure_future(caller.generate())
    await at(comfyui, point)
    comfyui.stop()
    error = (await call).error
    assert error.startswith(f"ComfyUI not reachable at {comfyui.url}. Start with: python main.py --listen 127.0.0.1")
    assert comfyui.prompts[0]["prompt_id"] in error
    assert any("ComfyUI does not answer, waiting for it" in text for _, _, text in caller.progress)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.usefixtures("patient")
async def test_killed_and_started_again(caller: Caller, comfyui: ComfyUIServer, point: str):
    comfyui.hold(point)
    call = asyncio.ensure_future(caller.generate(seed=9))
    await at(comfyui, point)
    comfyui.restart()
    comfyui.release(point)
    assert "ComfyUI no longer knows the job" in (await call).error
    prompt_id = comfyui.prompts[0]["prompt_id"]
    answer = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert (answer.facts["status"], answer.facts["error"]["code"]) == ("lost", "generation_lost")
    assert (await caller.generate()).facts["status"] == "done"


@pytest.mark.parametrize("point", POINTS)
async def test_restarted_while_no_server_looked(connect, comfyui: ComfyUIServer, point: str):
    """Killed and started again while no server looked."""
    comfyui.hold(point)
    first = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await first.generate(seed=9)).facts["prompt_id"]
    await at(comfyui, point)
    await first.client.close()
    comfyui.restart()
    comfyui.release(point)
    answer = await (await connect()).call("get_generation_status", prompt_id=prompt_id)
    assert answer.facts["status"] == "lost"
    assert "seed=9 generates the same image" in answer.facts["error"]["hint"]


@pytest.mark.usefixtures("patient")
async def test_killed_before_it_named_the_file(caller: Caller, comfyui: ComfyUIServer):
    """Killed after the file was written and before it reported of it."""
    comfyui.hold("finishing")
    call = asyncio.ensure_future(caller.generate(seed=4))
    await comfyui.reached("finishing")
    comfyui.restart()
    comfyui.release("finishing")
    answer = await call
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 4)
    assert answer.image().size == (64, 64)


async def test_killed_while_no_server_looked(connect, comfyui: ComfyUIServer):
    """Killed after the file was written while no server looked."""
    comfyui.hold("finishing")
    first = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await first.generate(seed=4)).facts["prompt_id"]
    await comfyui.reached("finishing")
    await first.client.close()
    comfyui.restart()
    comfyui.release("finishing")
    facts = (await (await connect()).call("get_generation_status", prompt_id=prompt_id)).facts
    assert (facts["status"], facts["seed"]) == ("done", 4)


async def test_killed_while_it_wrote_the_second_of_three(connect, comfyui: ComfyUIServer):
    comfyui.hold("finishing")
    first = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await first.generate(batch_size=3)).facts["prompt_id"]
    await comfyui.reached("finishing")
    await first.client.close()
    (first_file,) = comfyui.files.outputs
    second_file = first_file.replace(prompt_id, f"{prompt_id}-1")
    comfyui.files.outputs[second_file] = comfyui.files.outputs[first_file][:-20]
    comfyui.restart()
    comfyui.release("finishing")
    answer = await (await connect()).call("get_generation_status", prompt_id=prompt_id)
    assert answer.facts["status"] == "done"
    assert len(answer.images) == 1
    assert "Only 1 of 3 images are available." in answer.story


async def test_it_stalls_for_a_while(caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """It takes connections and answers nothing for a while.

    Reading a large model can block it for longer than it may be unreachable.
    """
    monkeypatch.setattr(comfyui_client, "ASK_SECONDS", 0.05)
    comfyui.hold("loading")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("loading")
    comfyui.fail("stalled")
    async with asyncio.timeout(10):
        while not any("does not answer" in text for _, _, text in caller.progress):
            await asyncio.sleep(0.01)
    comfyui.heal("stalled")
    comfyui.release("loading")
    assert (await call).facts["status"] == "done"


async def test_it_stalls_for_ever(caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """It takes connections and answers nothing any more."""
    monkeypatch.setattr(follow, "STALLED_SECONDS", 0.5)
    comfyui.hold("loading")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("loading")
    comfyui.fail("stalled")
    with monkeypatch.context() as impatient:
        impatient.setattr(comfyui_client, "ASK_SECONDS", 0.05)
        assert "did not respond within" in (await call).error
    comfyui.heal("stalled")
    comfyui.release("loading")
    prompt_id = comfyui.prompts[0]["prompt_id"]
    answer = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert answer.facts["status"] == "done"
    assert Path(answer.facts["path"]).is_file()


async def test_it_stalls_when_the_history_is_needed(
    caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch
):
    """It stalls just when the history must report what was generated.

    The socket told of the end, and the message with the files' names was not heard.
    """
    monkeypatch.setattr(follow, "pick_images", lambda _: [])
    comfyui.hold("step:4")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:4")
    comfyui.fail("stalled", paths=("GET /history/",))
    comfyui.release("step:4")
    with monkeypatch.context() as impatient:
        impatient.setattr(comfyui_client, "ASK_SECONDS", 0.2)
        async with asyncio.timeout(10):
            while not any("does not answer" in text for _, _, text in caller.progress):
                await asyncio.sleep(0.01)
    comfyui.heal("stalled")
    assert (await call).facts["status"] == "done"


async def test_files_of_a_forgotten_job_are_given_up(connect, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """Files of a forgotten job are not looked for without end."""
    caller = await connect()
    facts = (await caller.generate(seed=4)).facts
    Path(facts["path"]).unlink()
    comfyui.restart()
    comfyui.fail("stalled", paths=("GET /view",))
    with monkeypatch.context() as impatient:
        impatient.setattr(comfyui_client, "ASK_SECONDS", 0.2)
        answer = await caller.call("get_generation_status", prompt_id=facts["prompt_id"])
    assert "did not respond within" in answer.error
    comfyui.heal("stalled")
    again = await caller.call("get_generation_status", prompt_id=facts["prompt_id"])
    assert (again.facts["status"], again.facts["path"]) == ("done", facts["path"])
