"""What a test of the job runner does again and again."""

import asyncio
from collections.abc import Callable

from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.jobs import JobRunner
from mcp_image_gen_local.jobs.active_job import stop
from mcp_image_gen_local.storage.job_store import JobStore
from tests.scripted_engine import ScriptedEngine

REQUEST = GenerationRequest(prompt="a red apple", seed=7, steps=3)


def store_of(runner: JobRunner) -> JobStore:
    """Return the store as this process sees it."""
    return runner._context.jobs


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


async def stored(runner: JobRunner, job_id: str, condition: Callable[[Job], object]) -> Job:
    """Return the job once the store has it in this condition."""
    async with asyncio.timeout(20):
        while not ((job := await store_of(runner).get(job_id)) and condition(job)):
            await asyncio.sleep(0.002)
    return job


async def ended(runner: JobRunner, job_id: str) -> Job:
    """Return the job once it has ended."""
    async with asyncio.timeout(20):
        return [job async for job in runner.watch(job_id, seconds=60)][-1]


async def reached(runner: JobRunner, job_id: str, step: int) -> Job:
    """Return the job once it has generated the step."""
    async with asyncio.timeout(20):
        async for job in runner.watch(job_id, seconds=60):
            if job.progress and job.progress.step == step:
                return job
    raise AssertionError(job)


async def generation(runner: JobRunner, engine: ScriptedEngine, request: GenerationRequest = REQUEST) -> str:
    """Start a job and return its id once it has generated its first step, and the store says that it runs."""
    job_id = runner.start(request)
    engine.steps(1)
    await reached(runner, job_id, 1)
    await stored(runner, job_id, lambda job: job.status is JobStatus.RUNNING)
    return job_id


async def done(runner: JobRunner, engine: ScriptedEngine, request: GenerationRequest = REQUEST) -> Job:
    """Generate with this runner and return the ended job."""
    job_id = runner.start(request)
    engine.steps()
    return await ended(runner, job_id)


async def left_behind(runner: JobRunner, engine: ScriptedEngine) -> str:
    """Close the runner while it generates; return the job's id."""
    job_id = await generation(runner, engine)
    await runner.aclose()
    return job_id


async def kill(runner: JobRunner) -> None:
    """End a process as SIGKILL does: it releases no lease."""
    await suspend(runner)
    await asyncio.gather(*(active.stop() for active in runner._leases.all_active()))


async def suspend(runner: JobRunner) -> None:
    """Keep a process from renewing its leases, as a closed laptop does; its jobs' tasks remain."""
    await runner._recovery.aclose()
    if runner._leases._heartbeat:
        await stop(runner._leases._heartbeat)


def ids(runner: JobRunner) -> set[str]:
    """Return the jobs that the runner works on or remembers."""
    return {*runner._leases._active, *runner._leases._ended}
