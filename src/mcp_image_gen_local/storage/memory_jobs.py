"""A job store in memory: for tests, and for one process that keeps no history."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mcp_image_gen_local.domain.job import Job, JobStatus, Progress
from mcp_image_gen_local.storage.job_store import RESTORED_SECONDS, Beat, Orphan, Standing, is_live


@dataclass
class _Row:
    job: Job  #: its lease is that of the owner
    image_count: int
    owner: str
    watched_until: float = 0.0  #: seconds since 1970
    orphan: Orphan | None = None
    caller: str = ""  #: whose call left it


class MemoryJobs:
    """A `JobStore` whose jobs end with the process."""

    problem = ""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._rows: dict[str, _Row] = {}

    async def create(self, job: Job, *, image_count: int, owner: str, seconds: float) -> Job | None:
        """Store a new job, leased to `owner`; None if it is stored already."""
        if job.job_id in self._rows:
            return None
        now = self._clock()
        job = replace(job, lease_until=now + seconds, filename_ms=self._free_name(int(now * 1000), image_count))
        self._rows[job.job_id] = _Row(job, image_count, owner)
        return job

    def _free_name(self, first: int, count: int) -> int:
        taken = [(row.job.filename_ms, row.job.filename_ms + row.image_count) for row in self._rows.values()]
        while clash := [end for start, end in taken if start < first + count and end > first]:
            first = max(clash)
        return first

    async def claim(self, job_id: str, *, owner: str, seconds: float) -> Job | None:
        """Lease the job to `owner` if no other owner holds it; None if one does, or it is unknown."""
        row = self._rows.get(job_id)
        if row is None or (row.owner not in ("", owner) and self.is_leased(row.job)):
            return None
        row.owner = owner
        requested = row.job.cancel_requested and not row.job.status.is_final
        row.job = replace(row.job, lease_until=self._clock() + seconds, cancel_requested=requested)
        return row.job

    async def renew(self, job_ids: Collection[str], *, owner: str, seconds: float) -> Beat:
        """Extend the leases of these jobs; return what others want of them."""
        known = {job_id: self._rows[job_id] for job_id in job_ids if job_id in self._rows}
        held = {job_id: row for job_id, row in known.items() if row.owner == owner}
        now = self._clock()
        for row in held.values():
            row.job = replace(row.job, lease_until=now + seconds)
        return Beat(
            lost=frozenset(known.keys() - held.keys()),
            cancel_requested=frozenset(job_id for job_id, row in held.items() if row.job.cancel_requested),
            watched=frozenset(job_id for job_id, row in held.items() if row.watched_until > now),
        )

    async def release(self, job_ids: Collection[str], *, owner: str) -> None:
        """End the leases of these jobs."""
        for job_id in job_ids:
            if (row := self._rows.get(job_id)) and row.owner == owner:
                row.owner, row.job = "", replace(row.job, lease_until=0.0)

    async def update(self, job: Job, *, owner: str) -> Standing:
        """Store the job's state if `owner` holds its lease."""
        row = self._rows.get(job.job_id)
        if row is None:
            leased = replace(job, lease_until=self._clock() + RESTORED_SECONDS)
            row = self._rows[job.job_id] = _Row(leased, max(1, len(job.images)), owner)
        if row.owner != owner:
            return Standing(is_held=False)
        requested, lease = row.job.cancel_requested, row.job.lease_until
        plan = job.plan and replace(job.plan, payload=None)
        row.job = replace(job, plan=plan, progress=row.job.progress, cancel_requested=requested, lease_until=lease)
        if job.status.is_final:
            row.owner, row.job = "", replace(row.job, progress=None, lease_until=0.0)
        return Standing(cancel_requested=requested)

    async def write_progress(self, job: Job, *, owner: str) -> None:
        """Store the job's progress and preview, if `owner` holds its lease."""
        row = self._rows.get(job.job_id)
        if row and row.owner == owner:
            progress: Progress | None = job.progress
            row.job = replace(row.job, status=job.status, progress=progress)

    async def request_cancel(self, job_id: str) -> None:
        """Ask the holder to cancel the job."""
        if row := self._rows.get(job_id):
            row.job = replace(row.job, cancel_requested=True)

    async def leave(self, orphan: Orphan, *, caller: str) -> bool:
        """Note whose call ended without an answer."""
        if row := self._rows.get(orphan.job_id):
            row.orphan, row.caller = orphan, caller
        return row is not None

    async def take(
        self, request: Mapping[str, Any], *, engine: str, url: str, caller: str, seconds: float
    ) -> Orphan | None:
        """Return the job that the caller left with the same request during the last `seconds`."""
        wanted, since = (request, engine, url, caller), self._clock() - seconds
        rows = [row for row in self._rows.values() if row.orphan and row.orphan.at > since and _is_takable(row.job)]
        for row in sorted(rows, key=lambda row: row.orphan.at if row.orphan else 0, reverse=True):
            if (row.job.request, row.job.engine, row.job.url, row.caller) == wanted:
                orphan, row.orphan = row.orphan, None
                return orphan
        return None

    async def hand_over(self, job_id: str) -> None:
        """Note that a caller has the job's image."""
        if row := self._rows.get(job_id):
            row.orphan = None

    async def watch(self, job_id: str, *, seconds: float) -> Job | None:
        """Return the job, and ask its holder for progress during the next `seconds`."""
        if (row := self._rows.get(job_id)) and row.owner:
            row.watched_until = self._clock() + seconds
        return await self.get(job_id)

    async def get(self, job_id: str) -> Job | None:
        """Return the job; None if it is not known."""
        row = self._rows.get(job_id)
        return row.job if row else None

    async def unfinished(self, engine: str, url: str) -> list[Job]:
        """Return the engine's jobs that have not ended, oldest first."""
        jobs = [row.job for row in self._rows.values()]
        return [job for job in jobs if not job.status.is_final and (job.engine, job.url) == (engine, url)]

    async def recent(self, limit: int, statuses: Collection[JobStatus] = ()) -> list[Job]:
        """Return the newest jobs, the newest first; only those of the given statuses, if any are given."""
        jobs = [row.job for row in reversed(self._rows.values())]
        return [job for job in jobs if not statuses or job.status in statuses][:limit]

    async def forget(self, job_ids: Collection[str]) -> None:
        """Delete the jobs."""
        for job_id in job_ids:
            self._rows.pop(job_id, None)

    def is_leased(self, job: Job) -> bool:
        """Return True while a process holds the job's lease."""
        return is_live(job.lease_until, self._clock())

    def take_warning(self) -> str:
        """Return nothing: memory works."""
        return ""

    async def aclose(self) -> None:
        """Keep everything: as a file would."""


def _is_takable(job: Job) -> bool:
    return not job.cancel_requested and (not job.status.is_final or job.status is JobStatus.DONE)
