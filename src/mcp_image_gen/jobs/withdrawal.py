"""Taking a job back from the engine, until it has ended one way or the other."""

import asyncio

from mcp_image_gen.domain.engine import Engine
from mcp_image_gen.domain.errors import GenerationCancelled, ImageGenError
from mcp_image_gen.domain.job import JobStatus
from mcp_image_gen.jobs.entry import Entry

SETTLE_SECONDS = 2.0  #: for a request to queue the job to end, once the engine does not have it
PAUSE_SECONDS = 0.5  #: before an engine that could not be told is told again


async def withdraw(engine: Engine, entry: Entry) -> None:
    """Have the engine let go of the job; its own task notes how it ended, which may be with a picture."""
    if entry.job.plan is None and entry.task:  # nothing was sent
        await stop(entry.task)
    trouble = await _tell(engine, entry)
    if entry.task:
        # One that is at the engine ends by itself, maybe with a picture; a request to queue it may be stuck.
        await asyncio.wait({entry.task}, timeout=None if entry.at_engine else SETTLE_SECONDS)
    if entry.task:
        await stop(entry.task)
    if not entry.job.status.is_final:
        trouble = trouble or (await _make_sure(engine, entry.prompt_id) if entry.job.plan else "")
        error = GenerationCancelled(f"The job {entry.prompt_id} was cancelled.", hint=trouble)
        await entry.end(JobStatus.CANCELLED, error)


async def _tell(engine: Engine, entry: Entry) -> str:
    """Tell the engine until it has let go, or the job has ended; return what stood in the way."""
    trouble = ""
    while entry.task:
        try:
            if await engine.cancel(entry.prompt_id):
                return ""
        except ImageGenError as failure:
            trouble = f"The engine could not be told: {failure}"
            if entry.task:
                await asyncio.wait({entry.task}, timeout=PAUSE_SECONDS)
    return trouble


async def _make_sure(engine: Engine, prompt_id: str) -> str:
    """Withdraw once more: a request that was cut off may have reached the engine meanwhile. Return what to tell."""
    try:
        await engine.cancel(prompt_id)
    except ImageGenError as failure:
        return f"The engine could not be told: {failure}"
    return ""


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel the task and wait until it has ended."""
    task.cancel()
    if not task.done():
        await asyncio.wait({task})
