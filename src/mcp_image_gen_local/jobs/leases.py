"""The jobs whose leases this process holds, and the newest of those that have ended."""

import asyncio

from mcp_image_gen_local.domain.job import Job
from mcp_image_gen_local.jobs.active_job import ActiveJob, Events, stop
from mcp_image_gen_local.jobs.context import JobContext

MAX_REMEMBERED = 256  #: ended jobs; older ones are read from the store again


class Leases:
    """Active jobs by id; renews their leases while there are any, and passes on what other processes request."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._active: dict[str, ActiveJob] = {}
        self._ended: dict[str, Job] = {}
        self._heartbeat: asyncio.Task[None] | None = None

    def active(self, job_id: str) -> ActiveJob | None:
        """Return the job if this process works on it and has not lost its lease."""
        active = self._active.get(job_id)
        return None if active and active.is_lost else active

    def ended(self, job_id: str) -> Job | None:
        """Return the job if it ended in this process not too long ago."""
        return self._ended.get(job_id)

    def all_active(self) -> list[ActiveJob]:
        """Return the jobs that this process works on, oldest first."""
        return list(self._active.values())

    def begin(self, job: Job, events: Events, *, is_stored: bool) -> ActiveJob:
        """Return the job, now active; `is_stored` says that its lease is in the store."""
        active = self._active[job.job_id] = ActiveJob(self._context, job, is_stored=is_stored)
        self._ended.pop(job.job_id, None)
        active.start(events, self._retire)
        if self._heartbeat is None or self._heartbeat.done():
            self._heartbeat = asyncio.create_task(self._beat(), name="heartbeat")
        return active

    def remember(self, job: Job) -> Job:
        """Return the ended job, now the last to be forgotten."""
        self._ended.pop(job.job_id, None)
        self._ended[job.job_id] = job
        while len(self._ended) > MAX_REMEMBERED:
            self._ended.pop(next(iter(self._ended)))
        return job

    def _retire(self, active: ActiveJob) -> None:
        """Let go of a job that no task works on: its tasks hold the context of the call that began it."""
        if self._active.get(active.job.job_id) is active:
            del self._active[active.job.job_id]
        if active.job.status.is_final:
            self.remember(active.job)

    async def _beat(self) -> None:
        while self._active:
            await asyncio.sleep(self._context.timings.heartbeat)
            held = {job_id: active for job_id, active in self._active.items() if not active.job.status.is_final}
            if not held:
                continue
            beat = await self._context.jobs.renew(
                list(held), owner=self._context.owner, seconds=self._context.timings.lease
            )
            for job_id, active in held.items():
                if job_id in beat.lost:
                    await active.lose()
                elif job_id in beat.cancel_requested and not active.job.cancel_requested:
                    active.cancel()
                if job_id in beat.watched:
                    await active.write_progress()

    async def aclose(self) -> None:
        """Stop all work and release the leases: the next process can claim the jobs at once."""
        for active in self.all_active():
            await active.finish(self._context.timings.closing)
        orphans = [active.job.job_id for active in self.all_active()]
        if self._heartbeat:
            await stop(self._heartbeat)
        await asyncio.gather(*(active.stop() for active in self.all_active()))
        if orphans:
            await self._context.jobs.release(orphans, owner=self._context.owner)
