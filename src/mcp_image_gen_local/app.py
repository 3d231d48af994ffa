"""The composition root: settings in; engine, store and job runner out, each made when it is first wanted."""

import asyncio
import importlib
import logging
import pkgutil
import time
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, cast

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.errors import SettingsInvalid
from mcp_image_gen_local.domain.job import Job
from mcp_image_gen_local.jobs import JobRunner
from mcp_image_gen_local.settings import Settings
from mcp_image_gen_local.storage.housekeeping import leftovers, sweep
from mcp_image_gen_local.storage.images import ImageStore
from mcp_image_gen_local.storage.inputs import InputFolders
from mcp_image_gen_local.storage.journal import Journal

logger = logging.getLogger(__name__)

ENTRY_POINTS = "mcp_image_gen_local.engines"  #: group in which other packages register an engine: name -> what makes it


class App:
    """Everything one process needs, and its orderly end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.interrupted = False  #: the user ends this process: jobs whose callers wait are taken back

    @cached_property
    def engine(self) -> Engine:
        """The engine of the settings.

        Raises:
            SettingsInvalid: there is no engine of that name.
        """
        return load_engine(self.settings)

    @cached_property
    def store(self) -> ImageStore:
        """The folder of finished images."""
        return ImageStore(self.settings.output_dir)

    @cached_property
    def inputs(self) -> InputFolders:
        """The folders from which an agent may name images."""
        return InputFolders((self.settings.output_dir, *self.settings.input_dirs))

    @cached_property
    def journal(self) -> Journal:
        """The jobs of this user, those of other processes too."""
        return Journal(self.settings.state_dir)

    @cached_property
    def runner(self) -> JobRunner:
        """The jobs of this process."""
        return JobRunner(
            self.engine,
            self.store,
            self.journal,
            timeout_seconds=self.settings.job_timeout_seconds,
            max_queue=self.settings.max_queue,
            when_done=self._keep_small if self.limits else None,
        )

    @property
    def limits(self) -> dict[str, Any]:
        """What bounds the output folder; empty when nothing does."""
        limits = {"keep_days": self.settings.keep_days, "max_bytes": self.settings.max_bytes}
        return limits if any(limits.values()) else {}

    async def _keep_small(self, job: Job) -> None:
        """Delete old images, but never those of the job that was just done; trouble goes to the log alone."""
        spare = {image.path for image in job.images}
        try:
            swept = await asyncio.to_thread(
                lambda: sweep(leftovers(self.settings.output_dir, **self.limits, now=time.time(), spare=spare))
            )
        except OSError as error:
            logger.warning("the output folder cannot be cleaned up: %s", error)
            return
        for failure in swept.failures:
            logger.warning("%s", failure)
        if swept.deleted:
            logger.info("%d old files were deleted, %d bytes", len(swept.deleted), swept.size_bytes)

    async def aclose(self) -> None:
        """Stop working on the jobs, close the engine's connections and the journal, as far as they were ever made."""
        if "runner" in self.__dict__:
            await self.runner.aclose()
        if "engine" in self.__dict__:
            await self.engine.aclose()
        if "journal" in self.__dict__:
            await self.journal.aclose()


def engine_names() -> list[str]:
    """Return the names that IMAGE_GEN_ENGINE takes: modules of the engines room, and what other packages register."""
    from mcp_image_gen_local import engines  # only errors and --help ask

    foreign = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return sorted({module.name for module in pkgutil.iter_modules(engines.__path__)} | foreign)


def load_engine(settings: Settings) -> Engine:
    """Return the engine of the settings, not yet connected to anything.

    Raises:
        SettingsInvalid: there is no engine of that name.
    """
    if settings.engine not in engine_names():
        raise SettingsInvalid(
            f"IMAGE_GEN_ENGINE={settings.engine!r} is no engine.", hint=f"Use one of: {', '.join(engine_names())}."
        )
    foreign = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if settings.engine in foreign:
        make = foreign[settings.engine].load()
    else:
        make = importlib.import_module(f"mcp_image_gen_local.engines.{settings.engine}").ENGINE
    return cast("Engine", make(settings))
