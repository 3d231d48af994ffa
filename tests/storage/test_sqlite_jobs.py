"""The job store's file: whatever happens to it, no method raises and the user is informed."""

import asyncio
import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.storage import sqlite_jobs as module
from mcp_image_gen_local.storage.job_store import Beat, Standing
from mcp_image_gen_local.storage.sqlite_file import APPLICATION_ID
from mcp_image_gen_local.storage.sqlite_jobs import FILE, STEPS, SQLiteJobs
from tests.storage.jobs import PROGRESS, image, job

Make = Callable[..., SQLiteJobs]
VERSION_3 = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, prompt_id TEXT NOT NULL UNIQUE, engine TEXT NOT NULL,
        url TEXT NOT NULL, status TEXT NOT NULL, asked TEXT, plan TEXT, images TEXT NOT NULL, notes TEXT NOT NULL,
        error TEXT, created REAL NOT NULL, seconds REAL, touched REAL NOT NULL, stamp INTEGER NOT NULL,
        pictures INTEGER NOT NULL
    )
    """,
    "CREATE INDEX jobs_by_status ON jobs (status, number)",
    "CREATE INDEX jobs_by_stamp ON jobs (stamp)",
    "PRAGMA user_version = 3",
)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Return a function that opens the file, as each process does, impatiently."""
    made: list[SQLiteJobs] = []

    def store(**options: Any) -> SQLiteJobs:
        made.append(SQLiteJobs(tmp_path / "state", **{"lock_seconds": 0.05, "rest_seconds": 0.0, **options}))
        return made[-1]

    yield store
    for each in made:
        await each.aclose()


@pytest.fixture
def store(make: Make) -> SQLiteJobs:
    return make()


async def add(store: SQLiteJobs, job: Job, image_count: int = 1) -> Job | None:
    return await store.create(job, image_count=image_count, owner="me", seconds=15)


async def listed(store: SQLiteJobs) -> list[str]:
    return [each.job_id for each in await store.recent(1000)]


def by_hand(path: Path, *statements: str) -> list[Any]:
    """Run the statements in the file as another program would; return the rows of the last one."""
    with contextlib.closing(sqlite3.connect(path)) as hand:
        rows = [hand.execute(statement).fetchall() for statement in statements][-1]
        hand.commit()
    return rows


# -- a file that works --------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
async def test_only_its_owner_may_read_it(store: SQLiteJobs):
    """It holds prompts."""
    await add(store, job())
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


async def test_nothing_is_opened_before_it_is_wanted(store: SQLiteJobs):
    await store.aclose()
    assert not store.path.parent.exists()


async def test_a_closed_store_does_nothing(store: SQLiteJobs):
    written = job()
    await add(store, written)
    await store.aclose()
    await store.aclose()
    assert await store.get(written.job_id) is None
    assert await add(store, job()) is not None
    assert (await store.update(written, owner="me"), store.problem) == (Standing(), "")


async def test_many_processes_open_a_new_file(make: Make):
    for _ in range(5):
        stores = [make(lock_seconds=10) for _ in range(5)]
        jobs = [job() for _ in stores]
        await asyncio.gather(*(add(store, each) for store, each in zip(stores, jobs, strict=True)))
        assert [store.problem for store in stores] == [""] * 5
        assert set(await listed(stores[0])) == {each.job_id for each in jobs}
        for file in stores[0].path.parent.iterdir():
            file.unlink()


async def test_many_processes_write_at_once(make: Make):
    stores, jobs = [make(lock_seconds=10) for _ in range(3)], [job() for _ in range(60)]
    stored = await asyncio.gather(*(add(stores[n % 3], each) for n, each in enumerate(jobs)))
    assert len({each.filename_ms for each in stored}) == 60
    assert set(await listed(stores[0])) == {each.job_id for each in jobs}
    assert [store.problem for store in stores] == ["", "", ""]


async def test_old_ended_jobs_are_forgotten(store: SQLiteJobs, monkeypatch: pytest.MonkeyPatch):
    """Every hundredth job makes room; unfinished ones stay."""
    monkeypatch.setattr(module, "KEPT_JOBS", 10)
    running = job(status=JobStatus.RUNNING)
    await add(store, running)
    for _ in range(98):
        await add(store, job(status=JobStatus.DONE, ended=1.0))
    assert len(await listed(store)) == 99
    await add(store, job(status=JobStatus.DONE, ended=1.0))
    left = await listed(store)
    assert (len(left), left[-1]) == (11, running.job_id)


