"""Runs jobs in the background; a call only watches."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.errors import (
    GenerationLost,
    GenerationTimeout,
    ImageGenError,
    JobOfAnother,
    QueueFull,
    UnexpectedError,
)
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan, Progress
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.generation import collect, generate
from mcp_image_gen_local.jobs import endings
from mcp_image_gen_local.jobs.entry import CANCELLING, Entry
from mcp_image_gen_local.jobs.roster import Roster
from mcp_image_gen_local.jobs.takeover import Takeover
from mcp_image_gen_local.jobs.withdrawal import tell, withdraw
from mcp_image_gen_local.storage.images import ImageStore
from mcp_image_gen_local.storage.journal import Journal

logger = logging.getLogger(__name__)

CANCEL_SECONDS = 10.0  #: how long a cancel waits for the engine to let go; it goes on in the background
WORD_SECONDS = 0.5  #: between another process's taking a job from the engine and its writing that down
CLOSING_SECONDS = 5.0  #: for what is done after a job's end
Work = Callable[[], Coroutine[Any, Any, None]]  #: called by the job's own task: no task, no work


class JobRunner:
    """The jobs of this process, and those that earlier ones left behind."""

    def __init__(
        self,
        engine: Engine,
        store: ImageStore,
        journal: Journal,
        *,
        timeout_seconds: float,
        max_queue: int | None = None,
        when_done: Callable[[Job], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Prepare to run jobs.

        Args:
            engine: generates.
            store: takes the images.
            journal: keeps what must outlive this process.
            timeout_seconds: after which a job that has not ended is withdrawn.
            max_queue: jobs that may run or wait, here and at the engine; None is no limit.
            when_done: called when a job's images are on disk and told.
        """
        self._engine = engine
        self._store = store
        self._journal = journal
        self._timeout = timeout_seconds
        self._max_queue = max_queue
        self._when_done = when_done
        self._roster = Roster(journal, self._take_back)
        self._takeover = Takeover(engine, journal, self._roster, self._go_on)
        self._turnstile = asyncio.Lock()
        self._admitted: list[Entry] = []  #: passed the turnstile, and not yet at the engine when last looked at

    # -- a job's life ---------------------------------------------------------------------------------

    def start(self, request: GenerationRequest) -> str:
        """Begin to generate and return the prompt_id, ours and the engine's.

        Raises:
            QueueFull: as many jobs of this process have not ended as IMAGE_GEN_MAX_QUEUE allows.
        """
        self._refuse_beyond_limit(sum(entry.at_work for entry in self._roster))
        self._takeover.look_for_orphans()
        job = Job(prompt_id=str(uuid.uuid4()), engine=self._engine.name, url=self._engine.url, asked=request.to_dict())
        entry = self._roster.add(job)
        entry.started_here, entry.is_owned, entry.at_engine = True, True, False
        self._run(entry, lambda: self._generate(entry, request))
        return entry.prompt_id

    async def _generate(self, entry: Entry, request: GenerationRequest) -> None:
        if self._max_queue is not None:
            await self._admit(entry)
        await entry.enlist(image_count=request.batch_size)
        await generate(self._engine, self._store, request, entry)

    async def _admit(self, entry: Entry) -> None:
        """Let the job pass if there is room for it, one after the other."""
        async with self._turnstile:
            on_their_way = sum(e.at_work and not e.at_engine for e in self._admitted)
            self._refuse_beyond_limit(await self._engine.waiting() + on_their_way)
            self._admitted = [e for e in self._admitted if e.at_work and not e.at_engine] + [entry]

    def _refuse_beyond_limit(self, waiting: int) -> None:
        if self._max_queue is not None and waiting >= self._max_queue:
            raise QueueFull(
                f"{waiting} jobs run or wait already; IMAGE_GEN_MAX_QUEUE allows {self._max_queue}.",
                hint="Wait until one has ended, then call again. Nothing was queued.",
            )

    def _run(self, entry: Entry, work: Work) -> None:
        entry.task = asyncio.create_task(self._finish(entry, work), name=f"job-{entry.prompt_id}")
        entry.task.add_done_callback(lambda _: entry.retire())
        self._roster.keep_alive()

    async def _finish(self, entry: Entry, work: Work) -> None:
        """Do the work and note how it ended."""
        entry.bound = asyncio.timeout(self._timeout)
        try:
            async with entry.bound:
                await work()
            endings.note_what_is_missing(entry)
            await entry.end(JobStatus.DONE)
        except ImageGenError as error:
            await self._end(entry, error)
        except Exception as error:
            if entry.bound.expired():
                await entry.end(JobStatus.FAILED, await self._time_out(entry), for_all=entry.started_here)
            else:
                logger.exception("job %s", entry.prompt_id)
                failure = UnexpectedError(
                    f"An unexpected error: {repr(error)[:300]}.", hint="Please report it with the log."
                )
                await self._end(entry, failure)
        logger.info("job %s: %s", entry.prompt_id, entry.job.status)
        if entry.job.status is JobStatus.DONE and self._when_done:
            await self._when_done(entry.job)

    async def _end(self, entry: Entry, error: ImageGenError) -> None:
        ending = endings.of_error(error, entry, await self._elsewhere(entry, error))
        # What another try may mend is our own trouble: the process that looks after the job may well save the image.
        for_all = entry.is_owned or not isinstance(error, endings.WORTH_ANOTHER_TRY)
        await entry.end(*ending, for_all=for_all)

    async def _elsewhere(self, entry: Entry, error: ImageGenError) -> Job | None:
        """Return the job as another process may have written it down that took it from the engine."""
        if not isinstance(error, GenerationLost) or entry.withdrawal:
            return None
        await asyncio.sleep(WORD_SECONDS)
        return await self._journal.get(entry.prompt_id)

    async def _time_out(self, entry: Entry) -> GenerationTimeout:
        said = f"The job {entry.prompt_id} did not end within {self._timeout:g} s and was "
        hint = "Raise IMAGE_GEN_JOB_TIMEOUT_SECONDS, or ask for fewer steps or a smaller image."
        if not entry.started_here:
            hint = "Ask for it again later."
            return GenerationTimeout(f"{said}left alone: another server or client queued it.", hint=hint)
        is_gone, trouble = await tell(self._engine, entry.prompt_id)
        if not is_gone:
            trouble = (
                trouble or "The engine has not let go of it yet; it stops at the end of the step or load it is in."
            )
            hint = f"{trouble} {hint}"
        return GenerationTimeout(f"{said}withdrawn.", hint=hint)

    async def watch(self, prompt_id: str, *, seconds: float, heartbeat: float = 5.0) -> AsyncIterator[Job]:
        """Yield the job now and at every change, until it has ended or `seconds` are over.

        When nothing changes for `heartbeat` seconds the job is yielded as it is.
        """
        entry, inbox = self._roster[prompt_id], asyncio.Queue[Job]()
        deadline = time.monotonic() + seconds
        entry.watchers.add(inbox)
        try:
            job = entry.job
            yield job
            while entry.has_news(job) and (left := deadline - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(min(left, heartbeat)):
                        job = await inbox.get()
                except TimeoutError:
                    job = entry.job
                yield job
        finally:
            entry.watchers.discard(inbox)

    # -- jobs of other processes ----------------------------------------------------------------------

    async def find(self, prompt_id: str) -> Job:
        """Return the job, wherever it was begun; one that this process does not work on is taken over.

        Raises:
            PromptUnknown: neither we nor the journal nor the engine know it.
            EngineUnreachable: whether it has ended is to be asked of the engine, and that does not answer.
        """
        return await self._takeover.find(prompt_id)

    def _go_on(self, entry: Entry, plan: Plan, is_new: bool) -> None:
        self._run(entry, lambda: self._collect(entry, plan, is_new=is_new))

    async def _collect(self, entry: Entry, plan: Plan, *, is_new: bool) -> None:
        if is_new:
            await entry.enlist(image_count=endings.batch_size(plan))
        await collect(self._engine, self._store, entry.job.plan or plan, entry)

    # -- cancelling -----------------------------------------------------------------------------------

    async def cancel(self, prompt_id: str, *, seconds: float = CANCEL_SECONDS) -> Job:
        """Take the job back from the engine and return it as it stands then; an ended job stays as it is.

        While the engine does not let go (it may be loading a model) the job is "cancelling"; after `seconds` that is
        returned, and the withdrawal goes on until the job has ended.

        Raises:
            PromptUnknown, EngineUnreachable: as `find`.
            JobOfAnother: another client of the engine queued it.
        """
        await self.find(prompt_id)
        entry = self._roster[prompt_id]
        if entry.job.status.is_final:
            return entry.job
        if not entry.ours:
            raise JobOfAnother(
                f"The job {prompt_id} was queued by another client of {self._engine.url}; it is left alone.",
                hint="Cancel it there, or in ComfyUI's own window.",
            )
        await asyncio.wait({self._take_back(entry)}, timeout=seconds)
        return entry.job

    def _take_back(self, entry: Entry) -> asyncio.Task[None]:
        """Return the task that takes the job back from the engine, begun if need be."""
        if entry.withdrawal is None or (entry.withdrawal.done() and not entry.job.status.is_final):
            entry.withdrawal = asyncio.create_task(withdraw(self._engine, entry), name=f"withdraw-{entry.prompt_id}")
            entry.withdrawal.add_done_callback(lambda _: entry.retire())
            entry.update(untold="The engine has not answered yet.")
            entry.progressed(Progress(status=entry.job.status, phase=CANCELLING))
        return entry.withdrawal

    # -- house-keeping --------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Stop working on all jobs; what runs at the engine goes on there and can be found again by its prompt_id."""
        if ending := [e.task for e in self._roster if e.task and e.job.status.is_final and not e.task.done()]:
            await asyncio.wait(ending, timeout=CLOSING_SECONDS)  # their images are told; they tidy up
        await self._takeover.aclose()
        await self._roster.aclose()
