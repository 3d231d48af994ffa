"""JobRunner: a watcher sees every change of its job."""

import asyncio
from collections.abc import Callable

import anyio

from mcp_image_gen_local.jobs import JobRunner
from tests.jobs.steps import REQUEST, done, ended, generation, reached
from tests.scripted_engine import ScriptedEngine


async def test_a_job_is_seen_step_by_step(runner: JobRunner, engine: ScriptedEngine):
    engine.preview = b"a small image"
    job_id = runner.start(REQUEST)
    engine.steps()
    async with asyncio.timeout(20):
        seen = [job async for job in runner.watch(job_id, seconds=60)]
    assert [job.status for job in seen] == ["queued", "queued", "running", "running", "running", "done"]
    assert [job.progress.step for job in seen if job.progress] == [1, 2, 3, 3]
    assert [bool(job.progress.preview) for job in seen if job.progress] == [True, True, True, False]
    last = seen[-1]
    assert (last.images[0].seed, last.notes, last.error, last.request) == (7, ("a note",), None, REQUEST.to_dict())
    assert (last.plan.payload, last.ticket.data, last.images[0].path.is_file()) == (None, {"seed": 7}, True)
    assert last.ended is not None
    assert 0 < last.seconds < 5


async def test_a_preview_stays_until_the_next(runner: JobRunner, engine: ScriptedEngine):
    engine.preview = b"a small image"
    job_id = await generation(runner, engine)
    engine.preview = None
    engine.steps(1)
    assert (await reached(runner, job_id, 2)).progress.preview == b"a small image"


async def test_every_watcher_sees_every_event(runner: JobRunner, engine: ScriptedEngine):
    job_id = runner.start(REQUEST)

    async def watch() -> list[int]:
        return [job.progress.step if job.progress else 0 async for job in runner.watch(job_id, seconds=60)]

    async with asyncio.timeout(20):
        watching = [asyncio.ensure_future(watch()) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        engine.steps()
        assert await asyncio.gather(*watching) == [[0, 0, 1, 2, 3, 3]] * 3


async def test_a_watch_ends_before_its_job(runner: JobRunner, engine: ScriptedEngine):
    job_id = runner.start(REQUEST)
    async with asyncio.timeout(20):
        seen = [job.status async for job in runner.watch(job_id, seconds=0.05)]
    assert not seen[-1].is_final
    engine.steps()
    assert (await ended(runner, job_id)).status == "done"


async def test_a_watch_elsewhere_ends_in_time(make: Callable[..., JobRunner], engine: ScriptedEngine):
    """Also in a process that reads the store, and whose next look would be later."""
    holder, other = make(), make(poll=3600.0)
    job_id = await generation(holder, engine)
    async with asyncio.timeout(20):
        seen = [job.status async for job in other.watch(job_id, seconds=0.05)]
    assert seen == ["running"] * 2


async def test_a_watch_of_no_time_yields_once(runner: JobRunner):
    job_id = runner.start(REQUEST)
    assert [job.status async for job in runner.watch(job_id, seconds=0)] == ["queued"]
    assert [job.status async for job in runner.watch(job_id, seconds=-1)] == ["queued"]


async def test_a_watcher_gets_a_heartbeat(runner: JobRunner):
    """When nothing happens."""
    job_id = runner.start(REQUEST)
    async with asyncio.timeout(20):
        watching = runner.watch(job_id, seconds=60, heartbeat=0.02)
        seen = [await anext(watching) for _ in range(6)]
        await watching.aclose()
    assert seen[-1].seconds >= 3 * 0.02


async def test_an_ended_job_is_yielded_once(runner: JobRunner, engine: ScriptedEngine):
    job = await done(runner, engine)
    assert [each async for each in runner.watch(job.job_id, seconds=60)] == [job]
    assert await runner.find(job.job_id) is job


async def test_a_late_watcher_sees_the_end(runner: JobRunner, engine: ScriptedEngine):
    """It may take its time with each change, while the job continues and ends."""
    job_id = runner.start(REQUEST)
    engine.steps()
    seen = []
    async with asyncio.timeout(20):
        async for job in runner.watch(job_id, seconds=60):
            seen.append(job.status)
            await ended(runner, job_id)
            await anyio.wait_all_tasks_blocked()
    assert seen[-1] == "done"


async def test_a_watcher_that_leaves(runner: JobRunner, engine: ScriptedEngine):
    """It does not disturb the others, and nothing is kept for it."""
    job_id = runner.start(REQUEST)
    with anyio.move_on_after(0.01):
        await ended(runner, job_id)
    assert runner._leases.active(job_id)._watchers == set()
    engine.steps()
    assert (await ended(runner, job_id)).status == "done"
