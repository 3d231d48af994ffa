"""The job store of a user: one SQLite file that all server processes share."""

import logging
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcp_image_gen_local.domain.job import CallEnd, Job, JobStatus
from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.storage import job_rows as rows
from mcp_image_gen_local.storage.job_store import FAR_SECONDS, RESTORED_SECONDS, Beat, Orphan, Standing, is_live
from mcp_image_gen_local.storage.sqlite_file import SQLiteFile

logger = logging.getLogger(__name__)

FILE = "jobs.sqlite3"
KEPT_JOBS = 10_000  #: older ended jobs are forgotten
STEPS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- order in which jobs were created, whatever the clock said
        prompt_id TEXT NOT NULL UNIQUE,
        engine TEXT NOT NULL,
        url TEXT NOT NULL,
        status TEXT NOT NULL,
        asked TEXT,               -- JSON of the request; NULL: a job of another client of the engine
        plan TEXT,                -- JSON; NULL: nothing was sent to the engine
        images TEXT NOT NULL,     -- JSON: the images on disk
        notes TEXT NOT NULL,      -- JSON: sentences
        error TEXT,               -- JSON: code, message, hint
        created REAL NOT NULL,    -- seconds since 1970
        seconds REAL,             -- from the call to the end; NULL: not ended
        touched REAL NOT NULL,
        stamp INTEGER NOT NULL,
        pictures INTEGER NOT NULL
    )
    """,
    "CREATE INDEX jobs_by_status ON jobs (status, number)",
    "CREATE INDEX jobs_by_stamp ON jobs (stamp)",
    "ALTER TABLE jobs RENAME COLUMN prompt_id TO job_id",
    "ALTER TABLE jobs RENAME COLUMN asked TO request",
    "ALTER TABLE jobs RENAME COLUMN touched TO lease_until",  # seconds since 1970; 0: no process holds the job
    "ALTER TABLE jobs RENAME COLUMN stamp TO filename_ms",  # milliseconds since 1970, of the first image's file
    "ALTER TABLE jobs RENAME COLUMN pictures TO image_count",  # so many values of filename_ms are taken
    "ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT ''",  # holder of the lease
    "ALTER TABLE jobs ADD COLUMN ticket TEXT",  # JSON: host, id, data; NULL: the engine has not taken the job
    "ALTER TABLE jobs ADD COLUMN progress TEXT",  # JSON, at most as old as a second while a process watches
    "ALTER TABLE jobs ADD COLUMN preview BLOB",
    "ALTER TABLE jobs ADD COLUMN cancel_requested INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN cancel_error TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN watched_until REAL NOT NULL DEFAULT 0",  # seconds since 1970
    "ALTER TABLE jobs ADD COLUMN requeues INTEGER NOT NULL DEFAULT 0",  # times that the engine got it again
    "ALTER TABLE jobs ADD COLUMN orphaned_at REAL",  # seconds since 1970: its call ended without an answer; or NULL
    "ALTER TABLE jobs ADD COLUMN call_end TEXT NOT NULL DEFAULT ''",  # how that call ended
    "ALTER TABLE jobs ADD COLUMN caller TEXT NOT NULL DEFAULT ''",  # whose call that was
    "CREATE INDEX jobs_by_orphaned_at ON jobs (orphaned_at) WHERE orphaned_at IS NOT NULL",
)
IS_FREE = "(owner IN ('', :owner) OR lease_until <= :now OR lease_until > :now + :far)"


class SQLiteJobs(SQLiteFile):
    """A `JobStore` in a file."""

    def __init__(self, folder: Path, **options: Any) -> None:
        """Prepare to open the file in this folder; `options` are those of `SQLiteFile`."""
        super().__init__(folder / FILE, STEPS, tables=frozenset({"jobs"}), **options)

    async def create(self, job: Job, *, image_count: int, owner: str, seconds: float) -> Job | None:
        """Store a new job, leased to `owner`; None if another process has stored it first."""
        now = self.clock()
        leased = replace(job, lease_until=now + seconds, filename_ms=int(now * 1000))
        filename_ms = await self.run(lambda db: _insert(db, leased, image_count, owner))
        if filename_ms == 0:
            return None
        return replace(leased, filename_ms=filename_ms or leased.filename_ms)

    async def claim(self, job_id: str, *, owner: str, seconds: float) -> Job | None:
        """Lease the job to `owner` if no other owner holds it; None if one does, or it is unknown."""
        return await self.run(lambda db: _claim(db, job_id, owner, self.clock(), seconds))

    async def renew(self, job_ids: Collection[str], *, owner: str, seconds: float) -> Beat:
        """Extend the leases of these jobs; return what others want of them."""
        return await self.run(lambda db: _renew(db, job_ids, owner, self.clock(), seconds)) or Beat()

    async def release(self, job_ids: Collection[str], *, owner: str) -> None:
        """End the leases of these jobs."""
        statement = "UPDATE jobs SET owner = '', lease_until = 0 WHERE job_id = ? AND owner = ?"
        await self.run(lambda db: db.executemany(statement, [(job_id, owner) for job_id in job_ids]))

    async def update(self, job: Job, *, owner: str) -> Standing:
        """Store the job's state if `owner` holds its lease."""
        return await self.run(lambda db: _update(db, job, owner, self.clock())) or Standing()

    async def write_progress(self, job: Job, *, owner: str) -> None:
        """Store the job's progress and preview, if `owner` holds its lease."""
        statement = (
            "UPDATE jobs SET status = :status, progress = :progress, preview = :preview "
            "WHERE job_id = :job_id AND owner = :owner"
        )
        await self.run(lambda db: db.execute(statement, {**rows.progress_of(job), "owner": owner}))

    async def request_cancel(self, job_id: str) -> None:
        """Ask the holder to cancel the job."""
        await self.run(lambda db: db.execute("UPDATE jobs SET cancel_requested = 1 WHERE job_id = ?", (job_id,)))

    async def leave(self, orphan: Orphan, *, caller: str) -> bool:
        """Note whose call ended without an answer; False if that cannot be noted."""
        statement = "UPDATE jobs SET orphaned_at = ?, call_end = ?, caller = ? WHERE job_id = ?"
        values = (orphan.at, orphan.end, caller, orphan.job_id)
        return bool(await self.run(lambda db: db.execute(statement, values).rowcount))

    async def take(
        self, request: Mapping[str, Any], *, engine: str, url: str, caller: str, seconds: float
    ) -> Orphan | None:
        """Return the job that the caller left with the same request during the last `seconds`."""
        values = (self.clock() - seconds, engine, url, caller, rows.request_of(request))
        return await self.run(lambda db: _take(db, values))

    async def hand_over(self, job_id: str) -> None:
        """Note that a caller has the job's image."""
        statement = "UPDATE jobs SET orphaned_at = NULL WHERE job_id = ? AND orphaned_at IS NOT NULL"
        await self.run(lambda db: db.execute(statement, (job_id,)))

    async def watch(self, job_id: str, *, seconds: float) -> Job | None:
        """Return the job, and ask its holder for progress during the next `seconds`."""
        return await self.run(lambda db: _watch(db, job_id, self.clock() + seconds))

    async def get(self, job_id: str) -> Job | None:
        """Return the job; None if it is not known, or nothing can be read."""
        found = await self.run(lambda db: _select(db, "WHERE job_id = ?", (job_id,)), writes=False)
        return found[0] if found else None

    async def unfinished(self, engine: str, url: str) -> list[Job]:
        """Return the engine's jobs that have not ended, oldest first."""
        where = "WHERE status IN ('queued', 'running') AND engine = ? AND url = ? ORDER BY number"
        return await self.run(lambda db: _select(db, where, (engine, url)), writes=False) or []

    async def recent(self, limit: int, statuses: Collection[JobStatus] = ()) -> list[Job]:
        """Return the newest jobs, the newest first; only those of the given statuses, if any are given."""
        wanted = tuple(statuses or JobStatus)
        where = f"WHERE status IN ({', '.join('?' * len(wanted))}) ORDER BY number DESC"
        return await self.run(lambda db: _select(db, where, wanted, limit), writes=False) or []

    async def forget(self, job_ids: Collection[str]) -> None:
        """Delete the jobs."""
        await self.run(lambda db: db.executemany("DELETE FROM jobs WHERE job_id = ?", [(j,) for j in job_ids]))

    def is_leased(self, job: Job) -> bool:
        """Return True while a process holds the job's lease."""
        return is_live(job.lease_until, self.clock())


