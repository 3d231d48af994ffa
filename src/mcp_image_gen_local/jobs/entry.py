"""One job of this process: how it stands, who works on it, who watches."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcp_image_gen_local.domain.errors import GenerationCancelled, ImageGenError
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan, Progress
from mcp_image_gen_local.storage.journal import Journal

OWNER_SECONDS = 3.0  #: for another process to save the images of its own job
OWNER_PAUSE = 0.05
FETCH_SECONDS = 300.0  #: at least, for the images once they are generated, whatever generating may take
CANCELLING = "cancelling"  #: phase of a job that the engine has been asked to let go of


def on_disk(job: Job) -> tuple[SavedImage, ...]:
    """Return the job's images that are still where they were saved."""
    return tuple(image for image in job.images if Path(image.path).is_file())


@dataclass(eq=False)
class Entry:
    """A job and its tasks; hears of the job's way and writes into the journal what must outlive this process."""

    job: Job
    journal: Journal
    heed: Callable[["Entry"], object]  #: called when another process has cancelled the job
    task: asyncio.Task[None] | None = None  #: works on the job
    withdrawal: asyncio.Task[None] | None = None  #: takes it back from the engine
    watchers: set[asyncio.Queue[Job]] = field(default_factory=set)
    started_here: bool = False  #: by a call of this process
    is_owned: bool = False  #: this process looks after it, and says so in the journal
    at_engine: bool = True  #: the engine has taken it
    bound: asyncio.Timeout | None = None  #: for generating it
    _writing: asyncio.Task[bool] | None = None

    @property
    def prompt_id(self) -> str:
        """The job's id."""
        return self.job.prompt_id

    @property
    def stamp(self) -> int:
        """What names the first image's file, milliseconds since 1970."""
        return self.job.stamp

    @property
    def ours(self) -> bool:
        """True for a job that this server, or one that shares its journal, has queued."""
        return self.job.asked is not None

    @property
    def at_work(self) -> bool:
        """True while a task of this process works on the job, or takes it back."""
        return any(task and not task.done() for task in (self.task, self.withdrawal))

    @property
    def saved(self) -> Mapping[int, SavedImage]:
        """The images that are on disk, by index."""
        return {image.index: image for image in self.job.images}

    def has_news(self, seen: Job) -> bool:
        """Return True if more will be told, or was told, than the snapshot `seen` says."""
        return not seen.status.is_final and (self.at_work or self.job.status.is_final)

    def retire(self) -> None:
        """Let go of the tasks that have ended: each holds the context of the call that began it."""
        if self.task and self.task.done():
            self.task = self._writing = None
        if self.withdrawal and self.withdrawal.done() and self.job.status.is_final:
            self.withdrawal = None

    def update(self, **changes: Any) -> None:
        """Change the job and tell the watchers."""
        self.job = replace(self.job, **changes)
        for watcher in self.watchers:
            watcher.put_nowait(self.job)

    async def enlist(self, *, image_count: int) -> None:
        """Write the new job down, and take stamps for its images."""
        stamp = await self.journal.add(self.job, image_count=image_count)
        self.job = replace(self.job, stamp=stamp)

    async def planned(self, plan: Plan) -> None:
        """Write the plan down: from now on the engine may have the job."""
        self.update(plan=plan, notes=(*self.job.notes, *plan.notes))
        if not await self.journal.update(self.job) and await self._is_cancelled():
            raise GenerationCancelled(f"The job {self.prompt_id} was cancelled.")

    async def queued(self) -> None:
        """Note that following the job tells how it ends; one that was cancelled while it was sent is taken back."""
        self.at_engine = True
        if await self._is_cancelled():
            self.heed(self)

    async def _is_cancelled(self) -> bool:
        known = await self.journal.get(self.prompt_id)
        return known is not None and known.status is JobStatus.CANCELLED

    def progressed(self, progress: Progress) -> None:
        """Keep the newest progress, and the newest preview if this one brings none."""
        newest = self.job.progress
        if progress.preview is None and newest:
            progress = replace(progress, preview=newest.preview)
        if self.withdrawal:
            progress = replace(progress, phase=CANCELLING, step=None, steps=None, queue_position=None)
        changed = progress.status is not self.job.status
        self.update(status=progress.status, progress=progress)
        if changed and self.is_owned:  # others do not know what it has saved
            self._writing = asyncio.create_task(self.journal.update(self.job))

    async def generated(self) -> None:
        """Take over what another process has saved; one that is at work on the job is given a moment for it."""
        if self.bound and not self.bound.expired() and (end := self.bound.when()) is not None:
            self.bound.reschedule(max(end, asyncio.get_running_loop().time() + FETCH_SECONDS))
        if self.started_here:
            return
        deadline = time.monotonic() + OWNER_SECONDS
        known = await self.journal.get(self.prompt_id)
        while known and not self.is_owned and self.journal.is_looked_after(known) and time.monotonic() < deadline:
            await asyncio.sleep(OWNER_PAUSE)
            known = await self.journal.get(self.prompt_id)
        if known and known.images:
            self.job = replace(self.job, images=await asyncio.to_thread(on_disk, known))

    async def kept(self, image: SavedImage) -> None:
        """Write down where an image lies."""
        images = {**self.saved, image.index: image}
        self.job = replace(self.job, images=tuple(images[index] for index in sorted(images)))
        await self.journal.update(self.job)

    def note(self, sentence: str) -> None:
        """Add what the reader must know of the result."""
        if sentence not in self.job.notes:
            self.update(notes=(*self.job.notes, sentence))

    async def end(self, status: JobStatus, error: ImageGenError | None = None, *, for_all: bool = True) -> None:
        """Write the end down, then tell the watchers: whoever hears of it can rely on the journal.

        `for_all=False` is an end of this process's interest only: the journal keeps the job as it is.
        """
        ended = time.monotonic()
        if error:  # its frames hold the request, with an init_image of many megabytes
            error.__traceback__ = error.__cause__ = error.__context__ = None
        if for_all:
            await self.journal.update(replace(self.job, status=status, error=error, ended=ended))
        if self.ours and (warning := self.journal.take_warning()):
            self.note(warning)
        # What nobody needs any more would stay in memory for as long as the job is remembered.
        progress = self.job.progress and replace(self.job.progress, preview=None)
        plan = self.job.plan and replace(self.job.plan, payload=None)
        self.update(status=status, error=error, ended=ended, progress=progress, plan=plan)
