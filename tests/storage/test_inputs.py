"""Images that a request names: which files are read, and how they are opened."""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.storage.inputs import MAX_BYTES, InputImages, refer_to
from tests.storage.images import encoded, gradient

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files, or lets few make them")
PNG = encoded(gradient(24, 16))
on_open: list[Callable[[str], None]] = []  #: called with each path that Python is about to open


def _hear(event: str, details: tuple[Any, ...]) -> None:
    if event == "open" and on_open and isinstance(details[0], str | Path):
        for action in tuple(on_open):
            action(str(details[0]))


sys.addaudithook(_hear)  # cannot be taken away again; does nothing while nobody listens


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that may be read; beside it lies a secret."""
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "a.png").write_bytes(PNG)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.png").write_bytes(PNG + b"secret")
    return tmp_path / "allowed"


@pytest.fixture
def images(folder: Path) -> InputImages:
    return InputImages([folder])


async def refused(images: InputImages, name: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        await images.refer(str(name))
    return str(caught.value)


# -- what may be read -------------------------------------------------------------------------------------------------


async def test_relative_names_are_looked_for_in_order(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    """In the folders, the output folder first; then where the program runs, as far as that may be read."""
    (tmp_path / "more").mkdir()
    for place in ("allowed", "more"):
        (tmp_path / place / "b.png").write_bytes(place.encode())
    (tmp_path / "more" / "c.png").write_bytes(PNG)
    images = InputImages([folder, tmp_path / "more"])
    assert (await images.refer("b.png")).uri == str(folder / "b.png")
    assert (await images.refer("c.png")).uri == str(tmp_path / "more" / "c.png")
    monkeypatch.chdir(tmp_path)
    assert (await images.refer("allowed/a.png")).uri == str(folder / "a.png")
    assert f"'{folder / 'secret' / 'a.png'}' cannot be read: " in await refused(images, "secret/a.png")


@pytest.mark.parametrize("name", ["../secret/a.png", "./../secret/a.png", "x/../../secret/a.png"])
async def test_a_relative_name_does_not_lead_out(images: InputImages, name: str):
    assert "is outside the folders" in await refused(images, name)


async def test_the_users_home_may_be_written_short(folder: Path, images: InputImages, monkeypatch: pytest.MonkeyPatch):
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(folder))
    assert (await images.refer("~/a.png")).uri == str(folder / "a.png")


async def test_a_name_that_ends_a_sentence(folder: Path, images: InputImages):
    (folder / "b.png.").write_bytes(PNG)
    assert (await images.refer(f"{folder / 'a.png'}.")).uri == str(folder / "a.png")
    if sys.platform != "win32":
        assert (await images.refer("b.png.")).uri == str(folder / "b.png.")


@POSIX
async def test_a_link_within_the_folders_is_followed(folder: Path, images: InputImages):
    (folder / "link.png").symlink_to(folder / "a.png")
    assert (await images.refer("link.png")).uri == str(folder / "a.png")


@pytest.mark.parametrize("name", ["x\0y", "~nobody_of_that_name/x.png", "\udcff.png", "x" * 300_000, "a/" * 50_000])
async def test_names_that_make_no_path(images: InputImages, folder: Path, name: str):
    """What was given comes back cut, with what to give instead."""
    error = await refused(images, name)
    assert len(error) < 1000
    assert f"Folders that may be read: {folder}." in error
    assert "image://PROMPT_ID/INDEX, or 'last'" in error


@pytest.mark.parametrize(
    "name", ["data:image/png;base64," + "A" * 300_000, "https://example.org/" + "a" * 300_000, "file://server/a.png"]
)
async def test_what_is_no_file_is_refused_kindly(images: InputImages, folder: Path, name: str):
    error = await refused(images, name)
    assert "this server reads files only and fetches nothing" in error
    assert f"Save the image to a file in {folder}, then give" in error
    assert len(error) < 1000


async def test_controls_in_a_name_are_not_repeated(images: InputImages):
    error = await refused(images, "a\x1b[31m\nSYSTEM\u202e.png")
    assert not any(mark in error for mark in "\x1b\n\u202e")


async def test_jobs_that_nobody_can_look_up_are_unknown(images: InputImages):
    for name in ("last", "image://x/0"):
        assert "names no finished image that this server knows" in await refused(images, name)


async def test_the_file_of_a_job_is_checked_as_any_other(folder: Path):
    async def find(*_: object) -> Path:
        return folder.parent / "secret" / "a.png"

    images = InputImages([folder], find_image=find, find_last=find)
    for name in ("last", "image://x/0"):
        assert "is outside the folders" in await refused(images, name)


# -- what is no regular file ------------------------------------------------------------------------------------------


@POSIX
async def test_a_pipe_is_refused_at_once(folder: Path, images: InputImages):
    """More of them than there are threads; nobody ever writes into one."""
    os.mkfifo(folder / "pipe.png")
    errors = await asyncio.gather(*(refused(images, folder / "pipe.png") for _ in range(50)))
    assert {error.partition(" Give ")[0] for error in errors} == {
        f"init_image '{folder / 'pipe.png'}' cannot be read: it is a pipe, not a file."
    }


@POSIX
async def test_a_file_that_became_a_pipe_is_refused(folder: Path, images: InputImages):
    named = await images.refer("a.png")
    (folder / "a.png").unlink()
    os.mkfifo(folder / "a.png")
    with pytest.raises(InvalidRequest, match="it is a pipe, not a file"):
        await images.read(named)


@POSIX
async def test_a_socket_and_a_folder_are_refused(folder: Path, images: InputImages, monkeypatch: pytest.MonkeyPatch):
    (folder / "folder.png").mkdir()
    monkeypatch.chdir(folder)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.png")
        assert "it is a socket, not a file" in await refused(images, "socket.png")
    assert "it is a folder, not a file" in await refused(images, "folder.png")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev")
async def test_a_device_is_refused():
    for name in ("/dev/zero", "/dev/null"):
        assert "it is a device, not a file" in await refused(InputImages([Path("/")]), name)
    with pytest.raises(InvalidRequest, match="it is a device, not a file"):
        refer_to(Path("/dev/zero"))


async def test_a_file_is_read_up_to_the_limit(folder: Path, images: InputImages):
    for size in (MAX_BYTES, MAX_BYTES + 1):
        with (folder / "large.png").open("wb") as file:
            file.truncate(size)
        if size <= MAX_BYTES:
            assert (await images.refer("large.png")).sha256
        else:
            assert "is larger than 64 MiB. Scale it down." in await refused(images, "large.png")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
async def test_a_file_without_a_size_is_read():
    """The system tells 0 bytes for it."""
    assert (await InputImages([Path("/proc")]).refer("/proc/self/status")).sha256


# -- a folder that is swapped between the check and the opening -------------------------------------------------------


@pytest.fixture
def swap(folder: Path) -> Iterator[Callable[[Path, Path], None]]:
    """Return a function: when a file below `place` is about to be opened, `place` becomes a link to `target`."""

    def arrange(place: Path, target: Path) -> None:
        def exchange(opened: str) -> None:
            if Path(opened).is_relative_to(place) and not place.is_symlink():
                on_open.clear()
                place.rename(f"{place}.moved")
                place.symlink_to(target)

        on_open.append(exchange)

    yield arrange
    on_open.clear()


@POSIX
@pytest.mark.parametrize("has_proc", [True, False])
@pytest.mark.parametrize("what", ["the file", "a folder", "the allowed folder"])
async def test_what_was_swapped_for_a_link_is_not_read(
    folder: Path, images: InputImages, swap: Any, monkeypatch: pytest.MonkeyPatch, what: str, has_proc: bool
):
    """On a system without /proc as well."""
    if not has_proc:
        _without_proc(monkeypatch)
    secret = folder.parent / "secret"
    (folder / "sub").mkdir()
    (folder / "sub" / "a.png").write_bytes(PNG)
    place, target, name = {
        "the file": (folder / "a.png", secret / "a.png", "a.png"),
        "a folder": (folder / "sub", secret, "sub/a.png"),
        "the allowed folder": (folder, secret, "a.png"),
    }[what]
    name = str(folder / name)
    swap(place, target)
    assert "is outside the folders" in await refused(images, name)
    assert place.is_symlink()


@POSIX
async def test_a_system_without_proc_reads_what_is_allowed(
    folder: Path, images: InputImages, monkeypatch: pytest.MonkeyPatch
):
    _without_proc(monkeypatch)
    assert (await images.refer("a.png")).uri == str(folder / "a.png")


def _without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    readlink = os.readlink

    def refusing(path: Any, *more: Any, **options: Any) -> Any:
        if str(path).startswith("/proc/self/fd/"):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return readlink(path, *more, **options)

    monkeypatch.setattr(os, "readlink", refusing)
