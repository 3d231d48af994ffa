"""JobRunner: generations that outlive the calls that asked for them, on an engine that a test steers."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_image_gen.domain.errors import EngineUnreachable, GenerationLost, JobOfAnother, OutOfMemory, PromptUnknown
from mcp_image_gen.domain.job import Job
from mcp_image_gen.domain.request import GenerationRequest
from mcp_image_gen.jobs import JobRunner
from mcp_image_gen.jobs.runner import MAX_REMEMBERED
from mcp_image_gen.storage.images import ImageStore
from mcp_image_gen.storage.journal import Journal
from tests.steered_engine import SteeredEngine

REQUEST = GenerationRequest(prompt="a red apple", seed=7, steps=3)


@pytest.fixture
async def engine() -> SteeredEngine:
    return SteeredEngine()


@pytest.fixture
async def make(engine: SteeredEngine, tmp_path: Path) -> AsyncIterator[Callable[..., JobRunner]]:
    made: list[JobRunner] = []
    journals: list[Journal] = []

    def runner(timeout_seconds: float = 60) -> JobRunner:
        journals.append(Journal(tmp_path / "state"))
        made.append(JobRunner(engine, ImageStore(tmp_path / "pictures"), journals[-1], timeout_seconds=timeout_seconds))
        return made[-1]

    yield runner
    for each in (*made, *journals):
        await each.aclose()


@pytest.fixture
async def runner(make: Callable[..., JobRunner]) -> JobRunner:
    return make()


async def ended(runner: JobRunner, prompt_id: str) -> Job:
    """Return the job once it has ended."""
    with anyio.fail_after(5):
        return [job async for job in runner.watch(prompt_id, seconds=60)][-1]


async def reached(runner: JobRunner, prompt_id: str, step: int) -> None:
    """Return when the job has drawn the step."""
    with anyio.fail_after(5):
        async for job in runner.watch(prompt_id, seconds=60):
            if job.progress and job.progress.step == step:
                return


async def test_a_job_is_told_step_by_step_to_its_end(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)
    engine.steps()
    with anyio.fail_after(5):
        seen = [job async for job in runner.watch(prompt_id, seconds=60)]
    assert [job.status for job in seen] == ["queued", "queued", "running", "running", "running", "done"]
    assert [job.progress.step for job in seen if job.progress] == [1, 2, 3, 3]
    assert seen[-1].images[0].path.is_file()
    assert (seen[-1].images[0].seed, seen[-1].notes) == (7, ("a note",))
    assert seen[-1].ended is not None
    assert seen[-1].seconds == seen[-1].seconds


async def test_every_watcher_sees_every_event(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)

    async def watch() -> list[int]:
        return [job.progress.step if job.progress else 0 async for job in runner.watch(prompt_id, seconds=60)]

    with anyio.fail_after(5):
        watching = [asyncio.ensure_future(watch()) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        engine.steps()
        assert await asyncio.gather(*watching) == [[0, 0, 1, 2, 3, 3]] * 3


async def test_watching_ends_at_its_deadline_and_the_job_goes_on(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)
    with anyio.fail_after(5):
        seen = [job.status async for job in runner.watch(prompt_id, seconds=0.05)]
    assert not seen[-1].is_final
    engine.steps()
    assert (await ended(runner, prompt_id)).status == "done"


async def test_watching_for_no_time_tells_how_the_job_stands(runner: JobRunner):
    prompt_id = runner.start(REQUEST)
    assert [job.status async for job in runner.watch(prompt_id, seconds=0)] == ["queued"]


async def test_a_heartbeat_comes_when_nothing_happens(runner: JobRunner):
    prompt_id = runner.start(REQUEST)
    with anyio.fail_after(5):
        seen = [job async for job in runner.watch(prompt_id, seconds=0.3, heartbeat=0.02)]
    assert len(seen) > 5
    assert seen[-1].seconds >= 0.3


async def test_an_ended_job_is_told_once(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)
    engine.steps()
    done = await ended(runner, prompt_id)
    assert [job async for job in runner.watch(prompt_id, seconds=60)] == [done]
    assert await runner.find(prompt_id) is done


async def test_a_watcher_that_is_late_hears_of_the_end_all_the_same(runner: JobRunner, engine: SteeredEngine):
    """It may take its time with each piece of news, while the job goes on and ends."""
    prompt_id = runner.start(REQUEST)
    engine.steps()
    seen = []
    with anyio.fail_after(5):
        async for job in runner.watch(prompt_id, seconds=60):
            seen.append(job.status)
            await ended(runner, prompt_id)
            await anyio.wait_all_tasks_blocked()
    assert seen[-1] == "done"


async def test_a_watcher_that_leaves_does_not_disturb_the_others(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)
    with anyio.move_on_after(0.01):
        await ended(runner, prompt_id)
    engine.steps()
    assert (await ended(runner, prompt_id)).status == "done"


# -- cancelling ---------------------------------------------------------------------------------------


async def test_cancelling_withdraws_the_job_from_the_engine(runner: JobRunner, engine: SteeredEngine, tmp_path: Path):
    prompt_id = runner.start(REQUEST)
    engine.steps(1)
    await reached(runner, prompt_id, 1)
    job = await runner.cancel(prompt_id)
    assert (job.status, job.error.code) == ("cancelled", "generation_cancelled")
    assert engine.withdrawn == [prompt_id]
    assert (await ended(runner, prompt_id)).status == "cancelled"
    assert list((tmp_path / "pictures").iterdir()) == []


async def test_cancelling_at_once_leaves_no_coroutine_behind(runner: JobRunner):
    """Before the job's task has run at all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        job = await runner.cancel(runner.start(REQUEST))
        gc.collect()
    assert job.status == "cancelled"
    assert [str(warning.message) for warning in caught] == []


