"""The journal of jobs: a small SQLite file that every server process of the user shares.

It makes jobs outlive the process that began them. It is never worth a picture: whatever is wrong with the file costs
history, is told in `problem` and in the log, and no method raises.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.storage import journal_rows as rows

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

FILE = "jobs.sqlite3"
LOCK_SECONDS = 1.0  #: how long another process may hold the file before a write is given up
REST_SECONDS = 10.0  #: after a failure nothing is tried for so long, so that a locked file does not slow every job
ALIVE_SECONDS = 15.0  #: a process that has not touched its job for so long is gone
KEPT_JOBS = 10_000  #: older ended jobs are forgotten
#: What is done to a file that is new or of an older version, step by step; its user_version counts the steps.
STEPS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- order in which jobs were begun, whatever the clock said
        prompt_id TEXT NOT NULL UNIQUE,
        engine TEXT NOT NULL,
        url TEXT NOT NULL,
        status TEXT NOT NULL,
        asked TEXT,               -- JSON of the request; NULL: a job of another client of the engine
        plan TEXT,                -- JSON: seed, model, settings, notes; NULL: nothing was sent to the engine
        images TEXT NOT NULL,     -- JSON: the images on disk
        notes TEXT NOT NULL,      -- JSON: sentences
        error TEXT,               -- JSON: code, message, hint
        created REAL NOT NULL,    -- seconds since 1970
        seconds REAL,             -- from the call to the end; NULL: not ended
        touched REAL NOT NULL,    -- seconds since 1970: when the process that works on it last said so; 0: none does
        stamp INTEGER NOT NULL,   -- milliseconds since 1970 that name the first picture's file
        pictures INTEGER NOT NULL -- so many stamps are taken
    )
    """,
    "CREATE INDEX jobs_by_status ON jobs (status, number)",
    "CREATE INDEX jobs_by_stamp ON jobs (stamp)",
)
#: A job that is done stays done, one that was cancelled is at most done all the same, and one that has ended does not
#: begin again, whatever a slower process writes later.
UPDATE = """
    UPDATE jobs
    SET status = :status, plan = :plan, images = :images, notes = :notes, error = :error, seconds = :seconds
    WHERE prompt_id = :prompt_id
        AND (status IN ('queued', 'running') OR (:final AND status NOT IN ('done', 'cancelled')) OR :status = 'done')
"""


class _Unusable(Exception):
    """The file cannot be used, and this is what to tell the user."""


