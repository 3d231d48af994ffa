"""A job whose lease this process holds."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from mcp_image_gen_local.domain.errors import (
    GenerationTimeout,
    ImageGenError,
    unexpected,
)
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan, Progress, Ticket
from mcp_image_gen_local.generation import Event, Generated, Noted, Planned, Requeued, Saved, Submitted, Target
from mcp_image_gen_local.jobs import outcomes
from mcp_image_gen_local.jobs.context import JobContext
from mcp_image_gen_local.storage.job_store import Standing

logger = logging.getLogger(__name__)

CANCELLING = "cancelling"  #: phase of a job whose cancel request the engine has not confirmed
NO_ANSWER = "The engine has not answered yet."
Events = Callable[["ActiveJob"], AsyncIterator[Event]]


class LeaseLost(Exception):
    """Another process has claimed the job."""


class ActiveJob:
    """Consumes the events of a generation: stores each, and informs the watchers of this process.

    Attributes:
        job: The newest snapshot.
        is_lost: Another process has claimed the job; this one no longer works on it.
    """

    def __init__(self, context: JobContext, job: Job, *, is_stored: bool) -> None:
        self.job = job
        self.is_lost = False
        self._context = context
        self._is_stored = is_stored
        self._is_ending = False
        self._work: asyncio.Task[None] | None = None
        self._cancelling: asyncio.Task[None] | None = None
        self._bound: asyncio.Timeout | None = None
        self._watchers: set[asyncio.Queue[Job]] = set()
        self._written: Progress | None = None  #: newest progress in the store

    @property
    def is_working(self) -> bool:
        """True while a task works on the job, or cancels it."""
        return any(task and not task.done() for task in (self._work, self._cancelling))

    @property
    def is_submitted(self) -> bool:
        """True when the engine has taken the job."""
        return self.job.ticket is not None

    @property
    def target(self) -> Target:
        """Where the job's images go."""
        saved = frozenset(image.index for image in self.job.images)
        return Target(store=self._context.images, job_id=self.job.job_id, filename_ms=self.job.filename_ms, saved=saved)

    # -- working --------------------------------------------------------------------------------------

    def start(self, events: Events, on_end: Callable[["ActiveJob"], object]) -> None:
        """Begin to consume the events; `on_end(self)` is called when no task works on the job any more."""
        self._on_end = on_end
        self._work = self._task(self._run(events), "job")

    def _task(self, work: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work, name=f"{name}-{self.job.job_id}")
        task.add_done_callback(lambda _: self.is_working or self._on_end(self))
        return task

    async def create(self, image_count: int) -> None:
        """Store the new job, which names its images' files."""
        seconds = self._context.timings.lease
        self._is_stored = True  # a cancel in the middle of the next line must find the row
        created = await self._context.jobs.create(
            self.job, image_count=image_count, owner=self._context.owner, seconds=seconds
        )
        if created is None:
            raise LeaseLost
        self.job = created

    async def _run(self, events: Events) -> None:
        """Consume the events and store how the job ended."""
        try:
            async with asyncio.timeout(self._context.timeout) as self._bound, contextlib.aclosing(events(self)) as each:  # type: ignore[type-var]
                async for event in each:
                    await self._apply(event)
            await self._end(JobStatus.DONE)
        except LeaseLost:
            self._become_lost()
        except ImageGenError as error:
            await self._fail(error)
        except Exception as error:
            if self._bound and self._bound.expired():
                await self._time_out()
            else:
                logger.exception("job %s", self.job.job_id)
                await self._fail(unexpected(error))
        logger.info("job %s: %s", self.job.job_id, self.job.status)
        if self.job.status is JobStatus.DONE and self._context.after_done:
            await self._context.after_done(self.job)

    async def _apply(self, event: Event) -> None:
        match event:
            case Progress():
                await self._progress(event)
            case Planned(plan):
                await self._planned(plan)
            case Submitted(ticket):
                await self._submitted(ticket)
            case Generated():
                self._extend_timeout()
            case Saved(image):
                await self._saved(image)
            case Requeued(sentence):
                count = self.job.requeues + 1
                self.job = replace(self.job, status=JobStatus.QUEUED, progress=None, ticket=None, requeues=count)
                self._note(sentence)
            case Noted(sentence):
                self._note(sentence)

    async def _planned(self, plan: Plan) -> None:
        """Store the plan before anything is sent: from now on the engine may have the job."""
        notes = dict.fromkeys((*self.job.notes, *plan.notes))  # a second run has those of the first
        self._change(plan=plan, notes=tuple(notes))
        if (await self._store()).cancel_requested or self.job.cancel_requested:
            raise outcomes.cancelled(self.job)

    async def _submitted(self, ticket: Ticket) -> None:
        self.job = replace(self.job, ticket=ticket)  # no news for watchers
        if (await self._store()).cancel_requested:
            self.cancel()

    async def _progress(self, progress: Progress) -> None:
        """Keep the newest progress, and the newest preview if this one has none."""
        newest = self.job.progress
        if progress.preview is None and newest:
            progress = replace(progress, preview=newest.preview)
        if self._cancelling:
            progress = replace(progress, phase=CANCELLING, step=None, steps=None, queue_position=None)
        has_new_status = progress.status is not self.job.status
        self._change(status=progress.status, progress=progress)
        if has_new_status:
            await self._store()

    async def _saved(self, image: SavedImage) -> None:
        images = {each.index: each for each in (*self.job.images, image)}
        self.job = replace(self.job, images=tuple(images[index] for index in sorted(images)))
        await self._store()

    def _extend_timeout(self) -> None:
        """Give the images time of their own to be fetched."""
        if self._bound and not self._bound.expired() and (end := self._bound.when()) is not None:
            self._bound.reschedule(max(end, asyncio.get_running_loop().time() + self._context.timings.fetch))

    def _note(self, sentence: str) -> None:
        if sentence and sentence not in self.job.notes:
            self._change(notes=(*self.job.notes, sentence))

    async def _store(self) -> Standing:
        """Store the job as it is.

        Raises:
            LeaseLost: another process has claimed it.
        """
        standing = await self._context.jobs.update(self.job, owner=self._context.owner)
        if not standing.is_held:
            raise LeaseLost
        return standing

    # -- ending ---------------------------------------------------------------------------------------

    async def _fail(self, error: ImageGenError) -> None:
        if not self.job.cancel_requested:
            stored = await self._context.jobs.get(self.job.job_id)  # the heartbeat may not have seen the request yet
            self.job = replace(self.job, cancel_requested=bool(stored and stored.cancel_requested))
        await self._end(*outcomes.outcome(error, self.job))

    async def _time_out(self) -> None:
        job, seconds = self.job, f"{self._context.timeout:g} s"
        if job.is_foreign:
            message = (
                f"Job {job.job_id} is still running after {seconds}. It was queued by another client, so it was not "
                "cancelled."
            )
            await self._context.jobs.release([job.job_id], owner=self._context.owner)
            self._is_stored = False  # its state at the engine stays as it was stored
            await self._end(JobStatus.FAILED, GenerationTimeout(message, hint="Check its status later."))
            return
        is_gone, problem = await self._try_cancel()
        if not is_gone:
            problem = problem or "The engine will stop after the current step or model load."
        hint = f"{problem} Raise IMAGE_GEN_JOB_TIMEOUT_SECONDS, or use fewer steps or a smaller image.".strip()
        message = f"The job {job.job_id} did not end within {seconds} and was cancelled."
        await self._end(JobStatus.FAILED, GenerationTimeout(message, hint=hint))

    async def _end(self, status: JobStatus, error: ImageGenError | None = None) -> None:
        """Store the end, then inform the watchers: what they read in the store is never older."""
        self._is_ending = True
        ended = time.monotonic()
        if status is JobStatus.DONE:
            self._note(outcomes.incomplete(self.job))
        if self._is_stored:
            final = replace(self.job, status=status, error=error, ended=ended)
            standing = await self._context.jobs.update(final, owner=self._context.owner)
            if not standing.is_held:  # it has not ended for the process that claimed it
                self._become_lost()
                return
        if not self.job.is_foreign:
            self._note(self._context.jobs.take_warning())
        # What is no longer needed would stay in memory for as long as the job is remembered.
        progress = self.job.progress and replace(self.job.progress, preview=None)
        plan = self.job.plan and replace(self.job.plan, payload=None)
        self._change(status=status, error=error, ended=ended, progress=progress, plan=plan)

    # -- cancelling -----------------------------------------------------------------------------------

    def cancel(self) -> asyncio.Task[None]:
        """Return the task that cancels the job at the engine, started if need be; it ends when the job has ended."""
        if self._cancelling is None:
            self._cancelling = self._task(self._cancel(), "cancel")
            progress = Progress(status=self.job.status, phase=CANCELLING)
            self._change(cancel_requested=True, cancel_error=NO_ANSWER, progress=progress)
        return self._cancelling

    async def _cancel(self) -> None:
        """Cancel at the engine until the job has ended; it may end with an image all the same."""
        if self.job.plan is None:  # nothing was sent
            await self._stop_working()
        await self._insist()
        if self._has_work and not self.is_submitted:  # the request that submits it is on its way, or hangs
            await self._settle()
            if self._has_work and self.is_submitted:
                await self._insist()
            else:
                await self._stop_working()
        if self._work and self._has_work:
            await asyncio.wait({self._work})
        if not self.job.status.is_final and not self.is_lost:
            problem = ""
            if self.job.plan:  # a request that was cut off may have reached the engine meanwhile
                _, problem = await self._try_cancel()
            await self._end(JobStatus.CANCELLED, outcomes.cancelled(self.job, problem))

    @property
    def _has_work(self) -> bool:
        return self._work is not None and not self._work.done()

    async def _insist(self) -> None:
        """Repeat the cancel until the engine confirms it or the job has ended."""
        while self._has_work:
            is_gone, problem = await self._try_cancel()
            self._change(cancel_error=problem)
            if is_gone:
                return
            if problem and self._work and self._has_work:
                await asyncio.wait({self._work}, timeout=self._context.timings.cancel_pause)

    async def _try_cancel(self) -> tuple[bool, str]:
        """Ask the engine once; return whether it no longer works on the job, and a sentence if the request failed."""
        try:
            return await self._context.engine.cancel(self._context.ticket_of(self.job)), ""
        except ImageGenError as failure:
            return False, outcomes.cancel_failed(failure)
        except Exception as failure:  # an engine of another package may raise anything
            logger.exception("cancelling job %s", self.job.job_id)
            return False, outcomes.cancel_failed(f"{repr(failure)[:300]}.")

    async def _settle(self) -> None:
        """Return once the engine has taken the job after all, or the request has ended or taken too long."""
        deadline = time.monotonic() + self._context.timings.settle
        while self._work and self._has_work and not self.is_submitted and time.monotonic() < deadline:
            await asyncio.wait({self._work}, timeout=0.05)

    async def _stop_working(self) -> None:
        if self._work:
            await stop(self._work)

    # -- the lease ------------------------------------------------------------------------------------

    async def lose(self) -> None:
        """Stop: another process has claimed the job."""
        if not self._is_ending:
            await self.stop()
            self._become_lost()

    def _become_lost(self) -> None:
        self.is_lost = True
        self._change()  # the watchers continue with what the store says

    async def write_progress(self) -> None:
        """Store the progress for other processes, if it is news."""
        if self.job.progress is not self._written and not self._is_ending:
            self._written = self.job.progress
            await self._context.jobs.write_progress(self.job, owner=self._context.owner)

    async def stop(self) -> None:
        """Stop all tasks; the job at the engine continues."""
        await asyncio.gather(*(stop(task) for task in (self._work, self._cancelling) if task))

    async def finish(self, seconds: float) -> None:
        """Wait for what follows the job's end, if it has ended."""
        if self._work and self._has_work and self.job.status.is_final:
            await asyncio.wait({self._work}, timeout=seconds)

    # -- watching -------------------------------------------------------------------------------------

    def _change(self, **changes: Any) -> None:
        """Change the job and inform the watchers."""
        self.job = replace(self.job, **changes)
        for watcher in self._watchers:
            watcher.put_nowait(self.job)

    async def watch(self, *, seconds: float, heartbeat: float) -> AsyncIterator[Job]:
        """Yield the job now and at every change, until it has ended, is lost, or `seconds` are over.

        When nothing changes for `heartbeat` seconds the job is yielded as it is.
        """
        inbox = asyncio.Queue[Job]()
        deadline = time.monotonic() + seconds
        self._watchers.add(inbox)
        try:
            job = self.job
            yield job
            while not job.status.is_final and self._has_news and (left := deadline - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(min(left, heartbeat)):
                        job = await inbox.get()
                except TimeoutError:
                    job = self.job
                yield job
        finally:
            self._watchers.discard(inbox)

    @property
    def _has_news(self) -> bool:
        return not self.is_lost and (self.is_working or self.job.status.is_final)


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel the task and wait until it has ended."""
    task.cancel()
    if not task.done():
        await asyncio.wait({task})
