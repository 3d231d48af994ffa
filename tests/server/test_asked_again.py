"""A client that gave up too early asks for the same thing again, and gets the image that it did not wait for."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mcp.types
import pytest
from fastmcp import Client, Context, FastMCP

from mcp_image_gen_local.domain.job import CallEnd
from mcp_image_gen_local.jobs import calls
from mcp_image_gen_local.server.cancellation import Cancellations
from tests.answers import Answer
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

TIMED_OUT = "MCP error -32001: Request timed out"


async def withdraw(client: Client[Any], call: asyncio.Future[Any], reason: str | None) -> None:
    """Cancel the client's only call as its program does, with its reason."""
    session = client.session
    (request_id,) = session._dispatcher._pending
    params = mcp.types.CancelledNotificationParams(request_id=request_id, reason=reason)
    await session.send_notification(mcp.types.CancelledNotification(params=params))
    call.cancel()
    await asyncio.wait({call})


async def time_out(
    caller: Caller, comfyui: ComfyUIServer, reason: str | None = TIMED_OUT, *, at: str = "step:1", **arguments: Any
) -> str:
    """Make a call that its client gives up when the job has got to a point; return the job's prompt_id."""
    comfyui.hold(at)
    call = asyncio.ensure_future(caller.generate(**arguments))
    await comfyui.reached(at)
    await withdraw(caller.client, call, reason)
    return str(comfyui.prompts[-1]["prompt_id"])


async def ended(caller: Caller, comfyui: ComfyUIServer, prompt_id: str, *, at: str = "step:1") -> None:
    """Let the job pass the point; return when it has ended."""
    comfyui.release(at)
    async with asyncio.timeout(20):
        while not (job := await caller.app.jobs.get(prompt_id)) or not job.status.is_final:
            await asyncio.sleep(0.01)


def is_of(answer: Answer, prompt_id: str, how: str = "timed out") -> bool:
    """Return True if the answer has the image of that call, and says so; False if it has one of its own."""
    told = re.findall(r"This is the image of the call that (.+?) at \d\d:\d\d; seed (\d+)\.", answer.story)
    assert told in ([], [(how, str(answer.facts["seed"]))])
    assert bool(told) == (answer.facts["prompt_id"] == prompt_id)
    return bool(told)


async def test_the_running_job_is_joined(caller: Caller, comfyui: ComfyUIServer):
    prompt_id = await time_out(caller, comfyui)
    again = asyncio.ensure_future(caller.generate())
    async with asyncio.timeout(20):
        while not any("step 1/4" in text for _, _, text in caller.progress):
            await asyncio.sleep(0.01)
    comfyui.release("step:1")
    answer = await again
    assert is_of(answer, prompt_id)
    assert answer.image().size == (64, 64)
    assert (comfyui.rendered, comfyui.interrupted, len(comfyui.prompts)) == ([prompt_id], [], 1)


async def test_the_finished_image_is_returned_once(caller: Caller, comfyui: ComfyUIServer):
    """Whoever asks after that wants a new one."""
    prompt_id = await time_out(caller, comfyui, seed=123)
    await ended(caller, comfyui, prompt_id)
    assert is_of(await caller.generate(seed=123), prompt_id)
    assert not is_of(await caller.generate(seed=123), prompt_id)
    assert len(comfyui.rendered) == 2


@pytest.mark.parametrize(
    "other", [{"prompt": "a green apple"}, {"seed": 4}, {"seed": 3, "batch_size": 2}, {"steps": 3}, {"seed": None}]
)
async def test_another_request_gets_its_own_image(caller: Caller, comfyui: ComfyUIServer, other: dict[str, Any]):
    prompt_id = await time_out(caller, comfyui, seed=3)
    comfyui.release("step:1")
    answer = await caller.generate(**{"seed": 3, **other})
    assert answer.facts["prompt_id"] != prompt_id
    assert "of the call that" not in answer.story


async def test_one_of_several_callers_gets_it(caller: Caller, comfyui: ComfyUIServer):
    prompt_id = await time_out(caller, comfyui)
    comfyui.release("step:1")
    answers = await asyncio.gather(*(caller.generate() for _ in range(3)))
    assert sorted(is_of(answer, prompt_id) for answer in answers) == [False, False, True]
    assert len(comfyui.rendered) == 3


async def test_a_call_that_times_out_again_leaves_it_again(caller: Caller, comfyui: ComfyUIServer):
    prompt_id = await time_out(caller, comfyui)
    again = asyncio.ensure_future(caller.generate())
    async with asyncio.timeout(20):
        while not any("step 1/4" in text for _, _, text in caller.progress):
            await asyncio.sleep(0.01)
    await withdraw(caller.client, again, TIMED_OUT)
    comfyui.release("step:1")
    assert is_of(await caller.generate(), prompt_id)
    assert len(comfyui.prompts) == 1


async def test_the_next_server_finds_it(connect: Callable[..., Any], comfyui: ComfyUIServer):
    """A client that restarts its server after a time-out."""
    first = await connect()
    prompt_id = await time_out(first, comfyui)
    await first.client.close()
    comfyui.release("step:1")
    assert is_of(await (await connect()).generate(), prompt_id)
    assert comfyui.rendered == [prompt_id]


