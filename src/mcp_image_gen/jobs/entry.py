"""One job of this process: how it stands, who works on it, who watches."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mcp_image_gen.domain.errors import ImageGenError
from mcp_image_gen.domain.image import SavedImage
from mcp_image_gen.domain.job import Job, JobStatus, Plan, Progress
from mcp_image_gen.storage.journal import Journal

CANCELLING = "cancelling"  #: phase of a job that the engine has been asked to let go of


@dataclass(eq=False)
class Entry:
    """A job and its tasks; hears of the job's way and writes into the journal what must outlive this process."""

    job: Job
    journal: Journal
    task: asyncio.Task[None] | None = None  #: works on the job
    withdrawal: asyncio.Task[None] | None = None  #: takes it back from the engine
    watchers: set[asyncio.Queue[Job]] = field(default_factory=set)
    started_here: bool = False  #: by a call of this process
    at_engine: bool = True  #: the engine has taken it
    _writing: asyncio.Task[None] | None = None

    @property
    def prompt_id(self) -> str:
        """The job's id."""
        return self.job.prompt_id

    @property
    def stamp(self) -> int:
        """What names the first picture's file, milliseconds since 1970."""
        return self.job.stamp

    @property
    def ours(self) -> bool:
        """True for a job that this server, or one that shares its journal, has queued."""
        return self.job.asked is not None

    @property
    def at_work(self) -> bool:
        """True while a task of this process works on the job."""
        return self.task is not None and not self.task.done()

    @property
    def saved(self) -> Mapping[int, SavedImage]:
        """The pictures that are on disk, by index."""
        return {image.index: image for image in self.job.images}

    def has_news(self, seen: Job) -> bool:
        """Return True if more will be told, or was told, than the snapshot `seen` says."""
        return not seen.status.is_final and (self.task is not None or self.job.status.is_final)

    def retire(self) -> None:
        """Let go of the tasks that have ended: each holds the context of the call that began it."""
        self.task = self._writing = None

    def update(self, **changes: Any) -> None:
        """Change the job and tell the watchers."""
        self.job = replace(self.job, **changes)
        for watcher in self.watchers:
            watcher.put_nowait(self.job)

    async def enlist(self, *, pictures: int) -> None:
        """Write the new job down, and take stamps for its pictures."""
        stamp = await self.journal.add(self.job, pictures=pictures)
        self.job = replace(self.job, stamp=stamp)

    async def planned(self, plan: Plan) -> None:
        """Write the plan down: from now on the engine may have the job."""
        self.update(plan=plan, notes=(*self.job.notes, *plan.notes))
        await self.journal.update(self.job)

    def queued(self) -> None:
        """Note that following the job tells how it ends."""
        self.at_engine = True

    def progressed(self, progress: Progress) -> None:
        """Keep the newest progress, and the newest preview if this one brings none."""
        newest = self.job.progress
        if progress.preview is None and newest:
            progress = replace(progress, preview=newest.preview)
        if self.withdrawal:
            progress = replace(progress, phase=CANCELLING, step=None, steps=None, queue_position=None)
        changed = progress.status is not self.job.status
        self.update(status=progress.status, progress=progress)
        if changed:
            self._writing = asyncio.create_task(self.journal.update(self.job))

    async def kept(self, image: SavedImage) -> None:
        """Write down where a picture lies."""
        images = {**self.saved, image.index: image}
        self.job = replace(self.job, images=tuple(images[index] for index in sorted(images)))
        await self.journal.update(self.job)

    def note(self, sentence: str) -> None:
        """Add what the reader must know of the result."""
        if sentence not in self.job.notes:
            self.update(notes=(*self.job.notes, sentence))

    async def end(self, status: JobStatus, error: ImageGenError | None = None) -> None:
        """Write the end down, then tell the watchers: whoever hears of it can rely on the journal."""
        ended = time.monotonic()
        await self.journal.update(replace(self.job, status=status, error=error, ended=ended))
        if self.ours and (warning := self.journal.take_warning()):
            self.note(warning)
        # What nobody needs any more would stay in memory for as long as the job is remembered.
        progress = self.job.progress and replace(self.job.progress, preview=None)
        plan = self.job.plan and replace(self.job.plan, payload=None)
        self.update(status=status, error=error, ended=ended, progress=progress, plan=plan)
