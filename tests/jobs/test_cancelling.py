"""JobRunner: how jobs are cancelled."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_image_gen_local.domain.errors import EngineUnreachable, GenerationCancelled, JobOfAnother
from mcp_image_gen_local.jobs import JobRunner
from tests.jobs.steps import REQUEST, done, ended, generation, until
from tests.scripted_engine import ScriptedEngine


async def test_a_cancel_reaches_the_engine(runner: JobRunner, engine: ScriptedEngine, tmp_path: Path):
    job_id = await generation(runner, engine)
    job = await runner.cancel(job_id)
    assert (job.status, job.error.code) == ("cancelled", "generation_cancelled")
    assert (job.error.message, job.error.hint) == (f"The job {job_id} was cancelled.", "")
    assert (job.cancel_requested, job.cancel_error, engine.cancelled) == (True, "", [job_id])
    assert (await ended(runner, job_id)).status == "cancelled"
    assert list((tmp_path / "images").iterdir()) == []


async def test_a_cancel_before_the_first_step(runner: JobRunner, engine: ScriptedEngine):
    """Before the job's task has run at all: no coroutine is left behind."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        job = await runner.cancel(runner.start(REQUEST))
        gc.collect()
    assert job.status == "cancelled"
    assert [str(warning.message) for warning in caught] == []
    assert engine.known == engine.stopped


async def test_a_job_that_was_not_planned_is_not_sent(runner: JobRunner, engine: ScriptedEngine):
    engine.hold("plan")
    job_id = runner.start(REQUEST)
    await engine.arrival("plan")
    job = await runner.cancel(job_id)
    assert (job.status, str(job.error), job.error.code) == (
        "cancelled",
        f"The job {job_id} was cancelled.",
        "generation_cancelled",
    )
    assert (engine.known, engine.cancelled) == (set(), [])


async def test_two_cancels_end_alike(runner: JobRunner, engine: ScriptedEngine):
    job_id = await generation(runner, engine)
    jobs = await asyncio.gather(runner.cancel(job_id), runner.cancel(job_id))
    assert [job.status for job in jobs] == ["cancelled", "cancelled"]
    assert engine.cancelled == [job_id]


async def test_an_ended_job_stays_done(runner: JobRunner, engine: ScriptedEngine):
    job = await done(runner, engine)
    assert await runner.cancel(job.job_id) is job
    assert engine.cancelled == []


async def test_an_unreachable_engine_is_asked_again(runner: JobRunner, engine: ScriptedEngine):
    """The job is cancelled also when the request fails until its end."""
    engine.refusal = engine.failure = EngineUnreachable("It is off.")
    job_id = await generation(runner, engine)
    job = await runner.cancel(job_id, seconds=0)
    assert (job.status, job.progress.phase) == ("running", "cancelling")
    job = await runner.cancel(job_id, seconds=0.1)
    assert job.cancel_error == "The cancel request failed: It is off."
    await until(lambda: len(engine.cancelled) > 2)
    engine.steps(2)
    job = await ended(runner, job_id)
    assert (job.status, job.error.hint) == ("cancelled", "The cancel request failed: It is off.")


async def test_an_engine_that_fails_oddly_is_asked_again(runner: JobRunner, engine: ScriptedEngine, caplog):
    engine.refusal = AttributeError("oh")
    job_id = await generation(runner, engine)
    job = await runner.cancel(job_id, seconds=0.1)
    assert (job.status, job.cancel_error) == ("running", "The cancel request failed: AttributeError('oh').")
    assert f"cancelling job {job_id}" in caplog.text
    engine.refusal = None
    assert (await runner.cancel(job_id)).status == "cancelled"


async def test_an_endless_error_is_cut(runner: JobRunner, engine: ScriptedEngine):
    engine.refusal = AttributeError("o" * 1000)
    job = await runner.cancel(await generation(runner, engine), seconds=0.1)
    assert len(job.cancel_error) == len("The cancel request failed: .") + 300


async def test_an_engine_that_does_not_answer(runner: JobRunner, engine: ScriptedEngine):
    job_id = await generation(runner, engine)
    engine.hold("cancel")
    assert (await runner.cancel(job_id, seconds=0.01)).cancel_error == "The engine has not answered yet."


async def test_a_cancel_is_repeated_until_confirmed(make: Callable[..., JobRunner], engine: ScriptedEngine):
    """The engine may be loading a model, deaf to interrupts; its own wait is pause enough."""
    runner = make(cancel_pause=3600.0)
    engine.holds_on = 3
    job_id = await generation(runner, engine)
    job = await runner.cancel(job_id)
    assert (job.status, job.error.hint, engine.cancelled) == ("cancelled", "", [job_id] * 4)


async def test_a_job_is_cancelling_at_every_step(runner: JobRunner, engine: ScriptedEngine):
    """Whatever the engine reports meanwhile."""
    engine.holds_on = 10**9
    job_id = await generation(runner, engine)
    await runner.cancel(job_id, seconds=0)
    engine.preview, engine.position = b"a small image", 3
    engine.steps(1)
    async with asyncio.timeout(20):
        async for job in runner.watch(job_id, seconds=60):
            if job.progress.preview:
                break
    assert (job.progress.describe(), job.progress.step, job.progress.steps) == ("cancelling", None, None)
    assert (job.progress.queue_position, job.cancel_requested) == (None, True)