async def test_a_client_that_vanished_left_for_good(connect: Callable[..., Any], comfyui: ComfyUIServer):
    first = await connect()
    comfyui.hold("step:1")
    call = asyncio.ensure_future(first.generate())
    await comfyui.reached("step:1")
    await first.client.close()
    await asyncio.wait({call})
    call.exception()
    comfyui.release("step:1")
    answer = await (await connect()).generate()
    assert "was cut off" not in answer.story
    assert len(comfyui.prompts) == 2


async def test_a_handle_is_an_answer(connect: Callable[..., Any], comfyui: ComfyUIServer):
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await caller.generate()).facts["prompt_id"]
    assert (await caller.generate()).facts["prompt_id"] != prompt_id


async def test_an_image_that_a_status_call_returned(caller: Caller, comfyui: ComfyUIServer):
    """The caller has it, so the same request means another one."""
    prompt_id = await time_out(caller, comfyui)
    comfyui.release("step:1")
    assert (await caller.call("get_generation_status", prompt_id=prompt_id)).facts["status"] == "done"
    assert not is_of(await caller.generate(), prompt_id)


async def test_an_old_image_is_not_taken(caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    prompt_id = await time_out(caller, comfyui)
    monkeypatch.setattr(calls, "KEPT_SECONDS", 0.0)
    comfyui.release("step:1")
    assert not is_of(await caller.generate(), prompt_id)


async def test_a_job_that_failed_meanwhile(caller: Caller, comfyui: ComfyUIServer):
    """The same request is tried anew."""
    comfyui.fail("out_of_memory")
    prompt_id = await time_out(caller, comfyui, at="loading")
    await ended(caller, comfyui, prompt_id, at="loading")
    comfyui.heal("out_of_memory")
    assert not is_of(await caller.generate(), prompt_id)


async def test_an_image_that_was_deleted_meanwhile(caller: Caller, comfyui: ComfyUIServer):
    prompt_id = await time_out(caller, comfyui)
    await ended(caller, comfyui, prompt_id)
    Path((await caller.app.jobs.get(prompt_id)).images[0].path).unlink()
    assert not is_of(await caller.generate(), prompt_id)


async def test_without_a_journal(connect: Callable[..., Any], comfyui: ComfyUIServer, tmp_path: Path):
    """The process itself remembers."""
    (tmp_path / "file").touch()
    caller = await connect(IMAGE_GEN_STATE_DIR=tmp_path / "file")
    prompt_id = await time_out(caller, comfyui)
    comfyui.release("step:1")
    assert is_of(await caller.generate(), prompt_id)
    assert not is_of(await caller.generate(), prompt_id)


async def test_the_model_of_the_settings_counts(connect: Callable[..., Any], comfyui: ComfyUIServer):
    """A server with another default model is asked for another image."""
    first = await connect(IMAGE_GEN_MODEL="sdxl")
    prompt_id = await time_out(first, comfyui)
    await first.client.close()
    comfyui.release("step:1")
    assert not is_of(await (await connect()).generate(), prompt_id)
    assert is_of(await (await connect()).generate(model="sdxl"), prompt_id)


@pytest.mark.parametrize("reason", [None, "", "AbortError: user-cancel", "request cancelled", "caller cancelled"])
async def test_a_persons_stop_cancels(caller: Caller, comfyui: ComfyUIServer, reason: str | None):
    prompt_id = await time_out(caller, comfyui, reason)
    await comfyui.until(lambda server: server.interrupted)
    comfyui.release("step:1")
    assert not is_of(await caller.generate(), prompt_id)
    assert len(comfyui.rendered) == 1


@pytest.mark.parametrize(
    "reason",
    [
        "SdkError: Request timed out",
        "MCP error -32001: Request timed out",
        "timed out after 5.0s",
        "TimeoutError: The operation was aborted due to timeout",
        "Deadline exceeded",
        "The request hit the client's time limit of 60 s",
    ],
)
async def test_a_time_out_in_other_words(caller: Caller, comfyui: ComfyUIServer, reason: str):
    prompt_id = await time_out(caller, comfyui, reason)
    comfyui.release("step:1")
    assert is_of(await caller.generate(), prompt_id)
    assert comfyui.interrupted == []


@pytest.mark.parametrize(
    ("limit", "elapsed", "reason", "end"),
    [
        (60.0, 58.5, None, CallEnd.TIMED_OUT),
        (60.0, 61.5, "MCP request cancelled by caller", CallEnd.TIMED_OUT),
        (60.0, 50.0, None, CallEnd.CANCELLED),
        (60.0, 63.0, None, CallEnd.CANCELLED),
        (None, 60.0, None, CallEnd.CANCELLED),
        (None, 1.0, TIMED_OUT, CallEnd.TIMED_OUT),
    ],
)
async def test_a_cancel_at_the_known_limit(era: str, limit: float | None, elapsed: float, reason: str | None, end):
    """It is the client's time-out, whatever its reason says."""
    cancellations, ends = Cancellations(), asyncio.Queue[CallEnd]()
    server, begun = FastMCP[Any]("limits", middleware=[cancellations]), asyncio.Event()

    @server.tool
    async def wait(ctx: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.put_nowait(await cancellations.ending_of(ctx, elapsed=elapsed, call_limit=limit))
            raise

    async with Client(server, mode="auto" if era == "modern" else "legacy") as client:
        call = asyncio.ensure_future(client.call_tool_mcp("wait", {}))
        await begun.wait()
        await withdraw(client, call, reason)
        async with asyncio.timeout(5):
            assert await ends.get() == end