async def test_a_reader_does_not_wait_for_a_writer(make: Make):
    store, written = make(), job()
    await add(store, written)
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await store.get(written.job_id)
        assert (await listed(store), await store.unfinished("comfyui", "http://gpu") != []) == ([written.job_id], True)
    assert store.problem == ""


# -- files of other versions --------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 3 with a finished job, a running one, and one that was never sent."""
    path = tmp_path / "state" / FILE
    path.parent.mkdir()
    plan = {"seed": 7, "model": "flux.safetensors", "settings": {"seed": 7, "width": 64, "height": 32, "steps": 4}}
    plan["settings"] |= {"batch_size": 2, "cfg": 1.0, "prompt": "a fox"}
    saved = [{**vars(image(index)), "path": f"/images/{index}.png"} for index in range(2)]
    asked = {"prompt": "a fox", "seed": 7, "batch_size": 2, "init_image": "6000 bytes, sha256 0123456789abcdef0123"}
    rows = [
        ("done", "done", asked, {**plan, "notes": ["a note"]}, saved, 2.5),
        ("running", "running", asked, {"seed": None, "model": "sdxl", "settings": {}, "notes": []}, [], None),
        ("queued", "queued", {"prompt": "a fox"}, None, [], None),
        ("theirs", "lost", None, {"seed": None, "model": "sdxl", "settings": {}, "notes": []}, [], 9.0),
    ]
    with contextlib.closing(sqlite3.connect(path)) as hand:
        for statement in VERSION_3:
            hand.execute(statement)
        for number, (prompt_id, status, request, planned, images, seconds) in enumerate(rows):
            error = {"code": "picture_gone", "message": "It is gone.", "hint": "Again."} if status == "lost" else None
            texts = [json.dumps(value) if value is not None else None for value in (request, planned, images, error)]
            hand.execute(
                "INSERT INTO jobs (prompt_id, engine, url, status, asked, plan, images, notes, error, created, seconds,"
                " touched, stamp, pictures) VALUES (?, 'comfyui', 'http://gpu', ?, ?, ?, ?, '[\"a note\"]', ?, "
                "1.7e9, ?, 1.7e9, ?, 2)",
                (prompt_id, status, *texts, seconds, 1_700_000_000_000 + 2 * number),
            )
        hand.commit()
    return path


async def test_jobs_of_version_3_are_readable(store: SQLiteJobs, old: Path):
    assert await listed(store) == ["theirs", "queued", "running", "done"]
    done = await store.get("done")
    plan = done.plan
    assert (plan.seed, plan.model, plan.width, plan.height, plan.steps) == (7, "flux.safetensors", 64, 32, 4)
    assert (plan.batch_size, dict(plan.extra), plan.notes) == (2, {"cfg": 1.0, "prompt": "a fox"}, ("a note",))
    assert [(each.path.name, each.seed, each.uniform) for each in done.images] == [("0.png", 7, False), ("1.png", 7, 1)]
    assert (done.seconds, done.notes, done.request["seed"], done.ticket) == (2.5, ("a note",), 7, None)
    assert (done.filename_ms, done.cancel_requested, done.cancel_error) == (1_700_000_000_000, False, "")
    running = await store.get("running")
    assert (running.plan.width, running.plan.batch_size, running.plan.extra) == (None, 1, {})
    theirs = await store.get("theirs")
    assert (theirs.is_foreign, theirs.error.code, str(theirs.error)) == (True, "picture_gone", "It is gone. Again.")


async def test_jobs_of_version_3_are_free(store: SQLiteJobs, old: Path):
    """Their process knows no leases and can no longer read the file."""
    found = await store.unfinished("comfyui", "http://gpu")
    assert [each.job_id for each in found] == ["running", "queued"]
    assert not any(map(store.is_leased, found))
    claimed = await store.claim("running", owner="me", seconds=15)
    assert (claimed.status, store.is_leased(claimed)) == ("running", True)
    final = replace(claimed, status=JobStatus.DONE, images=(image(),), ended=claimed.started + 1)
    assert await store.update(final, owner="me") == Standing()
    assert (await store.get("running")).status == "done"


