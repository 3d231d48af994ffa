"""The journal of jobs: what it keeps, and that nothing that happens to its file stops anybody."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_image_gen_local.domain.errors import OutOfMemory
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.storage import journal as module
from mcp_image_gen_local.storage.journal import STEPS, Journal


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Journal]]:
    """Return a function that gives a journal in the test's folder; several are as several processes."""
    made: list[Journal] = []

    def journal(**options: Any) -> Journal:
        made.append(Journal(tmp_path / "state", **options))
        return made[-1]

    yield journal
    for each in made:
        await each.aclose()


@pytest.fixture
def journal(make: Callable[..., Journal]) -> Journal:
    return make()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)


def job(**fields: Any) -> Job:
    asked = GenerationRequest(prompt="ein Fuchs 🦊", seed=2**64 - 1).to_dict()
    if fields.get("status") is JobStatus.DONE:
        fields.setdefault("images", (image(),))
    return Job(**{"prompt_id": str(uuid.uuid4()), "engine": "comfyui", "url": "http://gpu", "asked": asked, **fields})


def image(index: int = 0) -> SavedImage:
    return SavedImage(
        path=Path(f"/images/{index}.png"),
        seed=7,
        width=64,
        height=32,
        size_bytes=10,
        mime_type="image/png",
        index=index,
        uniform=index == 1,
    )


PLAN = Plan(seed=2**64 - 1, model="flux.safetensors", settings={"steps": 4, "cfg": 1.0}, notes=("a note",))


async def test_a_job_comes_back_as_it_was_written(make: Callable[..., Journal]):
    written = job(plan=PLAN)
    first = make()
    stamp = await first.add(written)
    ended = replace(
        written,
        stamp=stamp,
        status=JobStatus.DONE,
        images=(image(0), image(1)),
        notes=("a note", "another"),
        ended=written.started + 2.5,
    )
    await first.update(ended)
    read = await make().get(written.prompt_id)
    assert read.seconds == pytest.approx(2.5)
    assert replace(read, started=0, ended=0) == replace(ended, started=0, ended=0)


async def test_an_error_comes_back_with_its_kind_and_its_texts(journal: Journal):
    written = job()
    await journal.add(written)
    await journal.update(replace(written, status=JobStatus.FAILED, error=OutOfMemory("No.", hint="Less."), ended=1.0))
    error = (await journal.get(written.prompt_id)).error
    assert (type(error), error.message, error.hint) == (OutOfMemory, "No.", "Less.")


async def test_a_job_that_nobody_wrote_is_none(journal: Journal):
    assert await journal.get("nope") is None


async def test_an_init_image_is_not_kept(journal: Journal, tmp_path: Path):
    asked = GenerationRequest(prompt="x", init_image=b"pixels" * 1000, denoise=0.5).to_dict()
    await journal.add(job(asked=asked))
    assert asked["init_image"].startswith("6000 bytes, sha256 ")
    await journal.aclose()
    assert b"pixels" not in (tmp_path / "state" / "jobs.sqlite3").read_bytes()


async def test_recent_jobs_come_newest_first_and_by_status(journal: Journal):
    jobs = [job(status=status) for status in (JobStatus.DONE, JobStatus.FAILED, JobStatus.DONE)]
    for each in jobs:
        await journal.add(each)
    assert [j.prompt_id for j in await journal.recent(2)] == [jobs[2].prompt_id, jobs[1].prompt_id]
    assert [j.prompt_id for j in await journal.recent(9, [JobStatus.FAILED])] == [jobs[1].prompt_id]


async def test_unfinished_jobs_are_those_of_that_engine_at_that_address(journal: Journal):
    ours, elsewhere = job(status=JobStatus.RUNNING), job(url="http://other")
    for each in (ours, elsewhere, job(status=JobStatus.DONE)):
        await journal.add(each)
    assert [j.prompt_id for j in await journal.unfinished("comfyui", "http://gpu")] == [ours.prompt_id]