def _insert(db: sqlite3.Connection, job: Job, image_count: int, owner: str) -> int:
    """Insert the job under the first free names from its own on; return that name, or 0 if the job is there."""
    first, taken = (
        job.filename_ms,
        (
            "SELECT max(filename_ms + image_count) FROM jobs "
            "WHERE filename_ms < :end AND filename_ms + image_count > :start AND filename_ms > :far "
            "AND image_count < 1000"
        ),
    )
    while True:
        near = {"start": first, "end": first + image_count, "far": first - 1000}  # no job has as many images
        free = db.execute(taken, near).fetchone()[0]
        if free is None:
            break
        first = free
    values = {**rows.row_of(job), "filename_ms": first, "image_count": image_count, "owner": owner}
    written = db.execute(rows.INSERT, values)
    if written.rowcount == 0:
        return 0
    number = written.lastrowid or 0
    if number % 100 == 0:  # now and then is enough
        db.execute("DELETE FROM jobs WHERE number <= ? AND seconds IS NOT NULL", (number - KEPT_JOBS,))
    return first


def _claim(db: sqlite3.Connection, job_id: str, owner: str, now: float, seconds: float) -> Job | None:
    values = {"job_id": job_id, "owner": owner, "now": now, "until": now + seconds, "far": FAR_SECONDS}
    claimed = db.execute(
        "UPDATE jobs SET owner = :owner, lease_until = :until, cancel_requested = cancel_requested AND seconds IS NULL "
        f"WHERE job_id = :job_id AND {IS_FREE}",
        values,
    )
    found = _select(db, "WHERE job_id = ?", (job_id,)) if claimed.rowcount else []
    return found[0] if found else None