async def test_cancelling_twice_withdraws_once_or_twice_and_ends_cancelled(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)
    engine.steps(1)
    await reached(runner, prompt_id, 1)
    jobs = await asyncio.gather(runner.cancel(prompt_id), runner.cancel(prompt_id))
    assert [job.status for job in jobs] == ["cancelled", "cancelled"]
    assert set(engine.withdrawn) == {prompt_id}


async def test_cancelling_an_ended_job_leaves_it_done(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)
    engine.steps()
    done = await ended(runner, prompt_id)
    assert await runner.cancel(prompt_id) is done
    assert engine.withdrawn == []


async def test_a_job_is_cancelled_also_when_the_engine_cannot_be_told(runner: JobRunner, engine: SteeredEngine):
    engine.refusal = engine.failure = EngineUnreachable("It is off.")
    prompt_id = runner.start(REQUEST)
    engine.steps(1)
    await reached(runner, prompt_id, 1)
    job = await runner.cancel(prompt_id, seconds=0)
    assert (job.status, job.progress.phase) == ("running", "cancelling")
    engine.steps(2)
    job = await ended(runner, prompt_id)
    assert (job.status, job.error.hint) == ("cancelled", "The engine could not be told: It is off.")


async def test_a_cancel_is_verified_until_the_engine_lets_go(runner: JobRunner, engine: SteeredEngine):
    """It may be loading a model, deaf to interrupts."""
    engine.holds_on = 3
    prompt_id = runner.start(REQUEST)
    engine.steps(1)
    await reached(runner, prompt_id, 1)
    job = await runner.cancel(prompt_id)
    assert (job.status, engine.withdrawn) == ("cancelled", [prompt_id] * 4)


async def test_a_job_that_is_being_cancelled_says_so_whatever_the_engine_tells(
    runner: JobRunner, engine: SteeredEngine
):
    engine.holds_on = 10**9
    prompt_id = runner.start(REQUEST)
    engine.steps(1)
    await reached(runner, prompt_id, 1)
    await runner.cancel(prompt_id, seconds=0)
    engine.steps(1)
    with anyio.fail_after(5):
        async for job in runner.watch(prompt_id, seconds=60):  # noqa: B007
            if engine.go.locked():
                break
    assert job.progress.describe() == "cancelling"