async def test_no_two_images_share_a_stamp_though_the_clock_stands_or_goes_back(make: Callable[..., Journal]):
    now = iter([5.0, 5.0, 4.999, 5.0, 1.0])
    journal = make(clock=lambda: next(now))
    taken = [range(first, first + n) for n in (3, 1, 2, 1, 4) for first in [await journal.add(job(), image_count=n)]]
    stamps = [stamp for each in taken for stamp in each]
    assert len(set(stamps)) == len(stamps)
    assert taken[0].start == 5000
    assert taken[-1].start == 1000


@pytest.mark.parametrize("late", [JobStatus.RUNNING, JobStatus.LOST, JobStatus.FAILED])
async def test_a_job_that_is_done_stays_done_whatever_a_slower_process_writes(journal: Journal, late: JobStatus):
    written = job()
    await journal.add(written)
    await journal.update(replace(written, status=JobStatus.DONE, images=(image(),), ended=1.0))
    await journal.update(replace(written, status=late, ended=1.0))
    assert (await journal.get(written.prompt_id)).status == "done"


async def test_a_job_that_was_taken_for_lost_can_still_be_done(journal: Journal):
    written = job()
    await journal.add(written)
    for status in (JobStatus.LOST, JobStatus.RUNNING, JobStatus.DONE):
        await journal.update(replace(written, status=status, images=(image(),), ended=1.0))
    assert (await journal.get(written.prompt_id)).status == "done"


async def test_an_update_tells_whether_the_journal_took_it(journal: Journal):
    written = job()
    await journal.add(written)
    assert await journal.update(replace(written, status=JobStatus.CANCELLED, ended=1.0))
    assert not await journal.update(replace(written, plan=PLAN))


async def test_a_job_is_looked_after_for_a_while_after_its_process_last_said_so(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    written = job()
    await journal.add(written)
    assert journal.is_looked_after(await journal.get(written.prompt_id))
    await journal.touch([written.prompt_id], alive=False)
    assert not journal.is_looked_after(await journal.get(written.prompt_id))
    await journal.touch([written.prompt_id])
    assert journal.is_looked_after(await journal.get(written.prompt_id))
    monkeypatch.setattr(module, "ALIVE_SECONDS", 0)
    assert not journal.is_looked_after(await journal.get(written.prompt_id))


async def test_two_who_add_the_same_job_get_the_same_stamp(make: Callable[..., Journal]):
    written = job()
    assert await make(clock=lambda: 5.0).add(written) == await make(clock=lambda: 6.0).add(written) == 5000


async def test_half_a_character_in_a_foreign_text_is_kept(journal: Journal):
    written = job()
    await journal.add(written)
    await journal.update(replace(written, status=JobStatus.FAILED, error=OutOfMemory("file \udcff"), ended=1.0))
    assert (await journal.get(written.prompt_id)).error.message == "file \udcff"


async def test_forgotten_jobs_are_gone(journal: Journal):
    jobs = [job(), job()]
    for each in jobs:
        await journal.add(each)
    await journal.forget([jobs[0].prompt_id])
    assert [j.prompt_id for j in await journal.recent(9)] == [jobs[1].prompt_id]


async def test_old_ended_jobs_make_room(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "KEPT_JOBS", 10)
    running = job(status=JobStatus.RUNNING)
    await journal.add(running)
    for _ in range(99):
        await journal.add(job(status=JobStatus.DONE, ended=1.0))
    left = await journal.recent(1000)
    assert len(left) == 11
    assert left[-1].prompt_id == running.prompt_id


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
async def test_only_its_owner_may_read_it(journal: Journal):
    """It holds prompts."""
    await journal.add(job())
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


async def test_two_processes_write_at_once(make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 10)
    jobs = [job() for _ in range(60)]
    journals = [make(), make(), make()]
    stamps = await asyncio.gather(*(journals[n % 3].add(each) for n, each in enumerate(jobs)))
    assert len(set(stamps)) == 60
    assert {j.prompt_id for j in await journals[0].recent(100)} == {j.prompt_id for j in jobs}
    assert [each.problem for each in journals] == ["", "", ""]


# -- a file that cannot be used -----------------------------------------------------------------------------------


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def damaged_inside(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data)):
        data[at] = 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [damaged, damaged_inside])
