"""ComfyUI is killed, restarted, or blocked, at every point of a job."""

import asyncio
from pathlib import Path

import anyio
import pytest

from mcp_image_gen_local.engines.comfyui import client as comfyui_client
from mcp_image_gen_local.engines.comfyui import follow
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.engines.others import post

POINTS = ["pending", "loading", "step:1", "step:4", "saving"]
AWAY = "ComfyUI does not answer, waiting for it"
AGAIN = "ComfyUI lost the job when it was restarted; it was queued again with the same seed."


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI may be away for as long as a test lets it."""
    monkeypatch.setattr(follow, "UNREACHABLE_SECONDS", 20)


def seed_of(comfyui: ComfyUIServer, number: int) -> int:
    """Return the seed in the graph of the prompt that was sent as this one, counted from 0."""
    (seed,) = (n["inputs"]["seed"] for n in comfyui.prompts[number]["prompt"].values() if "seed" in n["inputs"])
    return seed


async def restart(comfyui: ComfyUIServer) -> None:
    """Kill ComfyUI and start it again."""
    await anyio.to_thread.run_sync(comfyui.restart)


async def submitted(caller: Caller, prompt_id: str) -> None:
    """Return when the journal says that ComfyUI has the job."""
    async with asyncio.timeout(20):
        while not (job := await caller.app.jobs.get(prompt_id)) or not job.ticket:
            await asyncio.sleep(0.01)


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


async def stay_away(caller: Caller, comfyui: ComfyUIServer) -> None:
    """Start ComfyUI again once its absence was told for a second: three times as long as it may be away otherwise."""
    async with asyncio.timeout(20):
        while len([text for _, _, text in caller.progress if text.startswith(f"{AWAY} (")]) < 2:
            await asyncio.sleep(0.01)
    comfyui.start()


@pytest.mark.parametrize("seed", [9, None])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.usefixtures("patient")
async def test_killed_and_started_again(caller: Caller, comfyui: ComfyUIServer, point: str, seed: int | None):
    """The call waits, and ComfyUI gets the job once more: with the same id and seed."""
    comfyui.hold(point)
    call = asyncio.ensure_future(caller.generate(seed=seed))
    await at(comfyui, point)
    first = seed_of(comfyui, 0)
    comfyui.stop()
    comfyui.release(point)
    await stay_away(caller, comfyui)
    answer = await call
    (prompt_id,) = {prompt["prompt_id"] for prompt in comfyui.prompts}
    assert (answer.facts["status"], answer.facts["seed"], answer.facts["prompt_id"]) == ("done", first, prompt_id)
    assert answer.story.count(AGAIN) == 1
    assert (len(comfyui.prompts), comfyui.rendered, seed_of(comfyui, 1)) == (2, [prompt_id], first)
    again = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert (again.facts, len(comfyui.prompts)) == (answer.facts, 2)


@pytest.mark.parametrize("point", POINTS)
async def test_started_again_at_once(caller: Caller, comfyui: ComfyUIServer, point: str):
    """Between two polls: the socket, or that the job ran, tells a restart from a queue that was cleared."""
    comfyui.hold(point)
    call = asyncio.ensure_future(caller.generate(seed=9))
    await at(comfyui, point)
    await submitted(caller, comfyui.prompts[0]["prompt_id"])
    await restart(comfyui)
    comfyui.release(point)
    answer = await call
    assert (answer.facts["seed"], AGAIN in answer.story, len(comfyui.rendered)) == (9, True, 1)


@pytest.mark.usefixtures("patient")
async def test_killed_while_it_took_the_job(caller: Caller, comfyui: ComfyUIServer):
    """Killed with the request read and not answered: the job is not in its queue when it is back."""
    comfyui.fail("stalled", paths=("POST /prompt",))
    call = asyncio.ensure_future(caller.generate(seed=9))
    await comfyui.until(lambda server: any((s.method, s.path) == ("POST", "/prompt") for s in server.requests))
    comfyui.stop()
    comfyui.heal("stalled")
    await stay_away(caller, comfyui)
    facts = (await call).facts
    assert (facts["status"], facts["seed"]) == ("done", 9)
    assert (len(comfyui.prompts), comfyui.rendered) == (1, [facts["prompt_id"]])


@pytest.mark.parametrize("keeps_files", [True, False])
@pytest.mark.usefixtures("patient")
async def test_killed_before_the_image_is_fetched(caller: Caller, comfyui: ComfyUIServer, *, keeps_files: bool):
    """The file is fetched once ComfyUI is back; a container without a volume generates it again."""
    comfyui.fail("stalled", paths=("GET /view",))
    call = asyncio.ensure_future(caller.generate(seed=9))
    await comfyui.until(lambda server: any(s.path == "/view" for s in server.requests))
    comfyui.stop()
    comfyui.heal("stalled")
    if not keeps_files:
        comfyui.files.outputs.clear()
    await stay_away(caller, comfyui)
    answer = await call
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 9)
    assert (AGAIN in answer.story, len(comfyui.rendered)) == (not keeps_files, 1 if keeps_files else 2)


@pytest.mark.usefixtures("patient")
async def test_a_call_does_not_wait_for_comfyui_for_ever(connect, comfyui: ComfyUIServer):
    """It answers with a handle, which says what is waited for; the image comes later."""
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=1)
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate(seed=9))
    await comfyui.reached("step:1")
    comfyui.stop()
    comfyui.release("step:1")
    facts = (await call).facts
    assert (facts["status"], facts["progress"]) == ("running", AWAY)
    comfyui.start()
    async with asyncio.timeout(20):
        while (found := await caller.call("get_generation_status", prompt_id=facts["prompt_id"])).facts["status"] in (
            "running",
            "queued",
        ):
            pass
    assert (found.facts["status"], found.facts["seed"], len(comfyui.rendered)) == ("done", 9, 1)


@pytest.mark.usefixtures("patient")
async def test_a_cancelled_job_is_not_queued_again(caller: Caller, comfyui: ComfyUIServer):
    """It was cancelled while ComfyUI was away."""
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    comfyui.stop()
    comfyui.release("step:1")
    async with asyncio.timeout(20):
        while not any(AWAY in text for _, _, text in caller.progress):
            await asyncio.sleep(0.01)
    prompt_id = comfyui.prompts[0]["prompt_id"]
    cancelling = asyncio.ensure_future(caller.call("cancel_generation", prompt_id=prompt_id))
    async with asyncio.timeout(20):
        while not (job := await caller.app.jobs.get(prompt_id)) or not job.cancel_requested:
            await asyncio.sleep(0.01)
    comfyui.start()
    assert "was cancelled" in (await call).error
    assert ((await cancelling).facts["status"], len(comfyui.prompts), comfyui.rendered) == ("cancelled", 1, [])


@pytest.mark.usefixtures("patient")
async def test_a_job_is_queued_again_once_only(connect, comfyui: ComfyUIServer):
    """A job that is lost again is lost, in another process as well."""
    comfyui.hold("step:1")
    caller = await connect()
    call = asyncio.ensure_future(caller.generate(seed=9))
    await comfyui.reached("step:1")
    await restart(comfyui)
    await comfyui.until(lambda server: len(server.prompts) == 2)
    await comfyui.reached("step:1")
    prompt_id = comfyui.prompts[0]["prompt_id"]
    await submitted(caller, prompt_id)
    await caller.client.close()
    await asyncio.wait({call})
    call.exception()
    await restart(comfyui)
    comfyui.release("step:1")
    answer = await (await connect()).call("get_generation_status", prompt_id=prompt_id)
    assert (answer.facts["status"], answer.facts["error"]["code"]) == ("lost", "generation_lost")
    assert "seed=9 generates the same image" in answer.facts["error"]["hint"]
    assert (len(comfyui.prompts), comfyui.rendered) == (2, [])


async def test_a_cleared_queue_is_a_wish(caller: Caller, comfyui: ComfyUIServer):
    """ComfyUI went on running: who cleared its queue wants no job of it, now or later."""
    comfyui.hold("pending")
    call = asyncio.ensure_future(caller.generate(seed=9))
    await comfyui.until(lambda server: server.queue_remaining == 1)
    await post(comfyui, "/queue", {"clear": True})
    assert "its queue was cleared" in (await call).error
    comfyui.release("pending")
    prompt_id = comfyui.prompts[0]["prompt_id"]
    for _ in range(2):
        answer = await caller.call("get_generation_status", prompt_id=prompt_id)
        assert (answer.facts["status"], len(comfyui.prompts)) == ("lost", 1)


@pytest.mark.parametrize("point", POINTS)
async def test_restarted_while_no_server_looked(connect, comfyui: ComfyUIServer, point: str):
    """The next server finds that the job is lost, and queues it again."""
    comfyui.hold(point)
    first = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await first.generate()).facts["prompt_id"]
    await at(comfyui, point)
    await submitted(first, prompt_id)
    await first.client.close()
    await restart(comfyui)
    comfyui.release(point)
    answer = await (await connect()).call("get_generation_status", prompt_id=prompt_id)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", seed_of(comfyui, 0))
    assert AGAIN in answer.story
    assert (len(comfyui.prompts), comfyui.rendered) == (2, [prompt_id])


async def test_two_servers_find_the_lost_job(connect, comfyui: ComfyUIServer):
    """One of them queues it again, and both return the image."""
    comfyui.hold("step:1")
    first = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await first.generate(seed=9)).facts["prompt_id"]
    await comfyui.reached("step:1")
    await first.client.close()
    await restart(comfyui)
    comfyui.release("step:1")
    servers = [await connect() for _ in range(2)]
    answers = await asyncio.gather(*(s.call("get_generation_status", prompt_id=prompt_id) for s in servers))
    assert [answer.facts["status"] for answer in answers] == ["done"] * 2
    assert len({answer.facts["path"] for answer in answers}) == 1
    assert (len(comfyui.prompts), comfyui.rendered) == (2, [prompt_id])


async def test_a_job_that_was_given_up_is_queued_again(caller: Caller, comfyui: ComfyUIServer):
    """ComfyUI was away for too long; once it is back, the status call gets the image."""
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate(seed=9))
    await comfyui.reached("step:1")
    comfyui.stop()
    comfyui.release("step:1")
    assert "not reachable" in (await call).error
    comfyui.start()
    prompt_id = comfyui.prompts[0]["prompt_id"]
    answer = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert (answer.facts["status"], answer.facts["seed"], comfyui.rendered) == ("done", 9, [prompt_id])


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
    prompt_id = (await first.generate(batch_size=3, seed=7)).facts["prompt_id"]
    await comfyui.reached("finishing")
    await submitted(first, prompt_id)
    await first.client.close()
    (first_file,) = comfyui.files.outputs
    second_file = first_file.replace(prompt_id, f"{prompt_id}-1")
    comfyui.files.outputs[second_file] = comfyui.files.outputs[first_file][:-20]
    comfyui.restart()
    comfyui.release("finishing")
    answer = await (await connect()).call("get_generation_status", prompt_id=prompt_id)
    assert [image["seed"] for image in answer.facts["images"]] == [7, 8, 9]
    assert (answer.facts["status"], AGAIN in answer.story, "available" in answer.story) == ("done", True, False)
    assert len({image["path"] for image in answer.facts["images"]}) == 3


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
