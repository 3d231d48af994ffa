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
    """Where a job stands."""

    QUEUED = "queued"  #: waits at the engine, or is being sent there
    RUNNING = "running"  #: the engine loads the model or generates
    DONE = "done"  #: the images are on disk
    FAILED = "failed"  #: ended with an error
    CANCELLED = "cancelled"  #: ended by somebody's wish
    LOST = "lost"  #: the engine forgot it: restarted, or its queue was cleared
    UNKNOWN = "unknown"  #: neither we nor the engine know this prompt_id

    @property
    def is_final(self) -> bool:
        """True when nothing more will happen to the job."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One thing that happened to a job at the engine."""

    status: JobStatus
    phase: str  #: for people: "waiting in the queue", "loading the model", "generating", "decoding"
    step: int | None = None  #: sampling step just finished, 1..steps
    steps: int | None = None  #: sampling steps in all
    queue_position: int | None = None  #: 1 = next after what runs now
    preview: bytes | None = field(default=None, repr=False)  #: small PNG or JPEG of the image so far

    def describe(self) -> str:
        """Return one short phrase, e.g. "generating, step 2/4"."""
        if self.queue_position is not None:
            return f"{self.phase}, position {self.queue_position}"
        if self.step is not None:
            return f"{self.phase}, step {self.step}/{self.steps}"
        return self.phase


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the engine will really do for a request: every default filled in, every correction told."""

    seed: int | None  #: None when a foreign workflow does not tell one
    model: str  #: file name at the engine
    settings: dict[str, object]  #: prompt, steps, cfg ...: what to write into the image's metadata
    notes: tuple[str, ...] = ()  #: corrections and cautions, one sentence each
    payload: object = field(default=None, repr=False)  #: the engine's own: a graph, a request body


@dataclass(frozen=True, kw_only=True)
class Job:
    """A snapshot of one generation."""

    prompt_id: str  #: uuid4, ours and the engine's
    engine: str
    url: str = ""  #: where the engine answers
    status: JobStatus = JobStatus.QUEUED
    asked: Mapping[str, Any] | None = None  #: the request as JSON; None for a job of another client of the engine
    progress: Progress | None = None  #: newest
    plan: Plan | None = None  #: None until the engine has resolved the request; nothing was sent before that
    images: tuple[SavedImage, ...] = ()  #: on disk, by index; before the end those that were saved so far
    notes: tuple[str, ...] = ()  #: what the reader must know of the result, one sentence each
    error: ImageGenError | None = None
    untold: str = ""  #: while it is being cancelled: why the engine could not be told yet, a sentence
    created: float = field(default_factory=time.time)  #: seconds since 1970, by the clock on the wall
    touched: float = field(default_factory=time.time)  #: when a process at work on it last said so; 0: none does
    stamp: int = 0  #: milliseconds since 1970 that name the first image's file; unique in the journal; 0: none yet
    started: float = field(default_factory=time.monotonic)  #: seconds on the monotonic clock of this process
    ended: float | None = None  #: likewise

    @property
    def begun(self) -> datetime:
        """When the job was begun, in local time with its offset."""
        return datetime.fromtimestamp(self.created, UTC).astimezone()

    @property
    def seconds(self) -> float:
        """Seconds from the call to the end, or to now."""
        return (self.ended or time.monotonic()) - self.started
