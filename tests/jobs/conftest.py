"""Job runners, as several processes have them, on an engine that a test steers."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_image_gen_local.jobs import JobContext, JobRunner
from mcp_image_gen_local.storage.images import ImageStore
from mcp_image_gen_local.storage.inputs import InputImages
from mcp_image_gen_local.storage.job_store import JobStore
from mcp_image_gen_local.storage.memory_jobs import MemoryJobs
from mcp_image_gen_local.storage.sqlite_jobs import SQLiteJobs
from tests.conftest import SHORT
from tests.scripted_engine import ScriptedEngine

TIMINGS = replace(SHORT, lease=15.0, heartbeat=0.03, cancel_pause=0.05, closing=0.5)


class Clock:
    """The wall clock of all processes, which a test sets."""

    def __init__(self) -> None:
        self.ahead = 0.0  #: seconds

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture(params=["sqlite", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Callable[[], JobStore]:
    """Return a function that opens the jobs of the user, as each process does."""
    memory = MemoryJobs(clock=clock)
    return (lambda: memory) if request.param == "memory" else (lambda: SQLiteJobs(tmp_path / "state", clock=clock))


@pytest.fixture
async def make(
    engine: ScriptedEngine, open_store: Callable[[], JobStore], tmp_path: Path
) -> AsyncIterator[Callable[..., JobRunner]]:
    """Return a function that makes a runner, as each process does; facts of its context, its timings among them."""
    made: list[JobRunner] = []

    def runner(*, max_queue: int | None = None, **facts: Any) -> JobRunner:
        given = {
            "engine": engine,
            "images": ImageStore(tmp_path / "images"),
            "inputs": InputImages([tmp_path]),
            "jobs": facts.pop("jobs", None) or open_store(),
            "timeout": facts.pop("timeout", 60),
            **{name: facts.pop(name) for name in ("engine", "images", "after_done") if name in facts},
            "timings": replace(TIMINGS, **facts),
        }
        made.append(JobRunner(JobContext(**given), max_queue=max_queue))
        return made[-1]

    yield runner
    for each in made:
        await each.aclose()
        await each._context.jobs.aclose()


@pytest.fixture
async def runner(make: Callable[..., JobRunner]) -> JobRunner:
    return make()
