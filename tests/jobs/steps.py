"""What a test of the job runner does again and again."""

import asyncio

import anyio
import pytest

from mcp_image_gen_local.domain.errors import PromptUnknown
from mcp_image_gen_local.domain.job import Job
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.jobs import JobRunner
from tests.steered_engine import SteeredEngine

REQUEST = GenerationRequest(prompt="a red apple", seed=7, steps=3)


async def ended(runner: JobRunner, prompt_id: str) -> Job:
    """Return the job once it has ended."""
    with anyio.fail_after(5):
        return [job async for job in runner.watch(prompt_id, seconds=60)][-1]


async def reached(runner: JobRunner, prompt_id: str, step: int) -> None:
    """Return when the job has generated the step."""
    with anyio.fail_after(5):
        async for job in runner.watch(prompt_id, seconds=60):
            if job.progress and job.progress.step == step:
                return


async def generation(runner: JobRunner, engine: SteeredEngine) -> str:
    """Start a job and return its prompt_id once it has generated its first step."""
    prompt_id = runner.start(REQUEST)
    engine.steps(1)
    await reached(runner, prompt_id, 1)
    return prompt_id


async def left_behind(runner: JobRunner, engine: SteeredEngine) -> str:
    """Close the runner while it generates; return the job's prompt_id."""
    prompt_id = await generation(runner, engine)
    await runner.aclose()
    return prompt_id


async def look_for_orphans(runner: JobRunner) -> None:
    """Set off the look for jobs that other processes left, as any question does."""
    with pytest.raises(PromptUnknown):
        await runner.find("unknown")


def ids(runner: JobRunner) -> set[str]:
    """Return the jobs that the runner remembers."""
    return {entry.prompt_id for entry in runner._roster}


async def reached_journal(runner: JobRunner, prompt_id: str) -> None:
    """Return when the job's plan is written down."""
    async with asyncio.timeout(5):
        while not ((job := await runner._journal.get(prompt_id)) and job.plan):
            await asyncio.sleep(0.001)


async def reached_follow(engine: SteeredEngine, prompt_id: str) -> None:
    """Return when the engine is asked how the job goes."""
    with anyio.fail_after(5):
        while prompt_id not in engine.followed:
            await anyio.sleep(0.001)