async def test_a_damaged_file_is_put_aside_and_begun_anew(make: Callable[..., Journal], tmp_path: Path, harm):
    first = make()
    await first.add(job())
    await first.aclose()
    harm(first.path)
    journal, written = make(), job()
    await journal.add(written)
    warning = journal.take_warning()
    assert warning.startswith("The job journal was damaged; it was put aside as ")
    assert [j.prompt_id for j in await journal.recent(9)] == [written.prompt_id]
    assert len(list((tmp_path / "state").glob("jobs.sqlite3.damaged-*"))) == 1
    assert journal.take_warning() == ""


async def test_a_file_that_is_deleted_meanwhile_is_begun_anew(journal: Journal):
    await journal.add(job())
    for file in journal.path.parent.iterdir():
        file.unlink()
    written = job()
    await journal.add(written)
    assert [j.prompt_id for j in await journal.recent(9)] == [written.prompt_id]


async def test_an_older_file_is_brought_up_to_date(make: Callable[..., Journal], monkeypatch: pytest.MonkeyPatch):
    written = job()
    with monkeypatch.context() as past:
        past.setattr(module, "STEPS", STEPS[:1])
        old = make()
        await old.add(written)
        await old.aclose()
    journal = make()
    assert (await journal.get(written.prompt_id)).asked == written.asked
    await journal.aclose()
    with contextlib.closing(sqlite3.connect(journal.path)) as file:
        assert file.execute("PRAGMA user_version").fetchone()[0] == len(STEPS)


async def unusable(journal: Journal, reason: str) -> None:
    """Hold that nothing is written, nothing is raised, and the user is told why."""
    assert await journal.add(job()) > 0
    assert await journal.get("x") is None
    assert await journal.recent(9) == []
    assert reason in journal.take_warning()


async def test_a_file_of_a_newer_version_is_left_alone(journal: Journal):
    journal.path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(journal.path)) as newer:
        newer.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    before = journal.path.read_bytes()
    await unusable(journal, "a newer mcp-image-gen wrote it")
    assert journal.path.read_bytes() == before


async def test_a_locked_file_is_given_up_after_a_moment_and_tried_again_later(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    await journal.add(job())
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert await journal.add(job()) > 0
        assert "another program holds it locked" in journal.take_warning()
    monkeypatch.setattr(journal, "_rest_until", 0.0)
    written = job()
    await journal.add(written)
    assert (await journal.get(written.prompt_id)) is not None
    assert journal.take_warning() == ""


async def test_a_full_disk_is_told(journal: Journal):
    """SQLite's own limit stands for the disk's: the error is the same."""
    await journal.add(job())
    await journal._do(lambda file: file.execute("PRAGMA max_page_count = 1"), writes=False)
    for _ in range(50):
        await journal.add(job())
    assert "full" in journal.take_warning()


async def test_a_folder_in_its_place_is_told(journal: Journal):
    journal.path.mkdir(parents=True)
    await unusable(journal, "directory")


async def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "state")
    await unusable(journal, "Not a directory" if os.name != "nt" else "")
    await journal.aclose()


@pytest.mark.parametrize(
    "odd",
    ["images = 'nonsense'", "status = 'odd'", "error = '[1]'", "status = 'done'", "created = 1e300", "asked = '5'"],
)
async def test_a_row_that_cannot_be_read_is_passed_over(journal: Journal, odd: str):
    jobs = [job(), job()]
    for each in jobs:
        await journal.add(each)
    with contextlib.closing(sqlite3.connect(journal.path)) as hand:
        hand.execute(f"UPDATE jobs SET {odd} WHERE prompt_id = ?", (jobs[0].prompt_id,))
        hand.commit()
    assert await journal.get(jobs[0].prompt_id) is None
    assert await journal.get(jobs[1].prompt_id) is not None
