"""Keeping the output folder small: which of our own files are to go, and taking them away."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from mcp_image_gen_local.storage.images import EXTENSIONS, PART

DAY = 86_400.0  #: seconds
STALE_PART_SECONDS = 3_600.0  #: a file that is still being written is younger
#: Only what this program named itself is ever looked at: `{timestamp}_{seed}.png`, and the file it is written to first.
IMAGE = re.compile(rf"\d{{8}}-\d{{6}}-\d{{3}}_(\d{{1,20}}|random)\.({'|'.join(EXTENSIONS.values())})", re.ASCII)
UNFINISHED = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(PART)}")


@dataclass(frozen=True, kw_only=True)
class Expired:
    """A file that is to go."""

    path: Path
    size_bytes: int
    age_days: float
    reason: str  #: "older than 30 days", say


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """What became of the files that were to go."""

    deleted: tuple[Expired, ...]
    failures: tuple[str, ...]  #: a sentence for each file that could not be deleted

    @property
    def size_bytes(self) -> int:
        """Bytes that are free again."""
        return sum(file.size_bytes for file in self.deleted)


def expired_files(
    folder: Path, *, keep_days: float | None, max_bytes: int | None, now: float, keep: Collection[Path] = ()
) -> list[Expired]:
    """Return the images to delete, oldest first, and what killed processes have left half written.

    Only files directly in the folder whose names are ours count; links, folders and other names are never looked at.

    Args:
        folder: of finished images; one that is not there holds none.
        keep_days: older images go, by their time of change; None keeps them for ever.
        max_bytes: then the oldest go until the rest takes no more; None is no limit.
        now: seconds since 1970. An image from the future (the clock was set back) is new.
        keep: images to keep whatever their age; they count for `max_bytes`.

    Raises:
        OSError: the folder cannot be listed.
    """
    images, parts = _ours(folder)
    found = [_expired(file, now, "left half written") for file in parts if now - file.mtime > STALE_PART_SECONDS]
    kept = []
    for file in images:
        if keep_days is not None and now - file.mtime > keep_days * DAY and file.path not in keep:
            found.append(_expired(file, now, f"older than {keep_days:g} days"))
        else:
            kept.append(file)
    total = sum(file.size_bytes for file in kept)
    for file in kept:
        if max_bytes is None or total <= max_bytes:
            break
        if file.path not in keep:
            total -= file.size_bytes
            found.append(_expired(file, now, f"more than {max_bytes:,} bytes in all"))
    return found


def delete_files(files: Collection[Expired]) -> PruneResult:
    """Delete the files; one that is gone already counts as deleted, one that cannot be deleted is told."""
    deleted, failures = [], []
    for file in files:
        try:
            file.path.unlink(missing_ok=True)
            deleted.append(file)
        except OSError as error:
            failures.append(f"{file.path} cannot be deleted: {error.strerror or error}.")
    return PruneResult(deleted=tuple(deleted), failures=tuple(failures))


@dataclass(frozen=True)
class _File:
    path: Path
    size_bytes: int
    mtime: float  #: seconds since 1970


def _ours(folder: Path) -> tuple[list[_File], list[_File]]:
    """Return our images, the oldest first, and our unfinished files."""
    found = sorted(_files(folder), key=lambda file: (file.mtime, file.path.name))
    return [f for f in found if IMAGE.fullmatch(f.path.name)], [f for f in found if UNFINISHED.fullmatch(f.path.name)]


def _files(folder: Path) -> Iterator[_File]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if (IMAGE.fullmatch(entry.name) or UNFINISHED.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # somebody was quicker
                continue
            yield _File(Path(entry.path), facts.st_size, facts.st_mtime)


def _expired(file: _File, now: float, reason: str) -> Expired:
    return Expired(path=file.path, size_bytes=file.size_bytes, age_days=max(0.0, now - file.mtime) / DAY, reason=reason)
