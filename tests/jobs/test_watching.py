"""JobRunner: whoever watches a job hears of all its way."""

import asyncio

import anyio

from mcp_image_gen_local.jobs import JobRunner
from tests.jobs.steps import REQUEST, ended
from tests.steered_engine import SteeredEngine


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
        watching = runner.watch(prompt_id, seconds=60, heartbeat=0.02)
        seen = [await anext(watching) for _ in range(6)]
        await watching.aclose()
    assert seen[-1].seconds >= 3 * 0.02


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
