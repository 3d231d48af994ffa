"""A job runner on an engine that a test steers."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mcp_image_gen_local.jobs import JobRunner
from mcp_image_gen_local.storage.images import ImageStore
from mcp_image_gen_local.storage.journal import Journal
from tests.steered_engine import SteeredEngine


@pytest.fixture
async def engine() -> SteeredEngine:
    return SteeredEngine()


@pytest.fixture
async def make(engine: SteeredEngine, tmp_path: Path) -> AsyncIterator[Callable[..., JobRunner]]:
    made: list[JobRunner] = []
    journals: list[Journal] = []

    def runner(timeout_seconds: float = 60) -> JobRunner:
        journals.append(Journal(tmp_path / "state"))
        made.append(JobRunner(engine, ImageStore(tmp_path / "images"), journals[-1], timeout_seconds=timeout_seconds))
        return made[-1]

    yield runner
    for each in (*made, *journals):
        await each.aclose()


@pytest.fixture
async def runner(make: Callable[..., JobRunner]) -> JobRunner:
    return make()