async def test_a_picture_that_was_finished_before_the_cancel_took_effect_is_kept(
    runner: JobRunner, engine: SteeredEngine
):
    engine.holds_on = 10**9
    prompt_id = runner.start(REQUEST)
    engine.steps(1)
    await reached(runner, prompt_id, 1)
    await runner.cancel(prompt_id, seconds=0)
    engine.steps(2)
    job = await ended(runner, prompt_id)
    assert job.status == "done"
    assert job.images[0].path.is_file()


async def test_a_job_of_another_client_of_the_engine_is_not_cancelled(runner: JobRunner, engine: SteeredEngine):
    engine.known.add("theirs")
    with pytest.raises(JobOfAnother):
        await runner.cancel("theirs")
    assert engine.withdrawn == []


# -- failing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "status"), [(OutOfMemory("No memory."), "failed"), (GenerationLost("It is gone."), "lost")]
)
async def test_an_engines_error_ends_the_job(runner: JobRunner, engine: SteeredEngine, failure, status: str):
    engine.failure = failure
    prompt_id = runner.start(REQUEST)
    engine.steps()
    job = await ended(runner, prompt_id)
    assert (job.status, job.error) == (status, failure)


@pytest.mark.parametrize(
    "failure", [ZeroDivisionError("oh"), TimeoutError("not ours"), ExceptionGroup("x", [OSError()])]
)
async def test_an_unexpected_exception_fails_the_job_and_is_logged(
    runner: JobRunner, engine: SteeredEngine, failure: Exception, caplog: pytest.LogCaptureFixture
):
    engine.failure = failure
    prompt_id = runner.start(REQUEST)
    engine.steps()
    job = await ended(runner, prompt_id)
    assert (job.status, job.error.code) == ("failed", "unexpected_error")
    assert repr(failure) in job.error.message
    assert prompt_id in caplog.text
    assert "Traceback" in caplog.text


async def test_a_job_beyond_its_time_is_withdrawn(make: Callable[..., JobRunner], engine: SteeredEngine):
    runner = make(timeout_seconds=0.05)
    prompt_id = runner.start(REQUEST)
    job = await ended(runner, prompt_id)
    assert (job.status, job.error.code) == ("failed", "generation_timeout")
    assert "did not end within 0.05 s" in job.error.message
    assert engine.withdrawn == [prompt_id]


