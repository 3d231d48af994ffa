"""Jobs that this process did not begin: found in the store or at the engine, claimed, and continued."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

from mcp_image_gen_local.domain.errors import ImageGenError
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan
from mcp_image_gen_local.generation import Event, Submitted, collect, generate
from mcp_image_gen_local.jobs import outcomes
from mcp_image_gen_local.jobs.active_job import ActiveJob, Events, stop
from mcp_image_gen_local.jobs.context import JobContext
from mcp_image_gen_local.jobs.leases import Leases
from mcp_image_gen_local.jobs.requeueing import may_requeue, request_of, second_run, with_second_run

logger = logging.getLogger(__name__)


class Recovery:
    """Finds jobs by their id, and searches now and then for those whose process is gone."""

    def __init__(self, context: JobContext, leases: Leases) -> None:
        self._context = context
        self._leases = leases
        self._looking: dict[str, asyncio.Task[Job]] = {}  #: by job_id
        self._search: asyncio.Task[None] | None = None
        self._next_search = 0.0

    async def find(self, job_id: str) -> Job:
        """Return the job, wherever it was begun; one that no process holds is claimed and continued.

        Raises:
            PromptUnknown: neither this process nor the store nor the engine knows it.
            EngineUnreachable: only the engine can say whether it has ended, and does not answer.
        """
        if not outcomes.JOB_ID.fullmatch(job_id):
            raise outcomes.unknown(job_id, self._context.engine)
        self.search()
        return await self._once(job_id, lambda: self._find(job_id))

    async def _once(self, job_id: str, look: Callable[[], Coroutine[Any, Any, Job]]) -> Job:
        """Return what `look` finds; all who want the job meanwhile get the same answer, as it is half claimed."""
        task = self._looking.get(job_id)
        if task is None:
            task = self._looking[job_id] = asyncio.create_task(look(), name=f"find-{job_id}")
            task.add_done_callback(lambda _: self._looking.pop(job_id))
        try:
            return await asyncio.shield(task)
        except ImageGenError as error:
            raise error.anew() from None  # others may raise it as well

    async def _find(self, job_id: str) -> Job:
        if active := self._leases.active(job_id):
            return active.job
        known = self._leases.ended(job_id)
        if known is None or known.status is not JobStatus.DONE:  # another process may know more
            known = await self._context.jobs.get(job_id) or known
        if known is None:
            return await self._adopt(job_id)
        if await _is_settled(known):
            return self._leases.remember(known)
        return await self._claim(known)

    async def _claim(self, known: Job) -> Job:
        """Continue the job if no process holds it; return it as it is if one does."""
        engine, jobs = self._context.engine, self._context.jobs
        if (known.engine, known.url) != (engine.name, engine.url):
            if jobs.is_leased(known):
                return known
            raise outcomes.wrong_engine(known, engine)
        seconds = self._context.timings.lease
        claimed = await jobs.claim(known.job_id, owner=self._context.owner, seconds=seconds)
        if claimed is None and not jobs.problem:
            return await jobs.get(known.job_id) or known
        try:
            if claimed and await _is_settled(claimed):  # it ended just before the claim
                await jobs.release([known.job_id], owner=self._context.owner)
                return self._leases.remember(claimed)
            return await self._continue(claimed or known, is_held=claimed is not None)
        except BaseException:
            await jobs.release([known.job_id], owner=self._context.owner)
            raise

    async def _continue(self, job: Job, *, is_held: bool) -> Job:
        """Go on with a job: follow it, generate it if it was never sent or the engine lost it, or report its loss.

        Without its lease (the store does not work) another process may do the same: then it is not sent again.
        """
        if job.plan is None and not job.status.is_final:
            return await self._generate(job)
        plan, allowed = await self._lookup(job), is_held and may_requeue(job)
        if plan is None and not allowed:
            if job.cancel_requested:
                return await self._end(job, JobStatus.CANCELLED, outcomes.cancelled(job))
            return await self._end(job, JobStatus.LOST, outcomes.loss(job, self._context.engine))
        images = await asyncio.to_thread(outcomes.on_disk, job)
        status = JobStatus.QUEUED if job.status.is_final or plan is None else job.status
        job = replace(job, status=status, plan=job.plan or plan, images=images, error=None, ended=None)
        active = self._leases.begin(job, self._events(is_lost=plan is None, allowed=allowed), is_stored=True)
        if job.cancel_requested:
            active.cancel()
        return active.job

    def _events(self, *, is_lost: bool, allowed: bool) -> Events:
        if is_lost:
            return with_second_run(self._context, lambda active: second_run(self._context, active), allowed=False)
        return with_second_run(self._context, self._collect, allowed=allowed)

    async def _generate(self, job: Job) -> Job:
        """Generate a job that its process stored and never sent."""
        if job.cancel_requested:
            return await self._end(job, JobStatus.CANCELLED, outcomes.cancelled(job))
        request = request_of(job)
        if request is None:
            return await self._end(job, JobStatus.LOST, outcomes.loss(job, self._context.engine))
        context = self._context

        def events(active: ActiveJob) -> AsyncIterator[Event]:
            return generate(context.engine, context.inputs, request, active.target)

        return self._leases.begin(job, with_second_run(context, events), is_stored=True).job

    async def _end(self, job: Job, status: JobStatus, error: ImageGenError) -> Job:
        ended = replace(job, status=status, error=error, ended=time.monotonic())
        await self._context.jobs.update(ended, owner=self._context.owner)
        return self._leases.remember(ended)

    async def _lookup(self, job: Job) -> Plan | None:
        """Return what the engine knows of the job; one that may just be arriving is looked up again."""
        delays = self._context.timings.lookup_delays
        for delay in delays[:1] if job.status.is_final else delays:
            await asyncio.sleep(delay)
            if plan := await self._context.engine.lookup(self._context.ticket_of(job)):
                return plan
        return None

    async def _adopt(self, job_id: str) -> Job:
        """Follow a job that only the engine knows: another client queued it, or the store is gone."""
        engine = self._context.engine
        job = Job(job_id=job_id, engine=engine.name, url=engine.url)
        plan = await engine.lookup(self._context.ticket_of(job))
        if plan is None:
            raise outcomes.unknown(job_id, engine)
        job = replace(job, plan=plan, notes=plan.notes)
        owner, seconds = self._context.owner, self._context.timings.lease
        created = await self._context.jobs.create(job, image_count=plan.batch_size, owner=owner, seconds=seconds)
        if created is None:  # another process has found it first
            return await self._context.jobs.get(job_id) or job
        return self._leases.begin(created, with_second_run(self._context, self._collect), is_stored=True).job

    async def _collect(self, active: ActiveJob) -> AsyncIterator[Event]:
        ticket = self._context.ticket_of(active.job)
        if active.job.ticket is None:
            yield Submitted(ticket)
        if active.job.plan:
            async for event in collect(self._context.engine, active.job.plan, ticket, active.target):
                yield event

    # -- jobs whose process is gone -------------------------------------------------------------------

    def search(self) -> None:
        """Begin, if the last search is long enough ago, to search for jobs that no process holds."""
        if (self._search is None or self._search.done()) and time.monotonic() >= self._next_search:
            self._next_search = time.monotonic() + self._context.timings.recovery
            self._search = asyncio.create_task(self._recover(), name="recovery")

    async def _recover(self) -> None:
        """Continue the jobs that no process holds: their images are fetched and saved."""
        jobs, engine = self._context.jobs, self._context.engine
        while found := await jobs.unfinished(engine.name, engine.url):
            others = [job for job in found if not self._is_here(job.job_id)]
            for job in others:
                if not jobs.is_leased(job) and not await self._recover_one(job):
                    self._next_search = 0.0  # the next call tries again
                    return
            if not any(map(jobs.is_leased, others)):
                return
            await asyncio.sleep(self._context.timings.lease)  # whether their holders live

    def _is_here(self, job_id: str) -> bool:
        return bool(self._leases.active(job_id) or self._leases.ended(job_id))

    async def _recover_one(self, job: Job) -> bool:
        """Claim the job; return False if the engine does not answer."""
        try:
            await self._once(job.job_id, lambda: self._find(job.job_id))
        except ImageGenError as error:
            logger.info("job %s is not recovered yet: %s", job.job_id, error)
            return False
        except Exception:  # one odd job must not keep the others from being recovered
            logger.exception("job %s cannot be recovered", job.job_id)
        return True

    async def aclose(self) -> None:
        """Stop searching."""
        tasks = [self._search, *self._looking.values()]
        await asyncio.gather(*(stop(task) for task in tasks if task))


async def _is_settled(job: Job) -> bool:
    return await asyncio.to_thread(outcomes.is_settled, job)  # it looks for files
