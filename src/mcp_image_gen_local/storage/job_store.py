"""What a job store does; `sqlite_jobs` keeps jobs in a file that all servers of a user share, `memory_jobs` in memory.

Only the process that holds a job's lease writes to it. All others read, and leave requests: to cancel, to show
progress. A store that cannot be used costs history and never an image: no method raises, and the holder continues.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mcp_image_gen_local.domain.job import CallEnd, Job, JobStatus

RESTORED_SECONDS = 15.0  #: lease of a job that is stored again because the store was deleted; a heartbeat renews it
FAR_SECONDS = 3_600.0  #: a lease that ends later than this is one of a clock that was set back


@dataclass(frozen=True)
class Standing:
    """What a holder learns when it writes."""

    is_held: bool = True  #: False: another process has claimed the job, so stop
    cancel_requested: bool = False


@dataclass(frozen=True)
class Beat:
    """What a holder learns with each heartbeat."""

    lost: frozenset[str] = field(default=frozenset())  #: jobs that another process has claimed
    cancel_requested: frozenset[str] = field(default=frozenset())
    watched: frozenset[str] = field(default=frozenset())  #: jobs whose progress another process wants to see


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A job whose call ended without an answer."""

    job_id: str
    at: float  #: seconds since 1970 when the call ended
    end: CallEnd


class JobStore(Protocol):
    """The jobs of one user; times are seconds since 1970.

    Attributes:
        problem: What is wrong with the store, in a sentence for the user; empty while it works.
    """

    problem: str

    async def create(self, job: Job, *, image_count: int, owner: str, seconds: float) -> Job | None:
        """Store a new job, leased to `owner` for `seconds`; return it with its `filename_ms`.

        None: another process has stored it first. No two images of all jobs share a `filename_ms`.
        """
        ...

    async def claim(self, job_id: str, *, owner: str, seconds: float) -> Job | None:
        """Lease the job to `owner` if no other owner holds it, atomically; None if one does, or it is unknown.

        A job that has ended begins again without its cancel request.
        """
        ...

    async def renew(self, job_ids: Collection[str], *, owner: str, seconds: float) -> Beat:
        """Extend the leases of these jobs; return what others want of them."""
        ...

    async def release(self, job_ids: Collection[str], *, owner: str) -> None:
        """End the leases of these jobs: another process may claim them at once."""
        ...

    async def update(self, job: Job, *, owner: str) -> Standing:
        """Store the job's state if `owner` holds its lease; an ended job's lease ends with it."""
        ...

    async def write_progress(self, job: Job, *, owner: str) -> None:
        """Store the job's progress and preview for those who watch, if `owner` holds its lease."""
        ...

    async def request_cancel(self, job_id: str) -> None:
        """Ask the holder to cancel the job; a flag, not a status."""
        ...

    async def leave(self, orphan: Orphan, *, caller: str) -> bool:
        """Note whose call ended without an answer; False if that cannot be noted."""
        ...

    async def take(
        self, request: Mapping[str, Any], *, engine: str, url: str, caller: str, seconds: float
    ) -> Orphan | None:
        """Return the job that the caller left with the same request during the last `seconds`; it is left no longer.

        The newest, if there are several; no job that failed, was lost or cancelled. Atomic: one of several callers
        gets it.
        """
        ...

    async def hand_over(self, job_id: str) -> None:
        """Note that a caller has the job's image."""
        ...

    async def watch(self, job_id: str, *, seconds: float) -> Job | None:
        """Return the job, and ask its holder for progress during the next `seconds`."""
        ...

    async def get(self, job_id: str) -> Job | None:
        """Return the job; None if it is not known, or nothing can be read."""
        ...

    async def unfinished(self, engine: str, url: str) -> Sequence[Job]:
        """Return the engine's jobs that have not ended, oldest first."""
        ...

    async def recent(self, limit: int, statuses: Collection[JobStatus] = ()) -> Sequence[Job]:
        """Return the newest jobs, the newest first; only those of the given statuses, if any are given."""
        ...

    async def forget(self, job_ids: Collection[str]) -> None:
        """Delete the jobs."""
        ...

    def is_leased(self, job: Job) -> bool:
        """Return True while a process holds the job's lease."""
        ...

    def take_warning(self) -> str:
        """Return what the user should know of the store, once for each time it went wrong; mostly empty."""
        ...

    async def aclose(self) -> None:
        """Close the store; harmless when it is closed."""
        ...


def is_live(lease_until: float, now: float) -> bool:
    """Return True while a lease has not expired."""
    return 0 < lease_until - now <= FAR_SECONDS
