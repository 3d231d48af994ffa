"""Keeping the output folder small: what goes, and above all what stays."""

import os
from pathlib import Path

import pytest

from mcp_image_gen_local.storage.retention import DAY, delete_files, expired_files

NOW = 2_000_000_000.0
OURS = "20261122-102412-{:03}_7.png"


def file(folder: Path, name: str, *, age_days: float = 0, size: int = 10) -> Path:
    """Make a file of that age."""
    path = folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW, NOW - age_days * DAY))
    return path


def gone(folder: Path, **limits: object) -> list[Path]:
    """Return what the limits take, in order."""
    return [f.path for f in expired_files(folder, **{"keep_days": None, "max_bytes": None, "now": NOW, **limits})]


def test_without_a_limit_nothing_goes(tmp_path: Path):
    file(tmp_path, OURS.format(1), age_days=9999)
    assert gone(tmp_path) == []


def test_images_beyond_their_days_go_oldest_first(tmp_path: Path):
    old, oldest = file(tmp_path, OURS.format(2), age_days=31), file(tmp_path, OURS.format(3), age_days=40)
    file(tmp_path, OURS.format(1), age_days=29)
    assert gone(tmp_path, keep_days=30) == [oldest, old]


def test_the_oldest_go_until_the_rest_fits(tmp_path: Path):
    files = [file(tmp_path, OURS.format(n), age_days=n, size=100) for n in range(5)]
    assert gone(tmp_path, max_bytes=250) == [files[4], files[3], files[2]]


def test_age_comes_before_bytes(tmp_path: Path):
    """What goes for its age does not count for the bytes."""
    files = [file(tmp_path, OURS.format(n), age_days=10 * n, size=100) for n in range(4)]
    assert gone(tmp_path, keep_days=15, max_bytes=200) == [files[3], files[2]]


def test_spared_images_stay_whatever_they_take(tmp_path: Path):
    new, other = file(tmp_path, OURS.format(1), age_days=50, size=1000), file(tmp_path, OURS.format(2))
    assert gone(tmp_path, keep_days=1, max_bytes=500, keep={new}) == [other]


@pytest.mark.parametrize(
    "name",
    [
        "holiday.png",
        "20261122-102412-000_7.txt",
        "20261122-102412-000_7 (copy).png",
        "x20261122-102412-000_7.png",
        "20261122-102412-000_seed.png",
        "20261122-102412_7.png",
        "20261122-102412-000_\N{ARABIC-INDIC DIGIT SEVEN}.png",
        ".0123.part",
        "0123456789abcdef0123456789abcdef.part",
    ],
)
def test_files_of_other_names_are_never_touched(tmp_path: Path, name: str):
    file(tmp_path, name, age_days=9999, size=10**6)
    assert gone(tmp_path, keep_days=1, max_bytes=1) == []


def test_pruning_never_touches_other_things(tmp_path: Path):
    """Folders and links and what lies below are never touched."""
    (tmp_path / OURS.format(1)).mkdir()
    file(tmp_path / OURS.format(1), OURS.format(2), age_days=9999)
    outside = file(tmp_path / OURS.format(1), "outside.png", age_days=9999)
    (tmp_path / OURS.format(3)).symlink_to(outside)
    assert gone(tmp_path, keep_days=1, max_bytes=1) == []


def test_an_image_from_the_future_is_new(tmp_path: Path):
    file(tmp_path, OURS.format(1), age_days=-400)
    assert gone(tmp_path, keep_days=1) == []


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "gif"])
def test_images_of_every_kind_and_without_a_seed_count(tmp_path: Path, kind: str):
    old = file(tmp_path, f"20261122-102412-000_random.{kind}", age_days=2)
    assert gone(tmp_path, keep_days=1) == [old]


def test_what_was_left_half_written_goes_after_an_hour(tmp_path: Path):
    stale = file(tmp_path, f".{'0a' * 16}.part", age_days=0.1)
    file(tmp_path, f".{'0b' * 16}.part", age_days=0.01)
    assert gone(tmp_path) == [stale]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path):
    assert gone(tmp_path / "none", keep_days=1) == []


def test_sweeping_deletes_and_tells_what_is_free(tmp_path: Path):
    files = [file(tmp_path, OURS.format(n), age_days=9, size=100) for n in range(3)]
    found = expired_files(tmp_path, keep_days=1, max_bytes=None, now=NOW)
    files[1].unlink()
    swept = delete_files(found)
    assert (len(swept.deleted), swept.size_bytes, swept.failures) == (3, 300, ())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_deleted(tmp_path: Path):
    """A file that cannot be deleted is reported and the others go."""
    files = [file(tmp_path, OURS.format(n), age_days=9 - n) for n in range(2)]
    found = expired_files(tmp_path, keep_days=1, max_bytes=None, now=NOW)
    files[0].unlink()
    files[0].mkdir()  # unlink fails on it, also for root
    swept = delete_files(found)
    assert [f.path for f in swept.deleted] == [files[1]]
    assert swept.failures[0].startswith(f"{files[0]} cannot be deleted: ")