async def test_names_of_version_3_stay_taken(make: Make, old: Path):
    store = make(clock=lambda: 1_700_000_000.001)
    assert (await add(store, job())).filename_ms == 1_700_000_000_008


async def test_an_old_file_is_upgraded_once(make: Make, old: Path):
    stores = [make(lock_seconds=5) for _ in range(4)]
    assert [len(found) for found in await asyncio.gather(*map(listed, stores))] == [4] * 4
    assert [store.problem for store in stores] == [""] * 4
    assert by_hand(old, "PRAGMA user_version") == [(len(STEPS),)]


async def test_every_version_can_be_upgraded(make: Make, tmp_path: Path):
    for version in range(1, len(STEPS)):
        path = tmp_path / "state" / FILE
        path.parent.mkdir(exist_ok=True)
        by_hand(path, *STEPS[:version], f"PRAGMA user_version = {version}")
        store, written = make(), job()
        await add(store, written)
        assert (await store.get(written.job_id), store.problem) != (None, "problem")
        assert await listed(store) == [written.job_id]
        await store.aclose()
        for file in path.parent.iterdir():
            file.unlink()


async def unusable(store: SQLiteJobs, reason: str) -> None:
    """Hold that nothing is stored, nothing is raised, and the user learns why."""
    written = job()
    stored = await store.create(written, image_count=1, owner="me", seconds=15)
    assert stored.filename_ms > 0
    assert [await store.get("x"), await store.watch("x", seconds=1), await listed(store)] == [None, None, []]
    assert await store.claim("x", owner="me", seconds=1) is None
    assert await store.unfinished("comfyui", "http://gpu") == []
    assert await store.renew(["x"], owner="me", seconds=1) == Beat()
    assert await store.update(stored, owner="me") == Standing(is_held=True)
    await store.write_progress(replace(stored, progress=PROGRESS), owner="me")
    for method in (store.forget, lambda ids: store.release(ids, owner="me")):
        await method([written.job_id])
    await store.request_cancel(written.job_id)
    assert reason in store.problem
    text = f"Job history is unavailable ({store.path}: "
    rest = "). Images are still generated and saved, but running jobs will not survive a server restart."
    assert store.problem.startswith(text)
    assert store.problem.endswith(rest)
    assert store.take_warning() == store.problem


async def test_a_newer_file_is_left_alone(store: SQLiteJobs):
    store.path.parent.mkdir()
    by_hand(store.path, f"PRAGMA user_version = {len(STEPS) + 1}")
    before = store.path.read_bytes()
    await unusable(store, "a newer version of mcp-image-gen wrote it; update this one")
    assert store.path.read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
async def test_an_open_file_is_closed_to_others(make: Make):
    """One that lies there with other rights too."""
    first, written = make(), job()
    await add(first, written)
    await first.aclose()
    first.path.chmod(0o666)
    assert await make().get(written.job_id)
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600


async def test_a_new_file_is_marked_as_ours(store: SQLiteJobs):
    await add(store, job())
    assert by_hand(store.path, "PRAGMA application_id") == [(APPLICATION_ID,)]


async def test_an_old_file_is_marked_as_ours(make: Make, old: Path):
    assert len(await listed(make())) == 4
    assert by_hand(old, "PRAGMA application_id") == [(APPLICATION_ID,)]


async def test_a_file_up_to_date_is_marked_as_ours(make: Make):
    first, written = make(), job()
    await add(first, written)
    await first.aclose()
    by_hand(first.path, "PRAGMA application_id = 0")
    assert await make().get(written.job_id)
    assert by_hand(first.path, "PRAGMA application_id") == [(APPLICATION_ID,)]


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE bookmarks (url)",),
        ("CREATE TABLE jobs (x)",),
        ("CREATE TABLE bookmarks (url)", "PRAGMA user_version = 3"),
        ("CREATE TABLE jobs (x)", "CREATE TABLE more (y)", "PRAGMA user_version = 3"),
        ("PRAGMA application_id = 5",),
        ("PRAGMA application_id = 5", f"PRAGMA user_version = {len(STEPS)}", *STEPS[:1]),
    ],
)
async def test_another_programs_file_is_left_alone(make: Make, statements: tuple[str, ...], wal: bool):
    """Neither its bytes, nor its rights, nor files beside it change; a link to it is no other case."""
    store = make()
    store.path.parent.mkdir()
    theirs = store.path.with_name("theirs.db")
    by_hand(theirs, *(["PRAGMA journal_mode = WAL"] if wal else []), *statements)
    theirs.chmod(0o640)
    store.path.symlink_to(theirs)
    before = theirs.read_bytes(), theirs.stat().st_mode
    await unusable(store, "another program wrote it; move it away, or set IMAGE_GEN_STATE_DIR to another folder")
    assert (theirs.read_bytes(), theirs.stat().st_mode) == before
    assert {file.name for file in theirs.parent.iterdir()} == {theirs.name, store.path.name}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes with names in folders")