def _renew(db: sqlite3.Connection, job_ids: Collection[str], owner: str, now: float, seconds: float) -> Beat:
    db.executemany(
        "UPDATE jobs SET lease_until = ? WHERE job_id = ? AND owner = ?",
        [(now + seconds, job_id, owner) for job_id in job_ids],
    )
    marks = ", ".join("?" * len(job_ids))
    facts = db.execute(
        f"SELECT job_id, owner, cancel_requested, watched_until FROM jobs WHERE job_id IN ({marks})", tuple(job_ids)
    ).fetchall()
    held = [fact for fact in facts if fact["owner"] == owner]
    return Beat(
        lost=frozenset(fact["job_id"] for fact in facts if fact["owner"] != owner),
        cancel_requested=frozenset(fact["job_id"] for fact in held if fact["cancel_requested"]),
        watched=frozenset(fact["job_id"] for fact in held if fact["watched_until"] > now),
    )


def _update(db: sqlite3.Connection, job: Job, owner: str, now: float) -> Standing:
    row = db.execute("SELECT owner, cancel_requested FROM jobs WHERE job_id = ?", (job.job_id,)).fetchone()
    if row is None:  # the file was deleted or replaced meanwhile
        values = {**rows.row_of(job), "image_count": max(1, len(job.images))}
        lease = ("", 0.0) if job.status.is_final else (owner, now + RESTORED_SECONDS)
        db.execute(rows.INSERT, {**values, "owner": lease[0], "lease_until": lease[1]})
        return Standing()
    if row["owner"] != owner:
        return Standing(is_held=False)
    db.execute(rows.UPDATE, rows.changes_of(job))
    return Standing(cancel_requested=bool(row["cancel_requested"]))


def _take(db: sqlite3.Connection, values: Sequence[object]) -> Orphan | None:
    found = db.execute(
        "SELECT job_id, orphaned_at, call_end FROM jobs "
        "WHERE orphaned_at > ? AND engine = ? AND url = ? AND caller = ? AND request = ? "
        "AND status IN ('queued', 'running', 'done') AND NOT cancel_requested ORDER BY orphaned_at DESC",
        values,
    ).fetchone()
    if found is None:
        return None
    db.execute("UPDATE jobs SET orphaned_at = NULL WHERE job_id = ?", (found["job_id"],))
    return Orphan(job_id=found["job_id"], at=found["orphaned_at"], end=CallEnd(found["call_end"]))


def _watch(db: sqlite3.Connection, job_id: str, until: float) -> Job | None:
    db.execute("UPDATE jobs SET watched_until = ? WHERE job_id = ? AND owner != ''", (until, job_id))
    found = _select(db, "WHERE job_id = ?", (job_id,))
    return found[0] if found else None


def _select(db: sqlite3.Connection, where: str, values: Sequence[object], limit: int | None = None) -> list[Job]:
    """Return the jobs of the rows, at most `limit`; a row that cannot be read is left out and costs no other one."""
    found: list[Job] = []
    rows_found = db.execute(f"SELECT * FROM jobs {where}", values)
    while len(found) != limit and (row := rows_found.fetchone()):
        try:
            found.append(rows.job_of(row))
        except Exception as error:  # another program may have edited the file
            logger.warning("job %s in the database cannot be read: %s", clean(row["job_id"], 64), clean(repr(error)))
    return found
