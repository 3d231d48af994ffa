"""Many calls at once over one server."""

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from mcp_image_gen_local.engines.comfyui.replies import Queue
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.engines.others import graph, submit

CALLS = 20


async def test_twenty_calls_end_each_with_its_own_image(caller: Caller, comfyui: ComfyUIServer):
    answers = await asyncio.gather(*(caller.generate(f"number {n}", seed=n) for n in range(CALLS)))
    assert [answer.facts["seed"] for answer in answers] == list(range(CALLS))
    assert len({answer.facts["path"] for answer in answers}) == CALLS
    pixels = set()
    for answer in answers:
        assert answer.facts["status"] == "done"
        with Image.open(answer.facts["path"]) as image:
            assert f"number {answer.facts['seed']}" in image.text["mcp-image-gen"]
            assert answer.facts["prompt_id"] in image.text["mcp-image-gen"]
            pixels.add(image.tobytes())
    assert len(pixels) == CALLS
    assert len(comfyui.rendered) == CALLS


async def test_tools_are_listed_while_twenty_calls_wait(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    calls = [asyncio.ensure_future(caller.generate(seed=n)) for n in range(CALLS)]
    await comfyui.until(lambda server: server.queue_remaining == CALLS)
    async with asyncio.timeout(2):
        assert len(await caller.client.list_tools()) == 5
    comfyui.release("step:1")
    assert {answer.facts["status"] for answer in await asyncio.gather(*calls)} == {"done"}


async def test_each_of_many_waiting_calls_is_told_its_place(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    calls = [asyncio.ensure_future(caller.generate(seed=n)) for n in range(5)]
    wanted = {f"waiting in the queue, position {place}" for place in range(1, 5)}
    async with asyncio.timeout(20):
        while wanted - {text.split(" (")[0] for _, _, text in caller.progress}:
            await asyncio.sleep(0.01)
    comfyui.release("step:1")
    await asyncio.gather(*calls)


async def test_jobs_share_one_look_at_the_queue(caller: Caller, comfyui: ComfyUIServer):
    """Jobs that ask at the same time share one look at the queue.

    The queue holds the graphs of all jobs: twenty copies of it a second would be much.
    """
    comfyui.fail("stalled", paths=("GET /queue",))
    questions = [asyncio.ensure_future(caller.app.engine._client.queue()) for _ in range(CALLS)]
    await comfyui.until(lambda server: bool(server.requests))
    comfyui.heal("stalled")
    assert await asyncio.gather(*questions) == [Queue()] * CALLS
    assert len(comfyui.requests) == 1


# -- a limit ------------------------------------------------------------------------------------------------------


@pytest.fixture
def era() -> str:
    return "modern"


async def test_calls_beyond_the_limit_are_refused(connect, comfyui: ComfyUIServer):
    """Calls beyond the limit are refused and the others generate."""
    caller = await connect(IMAGE_GEN_MAX_QUEUE=3)
    comfyui.hold("step:1")
    calls = [asyncio.ensure_future(caller.generate(seed=n)) for n in range(3)]
    await comfyui.until(lambda server: server.queue_remaining == 3)
    error = (await caller.generate(seed=9)).error
    assert error == (
        "3 jobs are queued or running; IMAGE_GEN_MAX_QUEUE allows 3. "
        "Wait until one has ended, then call again. Nothing was queued."
    )
    comfyui.release("step:1")
    answers = await asyncio.gather(*calls)
    assert [answer.facts["status"] for answer in answers] == ["done"] * 3
    assert (await caller.generate(seed=10)).facts["status"] == "done"
    assert len(comfyui.prompts) == 4


async def test_jobs_of_other_clients_of_comfyui_count_too(connect, comfyui: ComfyUIServer):
    caller = await connect(IMAGE_GEN_MAX_QUEUE=2)
    comfyui.hold("step:1")
    for seed in range(2):
        await submit(comfyui, graph(seed=seed))
    assert (await caller.generate()).error.startswith("2 jobs are queued or running")
    assert comfyui.prompts[2:] == []
    comfyui.release("step:1")


async def test_without_a_limit_nothing_is_asked(caller: Caller, comfyui: ComfyUIServer):
    """Without a limit nothing is asked before a job is sent."""
    await caller.generate()
    paths = [seen.path for seen in comfyui.requests]
    assert "/queue" not in paths[: paths.index("/prompt")]


async def test_a_batch_counts_as_one_job(connect, tmp_path: Path):
    caller = await connect(IMAGE_GEN_MAX_QUEUE=1)
    assert len((await caller.generate(batch_size=3)).facts["images"]) == 3


async def test_the_limit_holds_beside_foreign_jobs(connect, comfyui: ComfyUIServer):
    """The limit holds for calls at the same time beside jobs of other clients."""
    caller = await connect(IMAGE_GEN_MAX_QUEUE=3)
    comfyui.hold("step:1")
    for seed in range(2):
        await submit(comfyui, graph(seed=seed))
    calls = [asyncio.ensure_future(caller.generate(seed=n)) for n in range(3)]
    while sum(call.done() for call in calls) < 2:
        await asyncio.wait(calls, timeout=0.01)
    await comfyui.until(lambda server: server.queue_remaining == 3)
    comfyui.release("step:1")
    answers = await asyncio.gather(*calls)
    assert sorted(answer.is_error for answer in answers) == [False, True, True]
