"""A small SQLite file that every server process of the user shares: opened, upgraded, put aside when it is corrupt.

Whatever is wrong with the file is kept in `problem` and logged once, and no method raises.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

LOCK_SECONDS = 1.0  #: how long another process may hold the file before a write is given up
APPLICATION_ID = (
    0x4D494731  #: "MIG1" in the file's header, so that it is not taken for another program's, nor that for it
)
REST_SECONDS = 10.0  #: after a failure nothing is tried for so long, so that a locked file does not slow every job


class _Unusable(Exception):
    """The file cannot be used, and this is the reason for the user."""


class SQLiteFile:
    """One file, used in a thread of its own; opened when it is first wanted.

    Attributes:
        problem: What is wrong with the file, in a sentence for the user; empty while it works.
    """

    def __init__(
        self,
        path: Path,
        steps: Sequence[str],
        *,
        tables: frozenset[str],
        clock: Callable[[], float] = time.time,
        lock_seconds: float = LOCK_SECONDS,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        """Prepare to open `path`; `steps` bring an empty file up to date, in order; then it has these `tables`."""
        self.path = path
        self.problem = ""
        self.clock = clock
        self._steps = steps
        self._tables = tables
        self._lock_seconds = lock_seconds
        self._rest_seconds = rest_seconds
        self._news = ""
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._rest_until = 0.0
        self._closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs")

    def take_warning(self) -> str:
        """Return what the user should know of the file, once for each time it went wrong; mostly empty."""
        warning, self._news = self.problem or self._news, ""
        return warning

    async def aclose(self) -> None:
        """Close the file; harmless when it is closed."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def run(self, work: Work[Result], *, writes: bool = True) -> Result | None:
        """Do the work in one transaction, in the file's thread; None when the file cannot be used, or is closed."""
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
        except Exception as error:  # it must not cost an image, whatever it is
            logger.exception("the job database")
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
        """Move the corrupt file aside, create a new one and do the work there."""
        try:
            aside = self._put_aside()
            result = self._transact(work, writes)
        except (sqlite3.Error, _Unusable, OSError) as error:
            self._give_up(str(error))
            return None
        self._news = f"The job database was corrupt. It was moved to {aside} and a new one was created."
        logger.warning("%s", self._news)
        return result

    def _give_up(self, reason: str) -> None:
        self._close()
        self._rest_until = time.monotonic() + self._rest_seconds
        problem = (
            f"Job history is unavailable ({self.path}: {reason}). Images are still generated and saved, but running "
            "jobs will not survive a server restart."
        )
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem

    def _open(self) -> sqlite3.Connection:
        if self._connection and self._inode == _inode_of(self.path):
            return self._connection
        self._close()  # the file was deleted or replaced
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._prepare()
        self._connection = connection = sqlite3.connect(self.path, timeout=self._lock_seconds, isolation_level=None)
        self._inode = _inode_of(self.path)
        connection.row_factory = sqlite3.Row
        connection.text_factory = _text  # one text that is no UTF-8 must not cost the other rows
        if _version_of(connection) > len(self._steps):
            message = "a newer version of mcp-image-gen wrote it; update this one"
            raise _Unusable(message)
        _use_wal(connection, self._lock_seconds)
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last rows, never the file
        _upgrade(connection, self._steps)
        return connection

    def _prepare(self) -> None:
        """Make the file if need be, and let nobody but its owner read it: it holds prompts.

        Raises:
            _Unusable: another program's file has the name; it is not touched.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o600)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                message = "it is not a file"
                raise _Unusable(message)
            if facts.st_size and _is_foreign(self.path, self._tables):
                message = "another program wrote it; move it away, or set IMAGE_GEN_STATE_DIR to another folder"
                raise _Unusable(message)
            if hasattr(os, "fchmod"):
                with contextlib.suppress(PermissionError):  # the file of another user who lets us write
                    os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _put_aside(self) -> Path:
        """Rename the corrupt file, unless another process has created a new one already."""
        damaged = self._inode
        self._close()
        aside = self.path.with_name(f"{self.path.name}.corrupt-{int(self.clock())}")
        if damaged == _inode_of(self.path):
            self.path.rename(aside)
            for ending in ("-wal", "-shm"):
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
        return aside


def _use_wal(connection: sqlite3.Connection, seconds: float) -> None:
    """Switch to write-ahead logging: SQLite itself does not wait for a new file that another process is switching."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _is_foreign(path: Path, tables: frozenset[str]) -> bool:
    """Return True for a database of another program; False for ours, for an empty one and for what is none.

    The file is read as it lies there, without its journal: to open another program's as usual would change it.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            if application := _application_of(connection):
                return application != APPLICATION_ID
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            others = {name for (name,) in found if not str(name).startswith("sqlite_")}
            return not others <= tables or (bool(others) and _version_of(connection) == 0)
    except sqlite3.Error:  # it is being written, or damaged: what follows finds out
        return False


def _upgrade(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Bring a new or older file up to date; its user_version counts the steps."""
    if _version_of(connection) == len(steps) and _application_of(connection) == APPLICATION_ID:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for step in steps[_version_of(connection) :]:  # another process may have been quicker
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _application_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def _version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)  # the higher bits tell more exactly where


def _reason(error: sqlite3.DatabaseError) -> str:
    return {"database is locked": "another program holds a lock on it"}.get(str(error), str(error))


def _inode_of(path: Path) -> int:
    """Return what tells this file from another one of the same name; 0 if there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
