"""JobRunner: a store that cannot be used costs history and never an image."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_image_gen_local.domain.errors import GenerationLost, PromptUnknown
from mcp_image_gen_local.jobs import JobRunner
from mcp_image_gen_local.storage.sqlite_jobs import FILE, SQLiteJobs
from tests.jobs.steps import REQUEST, done, ended, generation, store_of, stored
from tests.scripted_engine import ScriptedEngine

Make = Callable[..., JobRunner]
Harm = Callable[[Path], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another program holds the file."""
    folder.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(folder / FILE, isolation_level=None, timeout=5)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextlib.contextmanager
def deleted(folder: Path) -> Iterator[None]:
    """The file goes, and can be created again."""
    for file in folder.glob("*"):
        file.unlink()
    yield


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[None]:
    """A file stands where the folder was."""
    if folder.exists():
        folder.rename(folder.with_name("away"))
    folder.touch()
    yield
    folder.unlink()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder cannot be written to."""
    with deleted(folder):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)


@pytest.fixture
def open_store(tmp_path: Path) -> Callable[[], SQLiteJobs]:
    """Return a function that opens the user's file, impatiently."""
    return lambda: SQLiteJobs(tmp_path / "state", lock_seconds=0.02, rest_seconds=0.0)


UNUSABLE = [
    locked,
    replaced,
    pytest.param(
        read_only,
        marks=pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere"),
    ),
]
POINTS = ["plan", "submit", "submitted", "follow", "fetch", "image0"]


async def stopped_at(point: str, runner: JobRunner, engine: ScriptedEngine) -> tuple[str, asyncio.Event]:
    """Start a job and return its id, and the event that lets it continue, when it has come to the point."""
    gate = engine.hold(point)
    job_id = runner.start(REQUEST)
    if point in ("fetch", "image0"):
        engine.steps()
    await engine.arrival(point)
    return job_id, gate


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("harm", UNUSABLE)
async def test_an_unusable_store_costs_no_image(make: Make, engine: ScriptedEngine, tmp_path, harm: Harm, point: str):
    """From this point on; the job says once that there is no history."""
    runner = make(heartbeat=3600.0)
    job_id, gate = await stopped_at(point, runner, engine)
    with harm(tmp_path / "state"):
        gate.set()
        if point not in ("fetch", "image0"):
            engine.steps()
        job = await ended(runner, job_id)
    assert (job.status, job.images[0].path.is_file(), engine.cancelled) == ("done", True, [])
    assert [note[:26] for note in job.notes] == ["a note", "Job history is unavailable"]


@pytest.mark.parametrize("harm", UNUSABLE)
async def test_a_store_that_never_worked(make: Make, engine: ScriptedEngine, tmp_path: Path, harm: Harm):
    with harm(tmp_path / "state"):
        runner = make()
        jobs = [await done(runner, engine) for _ in range(2)]
        assert [job.status for job in jobs] == ["done"] * 2
        assert len({job.images[0].path for job in jobs}) == 2
        assert (await runner.find(jobs[0].job_id)).images == jobs[0].images
        with pytest.raises(PromptUnknown):
            await runner.find("unknown")


@pytest.mark.parametrize("point", POINTS)
async def test_a_deleted_store_is_written_again(make: Make, engine: ScriptedEngine, tmp_path: Path, point: str):
    """From this point on: the ended job is in the new file."""
    runner, other = make(), make()
    job_id, gate = await stopped_at(point, runner, engine)
    with deleted(tmp_path / "state"):
        gate.set()
        if point not in ("fetch", "image0"):
            engine.steps()
        job = await ended(runner, job_id)
    assert (job.status, job.notes) == ("done", ("a note",))
    found = await other.find(job_id)
    assert (found.status, found.images, found.request) == ("done", job.images, job.request)


async def test_a_job_is_held_in_a_new_file(make: Make, engine: ScriptedEngine, tmp_path: Path):
    """The row that its next write brings back is leased, and it keeps the flag that others set."""
    runner, other = make(heartbeat=3600.0), make()
    job_id, gate = await stopped_at("submit", runner, engine)
    with deleted(tmp_path / "state"):
        gate.set()
        job = await stored(other, job_id, lambda job: job.ticket)
    assert store_of(other).is_leased(job)
    assert (await other.find(job_id)).status == "queued"
    await other.cancel(job_id, seconds=0)
    engine.stopped.add(job_id)
    engine.steps(1)
    assert (await ended(runner, job_id)).status == "cancelled"
    assert engine.followed == [job_id]


async def test_a_cancel_without_a_store(make: Make, engine: ScriptedEngine, tmp_path: Path):
    runner = make()
    job_id = await generation(runner, engine)
    with locked(tmp_path / "state"):
        job = await runner.cancel(job_id)
    assert (job.status, engine.stopped) == ("cancelled", {job_id})


async def test_a_claim_without_a_store(make: Make, engine: ScriptedEngine, tmp_path: Path):
    """A job that this process remembers is continued, leased or not."""
    engine.failure = GenerationLost("It is gone.", was_removed=True)
    runner = make()
    job = await done(runner, engine)
    engine.failure = None
    with replaced(tmp_path / "state"):
        assert (await runner.find(job.job_id)).status == "queued"
        engine.steps()
        assert (await ended(runner, job.job_id)).status == "done"


async def test_a_job_of_the_engine_without_a_store(make: Make, engine: ScriptedEngine, tmp_path: Path):
    """After a restart the engine alone knows the job: its image is saved."""
    engine.known.add("ours")
    with replaced(tmp_path / "state"):
        runner = make()
        await runner.find("ours")
        engine.steps()
        job = await ended(runner, "ours")
    assert (job.status, job.images[0].path.is_file()) == ("done", True)


async def test_a_store_that_works_again(make: Make, engine: ScriptedEngine, tmp_path: Path):
    """The next write stores the whole job, and nothing is said of the gap."""
    runner = make(heartbeat=3600.0)
    with replaced(tmp_path / "state"):
        job_id, gate = await stopped_at("submit", runner, engine)
        assert store_of(runner).problem.startswith("Job history is unavailable")
    gate.set()
    engine.steps()
    job = await ended(runner, job_id)
    assert (job.status, job.notes, store_of(runner).problem) == ("done", ("a note",), "")
    assert (await make().find(job_id)).images == job.images


async def test_a_corrupt_store_is_said_once(make: Make, engine: ScriptedEngine, tmp_path: Path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).write_bytes(b"this is no database" * 1000)
    runner = make()
    first, second = await done(runner, engine), await done(runner, engine)
    assert [note[:28] for note in first.notes] == ["a note", "The job database was corrupt"]
    assert second.notes == ("a note",)
