"""What every job of a process needs."""

import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from mcp_image_gen_local.domain.engine import Engine, ImageReader
from mcp_image_gen_local.domain.job import Job, Ticket
from mcp_image_gen_local.storage.images import ImageStore
from mcp_image_gen_local.storage.job_store import JobStore


@dataclass(frozen=True, kw_only=True)
class Timings:
    """How long things may take, in seconds."""

    lease: float = 15.0  #: without a heartbeat, until another process may claim the job
    heartbeat: float = 1.0  #: between two renewals; cancel requests and progress of other processes wait as long
    poll: float = 0.5  #: between two looks at a job that another process holds
    watch: float = 5.0  #: for which one such look asks the holder for progress
    recovery: float = 60.0  #: at least between two searches for jobs that no process holds
    lookup_delays: tuple[float, ...] = (0.0, 0.2, 0.5)  #: before each try to find a job that may just be arriving
    cancel: float = 10.0  #: that a cancel call waits for the engine; the cancel continues in the background
    cancel_pause: float = 0.5  #: before a cancel request that failed is repeated
    settle: float = 2.0  #: for a request that submits the job to end, once the engine does not have the job
    fetch: float = 300.0  #: at least, for the images once they are generated, however long generating may take
    closing: float = 5.0  #: for what follows a job's end


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """The collaborators of all jobs of one process."""

    engine: Engine
    images: ImageStore  #: takes the finished images
    inputs: ImageReader  #: reads the images that requests name
    jobs: JobStore  #: keeps what must outlive this process
    title: str = "the engine"  #: its name for people
    timeout: float  #: seconds after which a job that has not ended is cancelled
    after_done: Callable[[Job], Coroutine[Any, Any, None]] | None = None  #: awaited when a job's images are on disk
    timings: Timings = field(default_factory=Timings)
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)  #: this process, as leases name it

    def ticket_of(self, job: Job) -> Ticket:
        """Return the job's ticket; before the engine has confirmed one, that of the id it was offered."""
        return job.ticket or Ticket(host=self.engine.url, id=job.job_id)
