"""The composition root: settings in; engine, stores and job runner out, each made when it is first wanted."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.errors import PromptUnknown
from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.job import CallEnd, Job
from mcp_image_gen_local.domain.request import GenerationRequest, image_fields
from mcp_image_gen_local.engine_kit.registry import find_engine, is_engine
from mcp_image_gen_local.engine_kit.spec import EngineSettings
from mcp_image_gen_local.jobs import Calls, JobContext, JobRunner, Timings
from mcp_image_gen_local.settings import Settings, read_settings
from mcp_image_gen_local.storage.images import ImageStore
from mcp_image_gen_local.storage.inputs import InputImages
from mcp_image_gen_local.storage.retention import delete_files, expired_files
from mcp_image_gen_local.storage.sqlite_jobs import SQLiteJobs

logger = logging.getLogger(__name__)

TIMINGS = Timings()
FETCH_SECONDS = 5.0  #: for an image that lies finished at the engine, and that a request names, to be saved
LAST_JOBS = 100  #: among which the newest image is looked for


class App:
    """Everything one process needs, and its orderly end.

    Raises:
        SettingsInvalid: one of the engine's settings cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.interrupted = False  #: the user ends this process: jobs whose callers wait are cancelled
        if is_engine(settings.engine):  # calls report an unknown one: a client shows that, and no failed start
            _ = self.engine_settings

    @cached_property
    def engine_settings(self) -> EngineSettings:
        """The engine's own settings."""
        return read_settings(find_engine(self.settings.engine).settings, self.settings.engine_values)

    @cached_property
    def engine(self) -> Engine:
        """The engine of the settings, not yet connected.

        Raises:
            SettingsInvalid: there is no engine of that name.
        """
        return find_engine(self.settings.engine).make(self.engine_settings)

    @cached_property
    def store(self) -> ImageStore:
        """The folder of finished images.

        Raises:
            SettingsInvalid: the setting names a variable that is not set; so do `inputs`, `jobs` and `runner`.
        """
        return ImageStore(self.settings.folder("output_dir"))

    @cached_property
    def inputs(self) -> InputImages:
        """The image files that an agent may name."""
        folders = (self.settings.folder("output_dir"), *self.settings.input_dirs)
        return InputImages(folders, find_image=self._find_image, find_last=self._find_last)

    async def _find_image(self, job_id: str, index: int) -> Path | None:
        """Return the file of a job's image; None if nothing knows the job, or it has no such image on disk.

        Raises:
            EngineUnreachable: only the engine can say what the job is, and does not answer.
        """
        try:
            job = [job async for job in self.runner.watch(job_id, seconds=FETCH_SECONDS)][-1]
        except PromptUnknown:
            return None
        return next((image.path for image in job.images if image.index == index), None)

    async def _find_last(self) -> Path | None:
        """Return the file of the newest job's last image that is still there; None if there is none."""
        paths = [image.path for job in await self.jobs.recent(LAST_JOBS) for image in reversed(job.images)]
        return await asyncio.to_thread(lambda: next(filter(Path.is_file, paths), None))

    @cached_property
    def jobs(self) -> SQLiteJobs:
        """The jobs of this user, those of other processes too."""
        return SQLiteJobs(self.settings.folder("state_dir"))

    @cached_property
    def runner(self) -> JobRunner:
        """The jobs of this process."""
        return JobRunner(self._context, max_queue=self.settings.max_queue)

    @cached_property
    def calls(self) -> Calls:
        """The calls of this process that wait for a job."""
        return Calls(self._context, self.runner)

    @cached_property
    def _context(self) -> JobContext:
        return JobContext(
            engine=self.engine,
            images=self.store,
            inputs=self.inputs,
            title=find_engine(self.settings.engine).title,
            jobs=self.jobs,
            timeout=self.settings.job_timeout_seconds,
            after_done=self._apply_retention if self.limits else None,
            timings=TIMINGS,
        )

    async def request_of(
        self, arguments: Mapping[str, Any], refer: Callable[[Any], Awaitable[ImageRef]]
    ) -> GenerationRequest:
        """Return the request of a door's arguments; empty ones count as not given, `refer` finds the image files.

        Raises:
            InvalidRequest: an argument is out of range, or names a file that may not be read.
        """
        given = {name: value for name, value in arguments.items() if value not in (None, "")}
        for name in image_fields(GenerationRequest) & given.keys():
            given[name] = await refer(given[name])
        return GenerationRequest(**{"prompt": "", **given})

    async def generate(
        self,
        request: GenerationRequest,
        *,
        wait: float,
        on_progress: Callable[[Job], Awaitable[None]],
        cancels: Callable[[], Awaitable[bool]],
    ) -> Job:
        """Start the job and return it when it has ended, or as it is after `wait` seconds; then it continues.

        Args:
            request: what to generate; without a model it gets that of the settings.
            wait: seconds.
            on_progress: called with each change of the job.
            cancels: when this call is cancelled, returns whether that cancels the job.

        Raises:
            QueueFull: as the runner says; whatever else goes wrong is the job's `error`.
        """

        async def ending() -> CallEnd:
            return CallEnd.CANCELLED if await cancels() else CallEnd.GONE

        async with self.answering(request, caller=None, wait=wait, on_progress=on_progress, ending=ending) as job:
            return job

    def answering(
        self,
        request: GenerationRequest,
        *,
        caller: str | None,
        wait: float,
        on_progress: Callable[[Job], Awaitable[None]],
        ending: Callable[[], Awaitable[CallEnd]],
    ) -> AbstractAsyncContextManager[Job]:
        """Return `Calls.answering` for the request; without a model it gets that of the settings."""

        async def how() -> CallEnd:
            return CallEnd.CANCELLED if self.interrupted else await ending()

        request = replace(request, model=request.model or self.settings.model)
        return self.calls.answering(request, caller=caller, wait=wait, on_progress=on_progress, ending=how)

    @property
    def limits(self) -> dict[str, Any]:
        """What bounds the output folder; empty when nothing does."""
        limits = {"keep_days": self.settings.keep_days, "max_bytes": self.settings.max_bytes}
        return limits if any(limits.values()) else {}

    async def _apply_retention(self, job: Job) -> None:
        """Delete old images, but never those of the job that was just done; trouble is only logged."""
        keep = {image.path for image in job.images}
        try:
            swept = await asyncio.to_thread(
                lambda: delete_files(expired_files(self.settings.output_dir, **self.limits, now=time.time(), keep=keep))
            )
        except OSError as error:
            logger.warning("the output folder cannot be cleaned up: %s", error)
            return
        for failure in swept.failures:
            logger.warning("%s", failure)
        if swept.deleted:
            logger.info("%d old files were deleted, %d bytes", len(swept.deleted), swept.size_bytes)

    async def aclose(self) -> None:
        """Stop working on the jobs, close the engine's connections and the job store, as far as they were made."""
        for name in ("runner", "engine", "jobs"):
            if name in self.__dict__:
                await self.__dict__[name].aclose()