async def test_a_pipe_in_its_place(store: SQLiteJobs):
    store.path.parent.mkdir()
    os.mkfifo(store.path)
    await unusable(store, "it is not a file")


# -- a file that is harmed ----------------------------------------------------------------------------


def corrupt(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def corrupt_inside(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [corrupt, corrupt_inside])
async def test_a_corrupt_file_is_put_aside(make: Make, tmp_path: Path, harm: Callable[[Path], None], caplog):
    first = make()
    await add(first, job())
    await first.aclose()
    harm(first.path)
    harmed = first.path.read_bytes()
    store, written = make(clock=lambda: 1234.5), job()
    await add(store, written)
    aside = tmp_path / "state" / f"{FILE}.corrupt-1234"
    warning = store.take_warning()
    assert warning == f"The job database was corrupt. It was moved to {aside} and a new one was created."
    assert (store.take_warning(), store.problem, await listed(store)) == ("", "", [written.job_id])
    assert aside.read_bytes() == harmed
    assert warning in caplog.text


async def test_a_file_corrupt_for_two_is_renewed_once(make: Make, tmp_path: Path):
    """Both find it corrupt; one moves it aside, and the other leaves the new file alone."""
    stores, jobs = [make(lock_seconds=10) for _ in range(4)], [job() for _ in range(4)]
    stores[0].path.parent.mkdir()
    corrupt(stores[0].path)
    await asyncio.gather(*(add(store, each) for store, each in zip(stores, jobs, strict=True)))
    for store, each in zip(stores, jobs, strict=True):
        await store.update(each, owner="me")
    assert set(await listed(stores[1])) == {each.job_id for each in jobs}
    assert len(list((tmp_path / "state").glob("*.corrupt-*"))) == 1


async def test_a_corrupt_file_that_cannot_be_moved(store: SQLiteJobs, monkeypatch: pytest.MonkeyPatch):
    store.path.parent.mkdir()
    corrupt(store.path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    await unusable(store, "Permission denied")


async def test_a_deleted_file_is_created_again(store: SQLiteJobs):
    await add(store, job())
    for file in store.path.parent.iterdir():
        file.unlink()
    written = job()
    await add(store, written)
    assert (await listed(store), store.take_warning()) == ([written.job_id], "")


async def test_a_replaced_file_is_read(store: SQLiteJobs, tmp_path: Path):
    """For instance from a backup."""
    before, after = job(), job()
    await add(store, before)
    other = SQLiteJobs(tmp_path / "backup")
    await add(other, after)
    await other.aclose()
    for file in store.path.parent.iterdir():
        file.unlink()
    other.path.rename(store.path)
    assert await listed(store) == [after.job_id]


async def test_a_locked_file_is_tried_again(store: SQLiteJobs, caplog):
    await add(store, job())
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(2):
            assert (await add(store, job())).filename_ms > 0
        assert "another program holds a lock on it" in store.take_warning()
    assert caplog.text.count("Job history is unavailable") == 1
    written = job()
    await add(store, written)
    assert await store.get(written.job_id)
    assert (store.take_warning(), store.problem) == ("", "")


async def test_a_failure_is_not_repeated_at_once(make: Make):
    """A file that is locked for long must not slow every job."""
    store = make(rest_seconds=60)
    await add(store, job())
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await add(store, job())
    written = job()
    await add(store, written)
    assert await make().get(written.job_id) is None
    assert store.problem


async def test_a_failed_write_is_rolled_back(store: SQLiteJobs, monkeypatch: pytest.MonkeyPatch, caplog):
    """Also when the fault is our own."""
    written = await add(store, job())
    await store.run(lambda db: (db.execute("UPDATE jobs SET status = 'lost'"), 1 / 0))
    assert "ZeroDivisionError" in store.problem
    assert "Traceback" in caplog.text
    assert (await store.get(written.job_id)).status == "queued"


async def test_a_full_disk_is_no_error(store: SQLiteJobs):
    """SQLite's own limit stands for the disk's: the error is the same."""
    await add(store, job())
    await store.run(lambda db: db.execute("PRAGMA max_page_count = 1"), writes=False)
    for _ in range(50):
        await add(store, job())
        if store.problem:
            break
    assert "full" in store.take_warning()


async def test_a_folder_in_its_place(store: SQLiteJobs):
    store.path.mkdir(parents=True)
    await unusable(store, "directory")


async def test_a_state_folder_that_cannot_be_made(make: Make, tmp_path: Path):
    (tmp_path / "state").touch()
    await unusable(make(), "exists")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
async def test_a_folder_that_is_read_only(store: SQLiteJobs):
    store.path.parent.mkdir(mode=0o500)
    await unusable(store, "Permission denied")


@pytest.mark.parametrize(
    "odd",
    [
        "images = 'nonsense'",
        "images = '[{}]'",
        "status = 'odd'",
        "status = 'done'",
        "error = '[1]'",
        "created = 1e300",
        "created = -1",
        "request = '5'",
        "plan = '{}'",
        "ticket = '[]'",
        "progress = '{}'",
        "notes = '5'",
        "engine = x'ff'",
        "url = x'ff'",
        "cancel_error = x'ff'",
        "created = 'now'",
        "seconds = 'long'",
        "seconds = 9e999",
        "lease_until = 'x'",
        "lease_until = 9e999",
        "filename_ms = 'x'",
        "filename_ms = 1.5",
        "preview = 'x'",
        "request = '[1, 2]'",
        'plan = \'{"model": 5, "seed": 1, "notes": []}\'',
        'plan = \'{"model": "m", "seed": "../x", "notes": []}\'',
        "images = '[5]'",
        "images = '[{\"path\": 5}]'",
        'images = \'[{"path": "../../etc/passwd", "seed": 1, "width": 1, "height": 1, "size_bytes": 1, '
        '"mime_type": "image/png"}]\'',
    ],
)
async def test_an_unreadable_row_is_passed_over(store: SQLiteJobs, odd: str, caplog):
    bad, good = job(), job()
    await add(store, bad)
    await add(store, good)
    by_hand(store.path, f"UPDATE jobs SET {odd} WHERE job_id = '{bad.job_id}'")
    assert await store.get(bad.job_id) is None
    assert await listed(store) == [good.job_id]
    assert f"job {bad.job_id} in the database cannot be read" in caplog.text
    assert store.problem == ""


@pytest.mark.parametrize(
    "odd", ["job_id = x'ff00'", "job_id = CAST(x'ff41' AS TEXT)", "notes = CAST(x'22ff22' AS TEXT)"]
)
async def test_bytes_that_are_no_text_cost_one_row(store: SQLiteJobs, odd: str):
    bad, good = job(), job()
    await add(store, good)
    await add(store, bad)
    by_hand(store.path, f"UPDATE jobs SET {odd} WHERE job_id = '{bad.job_id}'")
    assert good.job_id in await listed(store)
    assert all(isinstance(each.job_id, str) for each in await store.recent(10))
    assert store.problem == ""


async def test_unreadable_rows_do_not_hide_the_others(store: SQLiteJobs):
    good, bad = [job() for _ in range(3)], [job() for _ in range(30)]
    for each in (*good, *bad):
        await add(store, each)
    by_hand(store.path, *(f"UPDATE jobs SET plan = 'x' WHERE job_id = '{each.job_id}'" for each in bad))
    assert [each.job_id for each in await store.recent(2)] == [good[2].job_id, good[1].job_id]


@pytest.mark.parametrize("count", ["9223372036854775807", "'x'", "9e300"])
async def test_an_odd_count_of_images_costs_no_name(make: Make, count: str):
    store = make(clock=lambda: 1_700_000_000.0)
    bad = job()
    await add(store, bad)
    by_hand(store.path, f"UPDATE jobs SET image_count = {count}")
    assert 1_700_000_000_000 <= (await add(store, job())).filename_ms < 1_700_000_000_100
