"""JobRunner: a job that its engine has lost is sent again, once."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from mcp_image_gen_local.domain.errors import EngineUnreachable, GenerationLost, ImageGenError
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan
from mcp_image_gen_local.jobs import JobRunner
from mcp_image_gen_local.jobs.requeueing import may_requeue
from tests.comfyui_images import plain
from tests.jobs.steps import REQUEST, ended, generation, kill, left_behind, store_of, stored
from tests.scripted_engine import ScriptedEngine

Make = Callable[..., JobRunner]
AGAIN = "The engine lost the job when it was restarted; it was queued again with the same seed."


def forget(engine: ScriptedEngine) -> None:
    """Let the engine lose all jobs, as by a restart."""
    engine.known.clear()
    engine.failure = None


async def lost_once(runner: JobRunner, engine: ScriptedEngine) -> Job:
    """Return a job that was lost while this runner followed it, as it has ended after that."""
    engine.failure = GenerationLost("It is gone.")
    job_id = await generation(runner, engine)
    gate = engine.hold("submit")
    engine.steps(2)
    await stored(runner, job_id, lambda job: job.requeues)
    forget(engine)
    gate.set()
    engine.steps()
    return await ended(runner, job_id)


async def test_a_lost_job_is_sent_again(runner: JobRunner, engine: ScriptedEngine):
    """Under its id, with the seed of its plan, and counted in the store before that."""
    job = await lost_once(runner, engine)
    assert (job.status, job.requeues, job.notes) == ("done", 1, ("a note", AGAIN))
    assert [request.seed for request in engine.planned] == [7, 7]
    assert engine.followed == [job.job_id] * 2
    assert engine.cancelled == [job.job_id]  # the first one, should it have been late only
    assert (await store_of(runner).get(job.job_id)).notes == job.notes


async def test_a_job_that_is_lost_twice(runner: JobRunner, engine: ScriptedEngine):
    engine.failure = GenerationLost("It is gone.")
    job_id = runner.start(REQUEST)
    engine.steps(6)
    job = await ended(runner, job_id)
    assert (job.status, job.error.code, job.error.message) == ("lost", "generation_lost", "It is gone.")
    assert job.error.hint == (
        "It had been queued again before, and was lost again. Call generate_image again (seed=7 generates the same "
        "image)."
    )
    assert len(engine.planned) == 2
    engine.known.clear()
    assert ((await runner.find(job_id)).status, len(engine.planned)) == ("lost", 2)


async def test_another_process_sends_it_no_third_time(make: Make, engine: ScriptedEngine):
    """The count is in the store before the job is sent."""
    first = make()
    engine.failure = GenerationLost("It is gone.")
    job_id = await generation(first, engine)
    engine.hold("submit")
    engine.steps(2)
    await stored(first, job_id, lambda job: job.requeues)
    await first.aclose()
    forget(engine)
    found = await make().find(job_id)
    assert (found.status, len(engine.planned)) == ("lost", 2)


async def test_a_job_that_somebody_removed(runner: JobRunner, engine: ScriptedEngine):
    engine.failure = GenerationLost("Its queue was cleared.", was_removed=True)
    job_id = runner.start(REQUEST)
    engine.steps()
    assert (await ended(runner, job_id)).status == "lost"
    assert len(engine.planned) == 1


async def test_a_foreign_job_is_not_sent(runner: JobRunner, engine: ScriptedEngine):
    engine.known.add("theirs")
    engine.failure = GenerationLost("It is gone.")
    await runner.find("theirs")
    engine.steps()
    assert ((await ended(runner, "theirs")).status, engine.planned) == ("lost", [])


async def test_a_cancelled_job_that_was_lost(make: Make, engine: ScriptedEngine):
    """Its process ended before the cancel got through."""
    job_id = await left_behind(make(), engine)
    other = make()
    await store_of(other).request_cancel(job_id)
    forget(engine)
    found = await other.find(job_id)
    assert (found.status, found.error.code, len(engine.planned)) == ("cancelled", "generation_cancelled", 1)


async def test_images_on_disk_are_kept(make: Make, engine: ScriptedEngine):
    """The second run adds those that are missing."""
    engine.images = [plain(16, 16), plain(16, 16, 1)]
    first, gate = make(), engine.hold("image1")
    job_id = first.start(replace(REQUEST, batch_size=2))
    engine.steps()
    before = await stored(first, job_id, lambda job: job.images)
    await kill(first)
    gate.set()
    await store_of(first).release([job_id], owner=first._context.owner)
    forget(engine)
    other = make()
    await other.find(job_id)
    engine.steps()
    job = await ended(other, job_id)
    assert (job.status, [image.index for image in job.images], job.images[0]) == ("done", [0, 1], before.images[0])


async def test_a_lease_that_was_lost_sends_nothing(make: Make, engine: ScriptedEngine):
    """Another process works on the job now."""
    holder = make(heartbeat=3600.0)
    engine.failure = GenerationLost("It is gone.")
    job_id = await generation(holder, engine)
    gate = engine.hold("plan")
    engine.steps(2)
    async with asyncio.timeout(20):
        while len(engine.planned) < 2:
            await asyncio.sleep(0.002)
    await store_of(holder).release([job_id], owner=holder._context.owner)
    assert await store_of(holder).claim(job_id, owner="they", seconds=15)
    gate.set()
    async with asyncio.timeout(20):
        while holder._leases.active(job_id):
            await asyncio.sleep(0.002)
    assert engine.followed == [job_id]


@pytest.mark.parametrize(
    ("fields", "may"),
    [
        ({}, True),
        ({"status": JobStatus.RUNNING}, True),
        ({"status": JobStatus.FAILED, "error": EngineUnreachable("It is off.")}, True),
        ({"status": JobStatus.FAILED, "error": ImageGenError("No.")}, False),
        ({"status": JobStatus.LOST, "error": GenerationLost("No.")}, False),
        ({"status": JobStatus.DONE}, False),
        ({"status": JobStatus.CANCELLED}, False),
        ({"cancel_requested": True}, False),
        ({"requeues": 1}, False),
        ({"request": None}, False),
        ({"request": {"prompt": "x", "of_later": 1}}, False),
    ],
)
def test_which_jobs_are_sent_again(fields: dict, may: bool):
    job = Job(
        **{"job_id": "a", "engine": "steered", "request": {"prompt": "x"}, "plan": Plan(model="m", seed=7), **fields}
    )
    assert may_requeue(job) is may
