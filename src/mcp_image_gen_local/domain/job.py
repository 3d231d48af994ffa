"""A generation with a life of its own."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from mcp_image_gen_local.domain.errors import ImageGenError
from mcp_image_gen_local.domain.image import SavedImage


class JobStatus(StrEnum):
    """The state of a job."""

    QUEUED = "queued"  #: waits at the engine, or is being sent to it
    RUNNING = "running"  #: the engine loads the model or generates
    DONE = "done"  #: the images are on disk
    FAILED = "failed"  #: ended with an error
    CANCELLED = "cancelled"  #: ended by a cancel request
    LOST = "lost"  #: the engine no longer knows it: restarted, or its queue was cleared
    UNKNOWN = "unknown"  #: neither this server nor the engine knows this prompt_id

    @property
    def is_final(self) -> bool:
        """True when nothing more will happen to the job."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


class CallEnd(StrEnum):
    """How a call ended that got no answer."""

    CANCELLED = "cancelled"  #: its client wants no image any more
    TIMED_OUT = "timed_out"  #: its client waits no longer, and may ask again
    GONE = "gone"  #: its client was closed, crashed, or was restarted


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One thing that happened to a job at the engine."""

    status: JobStatus
    phase: str  #: for people: "waiting in the queue", "loading the model", "generating", "decoding"
    step: int | None = None  #: sampling step just finished, 1..steps; never falls within a job
    steps: int | None = None  #: sampling steps in all, those of every image of a batch
    queue_position: int | None = None  #: 1 = next after the running job
    preview: bytes | None = field(default=None, repr=False)  #: small PNG or JPEG of the unfinished image

    def describe(self) -> str:
        """Return one short phrase, e.g. "generating, step 2/4"."""
        if self.queue_position is not None:
            return f"{self.phase}, position {self.queue_position}"
        if self.step is not None:
            return f"{self.phase}, step {self.step}/{self.steps}"
        return self.phase


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the engine will do for a request: every default filled in, every correction noted."""

    model: str  #: file name at the engine
    seed: int | None  #: of the first image; None when a foreign workflow does not hold one
    width: int | None = None  #: pixels
    height: int | None = None  #: pixels
    steps: int | None = None  #: sampling steps of one image
    batch_size: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)  #: prompt, cfg, sampler ...: for the image's metadata
    notes: tuple[str, ...] = ()  #: corrections and cautions, one sentence each
    payload: object = field(default=None, repr=False)  #: the engine's own, never stored: a graph, a request body

    def provenance(self) -> dict[str, Any]:
        """Return the values for the image's metadata."""
        known = {"model": self.model, "seed": self.seed, "width": self.width, "height": self.height}
        return {**self.extra, **known, "steps": self.steps, "batch_size": self.batch_size}


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What finds a submitted job again, in any process."""

    host: str  #: which of several hosts has it
    id: str  #: the engine's own id; the job's where the engine takes ours
    data: Mapping[str, Any] = field(default_factory=dict)  #: the engine's own, as JSON takes it


@dataclass(frozen=True, kw_only=True)
class Job:
    """A snapshot of one generation."""

    job_id: str  #: uuid4, minted here; the tools call it prompt_id
    engine: str
    url: str = ""  #: the engine's address
    status: JobStatus = JobStatus.QUEUED
    request: Mapping[str, Any] | None = None  #: as JSON; None for a job of another client of the engine
    progress: Progress | None = None  #: newest
    plan: Plan | None = None  #: None until the engine has resolved the request; nothing was sent before that
    ticket: Ticket | None = None  #: None until the engine has taken the job
    images: tuple[SavedImage, ...] = ()  #: on disk, by index; before the end those saved so far
    notes: tuple[str, ...] = ()  #: what the reader must know of the result, one sentence each
    error: ImageGenError | None = None
    cancel_requested: bool = False
    cancel_error: str = ""  #: why the newest cancel request to the engine failed, a sentence
    requeues: int = 0  #: how often it was sent to the engine again, as the engine had lost it
    created: float = field(default_factory=time.time)  #: seconds since 1970, by the wall clock
    lease_until: float = 0.0  #: seconds since 1970: until then one process works on it; 0: none does
    filename_ms: int = 0  #: milliseconds since 1970 that name the first image's file; unique in the store; 0: none yet
    started: float = field(default_factory=time.monotonic)  #: seconds on the monotonic clock of this process
    ended: float | None = None  #: likewise

    @property
    def created_at(self) -> datetime:
        """When the job was created, in local time with its offset."""
        return datetime.fromtimestamp(self.created, UTC).astimezone()

    @property
    def seconds(self) -> float:
        """Seconds from the call to the end, or to now."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def is_foreign(self) -> bool:
        """True for a job that another client of the engine queued."""
        return self.request is None
