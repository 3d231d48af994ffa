"""What all commands have in common: options, the app opened and closed, errors as a line and an exit code.

Data goes to stdout, talk to stderr; exit codes: 0 done, 1 failed, 2 bad usage, 3 no engine.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from mcp_image_gen_local.app import App
from mcp_image_gen_local.cli import show
from mcp_image_gen_local.cli.logs import plain_last_resort
from mcp_image_gen_local.domain.errors import (
    EngineUnreachable,
    ImageGenError,
    InvalidRequest,
    PromptUnknown,
    SettingsInvalid,
)
from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.engine_kit.registry import find_engine
from mcp_image_gen_local.settings import load_settings
from mcp_image_gen_local.storage import sqlite_file

FAILED, BAD_USAGE, NO_ENGINE, INTERRUPTED = 1, 2, 3, 130  #: exit codes
EXIT_CODES: dict[type[ImageGenError], int] = {
    InvalidRequest: BAD_USAGE,
    SettingsInvalid: BAD_USAGE,
    EngineUnreachable: NO_ENGINE,
}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GlobalOptions:
    """What every command takes; each wins over its environment variable."""

    engine: Annotated[str | None, Parameter(help="Engine to use (IMAGE_GEN_ENGINE).")] = None
    url: Annotated[str | None, Parameter(help="Address of the engine; COMFYUI_URL for ComfyUI.")] = None
    output_dir: Annotated[Path | None, Parameter(help="Folder for images (IMAGE_OUTPUT_DIR).")] = None
    json: Annotated[bool, Parameter(help="Print JSON, also for errors.", negative="")] = False

    def open(self) -> App:
        """Return the app for these settings."""
        settings = load_settings(IMAGE_GEN_ENGINE=self.engine, IMAGE_OUTPUT_DIR=self.output_dir)
        if self.url is None:
            return App(settings)
        variable = find_engine(settings.engine).url_variable
        if not variable:
            raise InvalidRequest(f"The engine {settings.engine} has no address.", hint="Leave --url out.")
        return App(
            load_settings(**{"IMAGE_GEN_ENGINE": self.engine, "IMAGE_OUTPUT_DIR": self.output_dir, variable: self.url})
        )


def run(common: GlobalOptions, work: Callable[[App], Coroutine[Any, Any, int]], *, reports_store: bool = False) -> int:
    """Open the app, do the work, close it; errors become a line on stderr and an exit code.

    `reports_store` is for work that reports an unusable job store itself: the log then does not.
    """

    async def session() -> int:
        opened = common.open()
        try:
            return await work(opened)
        finally:
            await opened.aclose()

    with store_log_off() if reports_store else contextlib.nullcontext():
        return run_and_exit(lambda: asyncio.run(session()), as_json=common.json)


@contextlib.contextmanager
def store_log_off() -> Iterator[None]:
    """Keep an unusable job store out of the log."""
    store_log = logging.getLogger(sqlite_file.__name__)
    store_log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        store_log.setLevel(logging.NOTSET)


def run_and_exit(work: Callable[[], int], *, as_json: bool) -> int:
    """Do the work and return its exit code, or that of the error that it raised."""
    plain_last_resort()
    try:
        return work()
    except ImageGenError as error:
        if as_json:
            print(json.dumps({"status": _status_of(error), "error": error.to_dict()}))
        else:
            show.talk.print(f"[red]Error:[/] {show.escape(error)}")
        return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _status_of(error: ImageGenError) -> JobStatus:
    return JobStatus.UNKNOWN if isinstance(error, PromptUnknown) else JobStatus.FAILED


def report(job: Job, *, as_json: bool) -> int:
    """Print what became of the job; return the exit code."""
    if as_json:
        print(json.dumps(show.facts(job)))
    else:
        show.outcome(job)
    return 0 if job.status is JobStatus.DONE else FAILED