async def test_an_image_before_the_cancel_is_kept(runner: JobRunner, engine: ScriptedEngine):
    """It was finished before the cancel took effect."""
    engine.holds_on = 10**9
    job_id = await generation(runner, engine)
    await runner.cancel(job_id, seconds=0)
    engine.steps(2)
    job = await ended(runner, job_id)
    assert (job.status, job.error, job.images[0].path.is_file()) == ("done", None, True)


async def test_a_foreign_job_is_not_cancelled(runner: JobRunner, engine: ScriptedEngine):
    engine.known.add("theirs")
    with pytest.raises(JobOfAnother) as caught:
        await runner.cancel("theirs")
    assert str(caught.value) == (
        "The job theirs was queued by another client of http://scripted, so it was not cancelled. Cancel it there."
    )
    assert (engine.cancelled, (await runner.find("theirs")).cancel_requested) == ([], False)


async def test_an_engine_that_cancels_on_its_own(runner: JobRunner, engine: ScriptedEngine):
    """For instance in its own window."""
    engine.failure = GenerationCancelled("Interrupted.", hint="Generate again.")
    job = await done(runner, engine)
    assert (job.status, job.error.message, job.error.hint) == ("cancelled", "Interrupted.", "Generate again.")
    assert job.cancel_requested is False


# -- while the job is being sent ----------------------------------------------------------------------


async def test_a_job_that_arrives_after_the_cancel(runner: JobRunner, engine: ScriptedEngine):
    """The first request did not find it, so it is cancelled once more."""
    gate = engine.hold("submit")
    job_id = runner.start(REQUEST)
    await engine.arrival("submit")
    cancelling = asyncio.ensure_future(runner.cancel(job_id))
    await engine.arrival("cancel")
    assert engine.stopped == set()
    gate.set()
    assert (await cancelling).status == "cancelled"
    assert (engine.stopped, engine.followed) == ({job_id}, [job_id])


async def test_a_job_whose_request_hangs(make: Callable[..., JobRunner], engine: ScriptedEngine):
    """It is given up after a while, and cancelled again: it may have arrived meanwhile."""
    runner = make(settle=0.1)
    engine.hold("submitted")
    job_id = runner.start(REQUEST)
    await engine.arrival("submitted")
    job = await runner.cancel(job_id)
    assert (job.status, job.ticket, engine.followed) == ("cancelled", None, [])
    assert (str(job.error), job.error.code) == (f"The job {job_id} was cancelled.", "generation_cancelled")
    assert (engine.cancelled, engine.stopped) == ([job_id] * 2, {job_id})


async def test_a_last_cancel_that_fails(make: Callable[..., JobRunner], engine: ScriptedEngine):
    """The engine confirmed that it did not have the job, and is away when it is asked once more."""
    runner = make(settle=0.05)
    engine.hold("submit")
    job_id = runner.start(REQUEST)
    await engine.arrival("submit")
    cancelling = asyncio.ensure_future(runner.cancel(job_id))
    await until(lambda: engine.cancelled)
    engine.refusal = EngineUnreachable("It is off.")
    job = await cancelling
    assert (job.status, job.error.hint) == ("cancelled", "The cancel request failed: It is off.")
    assert engine.cancelled == [job_id] * 2


async def test_a_job_is_cancelling_to_its_end(make: Callable[..., JobRunner], engine: ScriptedEngine):
    """Also while nothing of it but its last cancel request is left."""
    runner = make(settle=0.05)
    engine.hold("submit")
    job_id = runner.start(REQUEST)
    await engine.arrival("submit")
    cancelling = asyncio.ensure_future(runner.cancel(job_id))
    await engine.arrival("cancel")
    gate = engine.hold("cancel")
    await until(lambda: len(engine.cancelled) == 2)
    assert (await runner.find(job_id)).progress.phase == "cancelling"
    watching = asyncio.ensure_future(ended(runner, job_id))
    await anyio.wait_all_tasks_blocked()
    gate.set()
    assert [(await cancelling).status, (await watching).status] == ["cancelled", "cancelled"]


async def test_a_cancel_that_fails_while_sending(make: Callable[..., JobRunner], engine: ScriptedEngine):
    """The engine answers neither request: the job ends, and says so."""
    runner = make(settle=0.05)
    engine.refusal = EngineUnreachable("It is off.")
    gate = engine.hold("submit")
    job_id = runner.start(REQUEST)
    await engine.arrival("submit")
    cancelling = asyncio.ensure_future(runner.cancel(job_id))
    await until(lambda: len(engine.cancelled) > 1)
    engine.failure = EngineUnreachable("It is off.")
    gate.set()
    engine.steps()
    job = await cancelling
    assert (job.status, job.error.hint) == ("cancelled", "The cancel request failed: It is off.")


async def test_nothing_is_kept_of_a_cancelled_job(runner: JobRunner, engine: ScriptedEngine):
    """Neither its tasks, which hold the context of the call that began it, nor its preview."""
    engine.preview = b"a small image"
    job_id = await generation(runner, engine)
    job = await runner.cancel(job_id)
    await anyio.wait_all_tasks_blocked()
    assert (runner._leases.all_active(), job.progress.preview, job.plan.payload) == ([], None, None)
    assert not [task for task in asyncio.all_tasks() if task.get_name().endswith(job_id)]
