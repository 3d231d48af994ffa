"""Calls that wait for a job.

A client that times out asks for the same thing again: it gets the job of the call that ended without an answer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from weakref import WeakValueDictionary

import anyio

from mcp_image_gen_local.domain.errors import ImageGenError
from mcp_image_gen_local.domain.job import CallEnd, Job, JobStatus
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.jobs import outcomes
from mcp_image_gen_local.jobs.context import JobContext
from mcp_image_gen_local.jobs.runner import JobRunner
from mcp_image_gen_local.storage.job_store import Orphan

KEPT_SECONDS = 600.0  #: for which the job of a call that got no answer waits to be asked for again
CANCEL_SECONDS = 15.0  #: bound on cancelling a job whose call was cancelled
ENDS = {CallEnd.TIMED_OUT: "timed out", CallEnd.GONE: "was cut off"}
_Key = tuple[str, GenerationRequest]


class Calls:
    """Gives each call its job: a new one, or that of an earlier call that asked for the same and got no answer."""

    def __init__(self, context: JobContext, runner: JobRunner) -> None:
        self._context = context
        self._runner = runner
        self._locks: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()
        self._unwritten: dict[_Key, Orphan] = {}  #: those that the store could not keep

    @contextlib.asynccontextmanager
    async def answering(
        self,
        request: GenerationRequest,
        *,
        caller: str | None,
        wait: float,
        on_progress: Callable[[Job], Awaitable[None]],
        ending: Callable[[], Awaitable[CallEnd]],
    ) -> AsyncIterator[Job]:
        """Provide the call's job when it has ended, or as it is after `wait` seconds; the block sends the answer.

        Args:
            request: what to generate.
            caller: who asks; only the same one gets a job of an earlier call. None: this call wants a new job, and
                another one will not get it.
            wait: seconds.
            on_progress: called with each change of the job.
            ending: called when the call is cancelled before the block has ended: how? CANCELLED cancels the job.

        Raises:
            ImageGenError: as the runner says; whatever else goes wrong is the job's `error`.
        """
        key = None if caller is None else (caller, request)
        orphan = await self._take(key) if key else None
        job_id = orphan.job_id if orphan else self._runner.start(request)
        try:
            async for job in self._runner.watch(job_id, seconds=wait):
                await on_progress(job)
            yield _with_note(job, orphan) if orphan else job
        except asyncio.CancelledError:
            await self._end(job_id, key, ending)
            raise
        except ImageGenError:
            if key and orphan:  # nobody has its image yet
                await self._leave(job_id, key, orphan.end)
            raise

    async def handed_over(self, job: Job) -> None:
        """Note that the caller has the job's image by another way: the same call generates a new one."""
        if job.status is JobStatus.DONE:
            self._unwritten = {key: each for key, each in self._unwritten.items() if each.job_id != job.job_id}
            await self._context.jobs.hand_over(job.job_id)

    async def _end(self, job_id: str, key: _Key | None, ending: Callable[[], Awaitable[CallEnd]]) -> None:
        """Cancel the job, or leave it to the next call of this kind, which waits until that is decided."""
        with anyio.CancelScope(shield=True):
            async with self._lock(key):
                end = await ending()
                if key and end is CallEnd.TIMED_OUT:  # one that is gone may have been closed for good
                    await self._leave(job_id, key, end)
        if end is CallEnd.CANCELLED:  # the GPU must not generate what no caller awaits
            with anyio.move_on_after(CANCEL_SECONDS, shield=True):
                await self._runner.cancel(job_id)

    async def _leave(self, job_id: str, key: _Key, end: CallEnd) -> None:
        orphan = Orphan(job_id=job_id, at=time.time(), end=end)
        if not await self._context.jobs.leave(orphan, caller=key[0]):
            recent = {k: each for k, each in self._unwritten.items() if _is_recent(each)}
            self._unwritten = {**recent, key: orphan}

    async def _take(self, key: _Key) -> Orphan | None:
        """Return the job that an earlier call of this kind left, no longer left then."""
        caller, request = key
        engine, jobs = self._context.engine, self._context.jobs
        with anyio.CancelScope(shield=True):  # else it might be taken, and nobody have it
            async with self._lock(key):
                orphan = await jobs.take(
                    request.to_dict(), engine=engine.name, url=engine.url, caller=caller, seconds=KEPT_SECONDS
                ) or self._unwritten.pop(key, None)
                is_useful = orphan and _is_recent(orphan) and await self._is_useful(orphan)
        return orphan if is_useful else None

    async def _is_useful(self, orphan: Orphan) -> bool:
        """Return True unless the job's image is gone."""
        job = await self._context.jobs.get(orphan.job_id)
        return job is None or job.status is not JobStatus.DONE or await asyncio.to_thread(outcomes.is_settled, job)

    def _lock(self, key: _Key | None) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock()) if key else asyncio.Lock()


def _is_recent(orphan: Orphan) -> bool:
    return time.time() - orphan.at < KEPT_SECONDS


def _with_note(job: Job, orphan: Orphan) -> Job:
    many = len(job.images) > 1
    seeds = ", ".join(str(image.seed) for image in job.images if image.seed is not None)
    told = f"; {'seeds' if many else 'seed'} {seeds}" if seeds else ""
    at = datetime.fromtimestamp(orphan.at).astimezone()
    note = (
        f"{'These are the images' if many else 'This is the image'} of the call that {ENDS[orphan.end]} at {at:%H:%M}"
    )
    return replace(job, notes=(*job.notes, f"{note}{told}."))
