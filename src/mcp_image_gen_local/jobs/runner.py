"""Runs jobs in the background; a call only watches."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

from mcp_image_gen_local.domain.errors import JobOfAnother, QueueFull
from mcp_image_gen_local.domain.job import Job
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.generation import Event, generate
from mcp_image_gen_local.jobs.active_job import ActiveJob
from mcp_image_gen_local.jobs.context import JobContext
from mcp_image_gen_local.jobs.leases import Leases
from mcp_image_gen_local.jobs.recovery import Recovery
from mcp_image_gen_local.jobs.requeueing import with_second_run


class JobRunner:
    """The jobs of this process, and those that earlier ones left behind."""

    def __init__(self, context: JobContext, *, max_queue: int | None = None) -> None:
        """Prepare to run jobs; at most `max_queue` may be queued and running at the engine, None is no limit."""
        self._context = context
        self._max_queue = max_queue
        self._leases = Leases(context)
        self._recovery = Recovery(context, self._leases)
        self._admission = asyncio.Lock()
        self._admitting: list[ActiveJob] = []  #: admitted, and not yet at the engine when last looked at

    # -- a job's life ---------------------------------------------------------------------------------

    def start(self, request: GenerationRequest) -> str:
        """Begin to generate and return the job's id.

        Raises:
            QueueFull: IMAGE_GEN_MAX_QUEUE jobs of this process have not ended.
        """
        self._refuse_beyond_limit(sum(not each.job.status.is_final for each in self._leases.all_active()))
        self._recovery.search()
        engine = self._context.engine
        job = Job(job_id=str(uuid.uuid4()), engine=engine.name, url=engine.url, request=request.to_dict())
        events = with_second_run(self._context, lambda active: self._generate(active, request))
        self._leases.begin(job, events, is_stored=False)
        return job.job_id

    async def _generate(self, active: ActiveJob, request: GenerationRequest) -> AsyncIterator[Event]:
        if self._max_queue is not None:
            await self._admit(active)
        await active.create(request.batch_size)
        async for event in generate(self._context.engine, self._context.inputs, request, active.target):
            yield event

    async def _admit(self, job: ActiveJob) -> None:
        """Admit the job if there is room for it, one after the other."""
        async with self._admission:
            waiting = [each for each in self._admitting if each.is_working and not each.is_submitted]
            self._refuse_beyond_limit(await self._context.engine.queue_length() + len(waiting))
            self._admitting = [*waiting, job]

    def _refuse_beyond_limit(self, count: int) -> None:
        if self._max_queue is not None and count >= self._max_queue:
            raise QueueFull(
                f"{count} jobs are queued or running; IMAGE_GEN_MAX_QUEUE allows {self._max_queue}.",
                hint="Wait until one has ended, then call again. Nothing was queued.",
            )

    async def watch(self, job_id: str, *, seconds: float, heartbeat: float = 5.0) -> AsyncIterator[Job]:
        """Yield the job now and at every change, until it has ended or `seconds` are over.

        A job that another process holds is read from the store, with the progress that its holder writes there. When
        nothing changes for `heartbeat` seconds the job is yielded as it is.

        Raises:
            PromptUnknown, EngineUnreachable: as `find`.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            if active := self._leases.active(job_id):
                async for job in active.watch(seconds=left, heartbeat=heartbeat):
                    yield job
            else:
                job = self._leases.ended(job_id) or await self._look(job_id)
                yield job
            if job.status.is_final or (left := deadline - time.monotonic()) <= 0:
                return
            if not self._leases.active(job_id):
                await asyncio.sleep(min(left, self._context.timings.poll))

    async def _look(self, job_id: str) -> Job:
        """Return a job that another process may hold; if none does, claim it."""
        job = await self._context.jobs.watch(job_id, seconds=self._context.timings.watch)
        return job if job and self._context.jobs.is_leased(job) else await self.find(job_id)

    async def find(self, job_id: str) -> Job:
        """Return the job, wherever it was begun; one that no process holds is claimed and continued.

        Raises:
            PromptUnknown: neither this process nor the store nor the engine knows it.
            EngineUnreachable: only the engine can say whether it has ended, and does not answer.
        """
        return await self._recovery.find(job_id)

    async def cancel(self, job_id: str, *, seconds: float | None = None) -> Job:
        """Cancel the job and return it as it is then; an ended job stays as it is.

        While the engine does not confirm (it may be loading a model) the job is "cancelling"; after `seconds` that is
        returned, and the cancel continues until the job has ended. None: 10 s.

        Raises:
            PromptUnknown, EngineUnreachable: as `find`.
            JobOfAnother: another client of the engine queued it.
        """
        seconds = self._context.timings.cancel if seconds is None else seconds
        job = await self.find(job_id)
        if job.status.is_final:
            return job
        if job.is_foreign:
            raise JobOfAnother(
                f"The job {job_id} was queued by another client of {self._context.engine.url}, so it was not "
                "cancelled.",
                hint="Cancel it there.",
            )
        await self._context.jobs.request_cancel(job_id)
        if active := self._leases.active(job_id):
            await asyncio.wait({active.cancel()}, timeout=seconds)
            if not active.is_lost:
                return active.job
        return [job async for job in self.watch(job_id, seconds=seconds)][-1]  # its holder sees the request

    async def aclose(self) -> None:
        """Stop working on all jobs; the engine continues, and another process can claim them by their id."""
        await self._recovery.aclose()
        await self._leases.aclose()
