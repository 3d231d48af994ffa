"""Taking a job back from the engine, until it has ended one way or the other."""

import asyncio
import logging
import time
from typing import Any

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.errors import GenerationCancelled, ImageGenError
from mcp_image_gen_local.domain.job import JobStatus
from mcp_image_gen_local.jobs.endings import not_told
from mcp_image_gen_local.jobs.entry import Entry

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 2.0  #: for a request to queue the job to end, once the engine does not have it
SETTLE_PAUSE = 0.05
PAUSE_SECONDS = 0.5  #: before an engine that could not be told is told again


async def withdraw(engine: Engine, entry: Entry) -> None:
    """Have the engine let go of the job; its own task notes how it ended, which may be with an image."""
    if entry.job.plan is None and entry.task:  # nothing was sent
        await stop(entry.task)
    trouble = await _insist(engine, entry)
    if entry.task and not entry.at_engine:  # the request to queue it is on its way, or stuck
        await _settle(entry)
        if entry.task and entry.at_engine:
            trouble = await _insist(engine, entry)
        elif entry.task:
            await stop(entry.task)
    if entry.task:  # one that was at the engine ends by itself, maybe with an image
        await asyncio.wait({entry.task})
    if not entry.job.status.is_final:
        if entry.job.plan and not trouble:  # a request that was cut off may have reached the engine meanwhile
            _, trouble = await tell(engine, entry.prompt_id)
        error = GenerationCancelled(f"The job {entry.prompt_id} was cancelled.", hint=trouble)
        await entry.end(JobStatus.CANCELLED, error)


async def _settle(entry: Entry) -> None:
    """Return once the engine has taken the job after all, or the request has ended or taken too long."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while entry.task and not entry.at_engine and time.monotonic() < deadline:
        await asyncio.wait({entry.task}, timeout=SETTLE_PAUSE)


async def _insist(engine: Engine, entry: Entry) -> str:
    """Tell the engine until it has let go, or the job has ended; return what stood in the way."""
    trouble = ""
    while entry.task:
        is_gone, problem = await tell(engine, entry.prompt_id)
        entry.update(untold=problem)
        if is_gone:
            return ""
        if problem and entry.task:
            await asyncio.wait({entry.task}, timeout=PAUSE_SECONDS)
        trouble = problem or trouble
    return trouble


async def tell(engine: Engine, prompt_id: str) -> tuple[bool, str]:
    """Tell the engine once; return whether it has let go of the job, and a sentence if it could not be told."""
    try:
        return await engine.cancel(prompt_id), ""
    except ImageGenError as failure:
        return False, not_told(failure)
    except Exception as failure:  # an engine of another package may raise what it likes
        logger.exception("cancelling job %s", prompt_id)
        return False, f"The engine could not be told: {repr(failure)[:300]}."


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel the task and wait until it has ended."""
    task.cancel()
    if not task.done():
        await asyncio.wait({task})
