"""Files that somebody else may have put there: opened once, without waiting, and looked at through what is open."""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: A FIFO or a device answers at once instead of waiting for its other end. Windows has none of these but O_BINARY.
FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
    FLAGS |= getattr(os, _name, 0)
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotAFile(OSError):
    """What has the name is no regular file; `strerror` says what it is."""

    def __init__(self, kind: str) -> None:
        super().__init__(None, f"it is {kind}, not a file")


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, links followed.

    Raises:
        NotAFile: it is a folder, a FIFO, a socket or a device.
        OSError: it cannot be opened.
    """
    descriptor = _open(path)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotAFile(next((kind for is_kind, kind in KINDS if is_kind(mode)), "something else"))
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, FLAGS)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):
            raise NotAFile("a socket") from error
        raise


def read_up_to(file: BinaryIO, limit: int) -> bytes | None:
    """Return the whole file; None if it has more than `limit` bytes, whatever size the system tells."""
    data = file.read(limit + 1) or b""  # None: a file of the system that has nothing to say yet
    return data if len(data) <= limit else None


def is_below(file: BinaryIO, path: Path, folders: Collection[Path]) -> bool:
    """Return True when the file that was opened as `path` lies below one of the folders, whose links are resolved."""
    place = _place(file.fileno(), path)
    return place is not None and any(place.is_relative_to(folder) for folder in folders)


def _place(descriptor: int, path: Path) -> Path | None:
    """Return where an open file lies, even if `path` names another by now; None if that cannot be told."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115  (the kernel's word; Linux)
    except OSError:
        pass
    try:
        place = path.resolve(strict=True)
        there, opened = place.lstat(), os.fstat(descriptor)
    except (OSError, RuntimeError):
        return None
    return place if (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino) else None