async def test_a_job_that_another_process_queued_is_left_alone_when_its_time_is_over_here(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    """That process may allow it more."""
    engine.known.add("theirs")
    runner = make(timeout_seconds=0.05)
    await runner.find("theirs")
    job = await ended(runner, "theirs")
    assert (job.error.code, engine.withdrawn) == ("generation_timeout", [])
    assert "left alone" in job.error.message


async def test_an_error_that_several_jobs_meet_names_each_its_own_id(runner: JobRunner, engine: SteeredEngine):
    engine.failure = EngineUnreachable("It is off.")
    ids = [runner.start(REQUEST) for _ in range(3)]
    engine.steps(9)
    hints = [(await ended(runner, prompt_id)).error.hint for prompt_id in ids]
    assert [[prompt_id in hint for prompt_id in ids] for hint in hints] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


async def test_a_failed_job_does_not_hold_its_request_in_memory(runner: JobRunner, engine: SteeredEngine):
    """An init_image has many megabytes."""
    engine.failure = OutOfMemory("No memory.")
    prompt_id = runner.start(replace(REQUEST, init_image=b"x" * 1000))
    engine.steps()
    assert (await ended(runner, prompt_id)).error is engine.failure
    assert engine.failure.__traceback__ is None


# -- several processes --------------------------------------------------------------------------------


async def test_a_job_that_another_process_is_about_to_send_is_neither_lost_nor_counted(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    engine.sending = anyio.Event()
    one, other = make(), make()
    prompt_id = one.start(REQUEST)
    await reached_journal(other, prompt_id)
    assert (await other.find(prompt_id)).status == "queued"
    assert not any(entry.at_work for entry in other._entries.values())
    engine.sending.set()
    engine.steps()
    assert (await ended(one, prompt_id)).status == "done"
    assert (await other.find(prompt_id)).status == "done"


async def test_a_job_that_is_cancelled_elsewhere_while_it_is_sent_is_taken_back(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    engine.sending = anyio.Event()
    one, other = make(), make()
    prompt_id = one.start(REQUEST)
    await reached_journal(other, prompt_id)
    assert (await other.cancel(prompt_id)).status == "cancelled"
    before = len(engine.withdrawn)
    engine.sending.set()
    assert (await ended(one, prompt_id)).status == "cancelled"
    assert len(engine.withdrawn) == before + 1
    assert engine.followed == []


async def test_a_job_that_another_process_looks_after_is_not_recovered(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    one, other = make(), make()
    theirs = one.start(REQUEST)
    engine.steps(1)
    await reached(one, theirs, 1)
    with pytest.raises(PromptUnknown):
        await other.find("unknown")  # sets off the look for orphans
    await anyio.wait_all_tasks_blocked()
    assert theirs not in other._entries
    await one.aclose()
    async with asyncio.timeout(5):
        while theirs not in other._entries:
            await asyncio.sleep(0.01)
    engine.steps()
    assert (await ended(other, theirs)).status == "done"


async def reached_journal(runner: JobRunner, prompt_id: str) -> None:
    """Return when the job's plan is written down."""
    async with asyncio.timeout(5):
        while not ((job := await runner._journal.get(prompt_id)) and job.plan):
            await asyncio.sleep(0.001)


# -- remembering --------------------------------------------------------------------------------------


async def test_ended_jobs_are_forgotten_oldest_first_and_read_from_the_journal_again(
    runner: JobRunner, engine: SteeredEngine
):
    engine.failure = OutOfMemory("No memory.")
    running = runner.start(REQUEST)
    await reached_follow(engine, running)
    engine.steps(3 * (MAX_REMEMBERED + 10))
    ids = [running]
    for _ in range(MAX_REMEMBERED + 9):
        ids.append(runner.start(REQUEST))
        await ended(runner, ids[-1])
    assert len(runner._entries) <= MAX_REMEMBERED + 2
    assert (await runner.find(ids[-1])).status == "failed"
    assert ids[0] not in runner._entries
    assert (await runner.find(ids[0])).error.code == "out_of_memory"
    assert len(engine.followed) == MAX_REMEMBERED + 10


async def reached_follow(engine: SteeredEngine, prompt_id: str) -> None:
    """Return when the engine is asked how the job goes."""
    with anyio.fail_after(5):
        while prompt_id not in engine.followed:
            await anyio.sleep(0.001)


async def test_a_job_of_another_process_is_taken_over_and_saved(runner: JobRunner, engine: SteeredEngine):
    engine.known.add("theirs")
    engine.steps()
    assert (await runner.find("theirs")).status == "queued"
    job = await ended(runner, "theirs")
    assert (job.status, job.images[0].seed) == ("done", None)
    assert job.images[0].path.name.endswith("_random.png")


async def test_two_who_ask_at_once_take_a_job_over_once(runner: JobRunner, engine: SteeredEngine):
    engine.known.add("theirs")
    await asyncio.gather(*(runner.find("theirs") for _ in range(5)))
    engine.steps()
    assert (await ended(runner, "theirs")).status == "done"
    assert engine.followed == ["theirs"]


@pytest.mark.parametrize("prompt_id", ["nope", "", "../queue", "a" * 10_000])
async def test_a_job_that_nobody_knows_is_unknown(runner: JobRunner, prompt_id: str):
    with pytest.raises(PromptUnknown):
        await runner.find(prompt_id)


async def test_a_job_that_lost_its_engine_is_tried_again_when_asked_for(runner: JobRunner, engine: SteeredEngine):
    engine.failure = EngineUnreachable("It is off.")
    prompt_id = runner.start(REQUEST)
    engine.steps()
    assert (await ended(runner, prompt_id)).status == "failed"
    engine.failure = None
    engine.steps()
    assert (await runner.find(prompt_id)).status == "queued"
    assert (await ended(runner, prompt_id)).status == "done"


async def test_closing_leaves_the_engines_jobs_alone(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)
    engine.steps(1)
    await reached(runner, prompt_id, 1)
    with anyio.fail_after(5):
        await runner.aclose()
    assert engine.withdrawn == []
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("job-")]
    assert prompt_id in engine.known