class Journal:
    """The jobs of this user; opened when it is first wanted, in a thread of its own.

    Attributes:
        problem: What is wrong with the file, in a sentence for the user; empty while all is well.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = folder / FILE
        self.problem = ""
        self._news = ""
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._rest_until = 0.0
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    async def add(self, job: Job, *, image_count: int = 1) -> int:
        """Write the new job down; return the first of as many stamps as it has images, that no other job has."""
        stamp = int(self._clock() * 1000)
        return await self._do(lambda db: _insert(db, job, stamp, image_count)) or stamp

    async def update(self, job: Job) -> bool:
        """Write down how the job stands now; return False if the journal knows better: it has ended."""
        return await self._do(lambda db: db.execute(UPDATE, rows.changes_of(job)).rowcount) != 0

    async def touch(self, prompt_ids: Sequence[str], *, alive: bool = True) -> list[str]:
        """Say that this process works on the jobs, or no longer does; return those that have been cancelled."""
        now = self._clock() if alive else 0.0
        return await self._do(lambda db: _touch(db, prompt_ids, now)) or []

    def is_looked_after(self, job: Job) -> bool:
        """Return True for an unfinished job that a process was at work on a moment ago."""
        return not job.status.is_final and abs(self._clock() - job.touched) < ALIVE_SECONDS

    async def get(self, prompt_id: str) -> Job | None:
        """Return the job; None if it is not known, or nothing can be read."""
        found = await self._do(lambda db: _select(db, "WHERE prompt_id = ?", (prompt_id,)), writes=False)
        return found[0] if found else None

    async def unfinished(self, engine: str, url: str) -> list[Job]:
        """Return the engine's jobs that had not ended when last heard of, oldest first."""
        where = "WHERE status IN ('queued', 'running') AND engine = ? AND url = ? ORDER BY number"
        return await self._do(lambda db: _select(db, where, (engine, url)), writes=False) or []

    async def recent(self, limit: int, statuses: Collection[JobStatus] = ()) -> list[Job]:
        """Return the newest jobs, the newest first; only those of the given statuses, if any are given."""
        wanted = tuple(statuses or JobStatus)
        where = f"WHERE status IN ({', '.join('?' * len(wanted))}) ORDER BY number DESC LIMIT ?"
        return await self._do(lambda db: _select(db, where, (*wanted, limit)), writes=False) or []

    def take_warning(self) -> str:
        """Return what the user should know of the journal, once for each time it went wrong; mostly empty."""
        warning, self._news = self.problem or self._news, ""
        return warning

    async def forget(self, prompt_ids: Sequence[str]) -> None:
        """Delete the jobs' rows."""
        await self._do(lambda db: db.executemany("DELETE FROM jobs WHERE prompt_id = ?", [(p,) for p in prompt_ids]))

    async def aclose(self) -> None:
        """Close the file; harmless when it is closed."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Work[Result], *, writes: bool = True) -> Result | None:
        """Do the work in one transaction, in the journal's thread; None when the file cannot be used, or is closed."""
        if self._closed:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, work, writes)

    def _attempt(self, work: Work[Result], writes: bool) -> Result | None:
        if time.monotonic() < self._rest_until:
            return None
        try:
            result = self._transact(work, writes)
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                return self._after_damage(work, writes)
            self._give_up(_reason(error))
        except (_Unusable, OSError) as error:
            self._give_up(str(error))
        except Exception as error:  # it must not cost a picture, whatever it is
            logger.exception("the journal")
            self._give_up(repr(error))
        else:
            self.problem = ""
            return result
        return None

    def _transact(self, work: Work[Result], writes: bool) -> Result:
        with self._open() as connection:  # commits, or rolls back when it raises
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            return work(connection)

    def _after_damage(self, work: Work[Result], writes: bool) -> Result | None:
        """Put the damaged file aside, begin a new one and do the work there."""
        try:
            aside = self._put_aside()
            result = self._transact(work, writes)
        except (sqlite3.Error, _Unusable, OSError) as error:
            self._give_up(str(error))
            return None
        self._news = f"The job journal was damaged; it was put aside as {aside} and begun anew."
        logger.warning("%s", self._news)
        return result

    def _give_up(self, reason: str) -> None:
        self._close()
        self._rest_until = time.monotonic() + REST_SECONDS
        problem = (
            f"The job journal {self.path} cannot be used ({reason}): images are generated and saved as ever, but a "
            "restart of this server forgets its jobs."
        )
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem

    def _open(self) -> sqlite3.Connection:
        if self._connection and self._inode == _inode_of(self.path):
            return self._connection
        self._close()  # somebody deleted or replaced the file
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # prompts are nobody else's business
        self._connection = connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        self._inode = _inode_of(self.path)
        connection.row_factory = sqlite3.Row
        if _version_of(connection) > len(STEPS):
            message = "a newer mcp-image-gen wrote it; update this one"
            raise _Unusable(message)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last rows, never the file
        _upgrade(connection)
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _put_aside(self) -> Path:
        """Rename the damaged file, unless another process has begun a new one already."""
        damaged = self._inode
        self._close()
        aside = self.path.with_name(f"{FILE}.damaged-{int(self._clock())}")
        if damaged == _inode_of(self.path):
            self.path.rename(aside)
            for ending in ("-wal", "-shm"):
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
        return aside


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring a new or older file up to date."""
    if _version_of(connection) == len(STEPS):
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for step in STEPS[_version_of(connection) :]:  # another process may have been quicker
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")


def _version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _insert(connection: sqlite3.Connection, job: Job, stamp: int, image_count: int) -> int:
    """Insert the job under the first free stamps from `stamp` on; return the first of them."""
    taken = "SELECT max(stamp + pictures) FROM jobs WHERE stamp < :end AND stamp + pictures > :start AND stamp > :far"
    while True:
        near = {"start": stamp, "end": stamp + image_count, "far": stamp - 1000}  # no job has as many images
        free = connection.execute(taken, near).fetchone()[0]
        if free is None:
            break
        stamp = free
    written = connection.execute(rows.INSERT, {**rows.row_of(job), "stamp": stamp, "pictures": image_count})
    if written.rowcount == 0:  # another process was quicker
        return int(connection.execute("SELECT stamp FROM jobs WHERE prompt_id = ?", (job.prompt_id,)).fetchone()[0])
    number = written.lastrowid or 0
    if number % 100 == 0:  # now and then is enough
        connection.execute("DELETE FROM jobs WHERE number <= ? AND seconds IS NOT NULL", (number - KEPT_JOBS,))
    return stamp


def _touch(connection: sqlite3.Connection, prompt_ids: Sequence[str], now: float) -> list[str]:
    connection.executemany("UPDATE jobs SET touched = ? WHERE prompt_id = ?", [(now, p) for p in prompt_ids])
    is_cancelled = f"SELECT 1 FROM jobs WHERE prompt_id = ? AND status = '{JobStatus.CANCELLED}'"
    return [p for p in prompt_ids if connection.execute(is_cancelled, (p,)).fetchone()]


def _select(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> list[Job]:
    found = []
    for row in connection.execute(f"SELECT * FROM jobs {where}", values):
        try:
            found.append(rows.job_of(row))
        except Exception as error:  # somebody's hand was in the file
            logger.warning("job %s in the journal cannot be read: %r", row["prompt_id"], error)
    return found


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # the higher bits tell more exactly where


def _reason(error: sqlite3.DatabaseError) -> str:
    return {"database is locked": "another program holds it locked"}.get(str(error), str(error))


def _inode_of(path: Path) -> int:
    """Return what tells this file from another one of the same name; 0 if there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
