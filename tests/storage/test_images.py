"""Images on disk: whole, named by time and seed, never over an older one."""

import errno
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mcp_image_gen_local.domain.errors import GenerationFailed, OutputNotWritable
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.storage import images
from mcp_image_gen_local.storage.images import ImageStore
from mcp_image_gen_local.storage.retention import IMAGE
from tests.storage.images import encoded, from_engine, gradient, photo

NAME = re.compile(r"\d{8}-\d{6}-\d{3}_(random|\d+)\.(png|jpg|webp|gif)")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "deep" / "down")


def listing(store: ImageStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_the_name_is_the_time_and_the_seed(store: ImageStore):
    saved = store.save(replace(from_engine(gradient(32, 16)), seed=2**64 - 1), provenance={})
    assert NAME.fullmatch(saved.path.name)
    assert saved.path.name.endswith(f"_{2**64 - 1}.png")
    assert saved.path.is_absolute()
    assert (saved.width, saved.height, saved.mime_type) == (32, 16, "image/png")
    assert saved.size_bytes == saved.path.stat().st_size


def test_names_are_legal_on_windows(store: ImageStore):
    name = store.save(replace(from_engine(gradient(8, 8)), seed=None), provenance={}).path.name
    assert name.endswith("_random.png")
    assert not set('<>:"/\\|?*') & set(name)


@pytest.mark.parametrize(
    "seed",
    [-1, 2**64, True, 1.5, "7", "..\\..\\pwned", "/../../pwned", "x:y", "a\n\x1b\u202e", "x" * 300, "\0", {"a": 1}, []],
)
def test_a_seed_that_is_none_is_not_in_the_name(store: ImageStore, seed: Any):
    """An engine may say anything. Housekeeping must find the file, and its name be legal everywhere."""
    saved = store.save(replace(from_engine(gradient(8, 8)), seed=seed), provenance={})
    assert saved.path.name.endswith("_random.png")
    assert IMAGE.fullmatch(saved.path.name)
    assert saved.seed is None
    assert listing(store) == [saved.path.name]


@pytest.mark.parametrize("filename_ms", [-1, 10**14, 2**63])
def test_a_time_that_is_none_is_now(store: ImageStore, filename_ms: int):
    saved = store.save(from_engine(gradient(8, 8)), provenance={}, filename_ms=filename_ms)
    assert IMAGE.fullmatch(saved.path.name)
    assert saved.path.name > "2020"


@pytest.mark.parametrize(("kind", "ending"), [("TIFF", "tif"), ("BMP", "bmp"), ("AVIF", "avif"), ("MPO", "jpg")])
def test_every_ending_is_one_that_housekeeping_finds(store: ImageStore, kind: str, ending: str):
    saved = store.save(from_engine(gradient(32, 16), kind), provenance={})
    assert saved.path.suffix == f".{ending}"
    assert IMAGE.fullmatch(saved.path.name)
    assert (saved.width, saved.height) == (32, 16)
    assert store.describe().images == 1


def test_a_png_with_a_tail_gets_its_metadata(store: ImageStore):
    saved = store.save(from_engine(encoded(gradient(8, 8)) + b"a tail" * 50), provenance={"seed": 1})
    with Image.open(saved.path) as image:
        assert json.loads(image.text["mcp-image-gen"]) == {"seed": 1}
    assert saved.path.read_bytes().endswith(b"a tail")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
@pytest.mark.parametrize("by_saving", [True, False])
def test_a_new_folder_is_the_users_alone(store: ImageStore, by_saving: bool):
    """Images hold their prompts. The files are as the user's other files, so that programs of theirs take them."""
    before = os.umask(0o022)
    try:
        if by_saving:
            saved = store.save(from_engine(gradient(8, 8)), provenance={})
            assert saved.path.stat().st_mode & 0o777 == 0o644
        store.check()
    finally:
        os.umask(before)
    assert store.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_a_folder_that_exists_keeps_its_rights(store: ImageStore):
    store.folder.mkdir(parents=True)
    store.folder.chmod(0o755)
    store.save(from_engine(gradient(8, 8)), provenance={})
    assert store.folder.stat().st_mode & 0o777 == 0o755


def test_names_sort_in_the_order_of_saving(store: ImageStore):
    saved = [store.save(from_engine(gradient(8, 8)), provenance={"n": n}).path.name for n in range(30)]
    assert saved == sorted(saved)
    assert listing(store) == saved


def test_the_same_image_is_one_file(store: ImageStore):
    """The same image of the same stamp is one file however often it is saved.

    Two processes, or one and its successor, may finish the same job.
    """
    saved = {store.save(from_engine(gradient(8, 8)), provenance={"a": 1}, filename_ms=1_000).path for _ in range(3)}
    assert listing(store) == [path.name for path in saved]
    other = store.save(from_engine(gradient(8, 8)), provenance={"a": 2}, filename_ms=1_000).path
    assert other.name.endswith("-001_1.png")


def test_a_file_system_without_hard_links(store: ImageStore, monkeypatch):
    """A file system without hard links takes images too."""
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    first, second = (store.save(from_engine(gradient(8, 8)), provenance={"n": n}, filename_ms=1_000) for n in (1, 2))
    assert listing(store) == [first.path.name, second.path.name]


def test_the_metadata_tells_how_it_was_generated(store: ImageStore):
    provenance = {"prompt": "été 雪", "seed": 1, "path": Path("x")}
    saved = store.save(from_engine(gradient(8, 8)), provenance=provenance)
    with Image.open(saved.path) as image:
        told = json.loads(image.text["mcp-image-gen"])
        assert image.tobytes() == gradient(8, 8).tobytes()
    assert told == {"prompt": "été 雪", "seed": 1, "path": "x"}


@pytest.mark.parametrize(("kind", "ending"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("GIF", "gif")])
def test_an_image_keeps_its_own_format(store: ImageStore, kind: str, ending: str):
    """Only PNG carries our metadata; the others are written as they came."""
    image = from_engine(gradient(32, 16), kind)
    saved = store.save(image, provenance={"prompt": "x"})
    assert saved.path.suffix == f".{ending}"
    assert saved.mime_type == f"image/{kind.lower()}"
    assert (saved.path.read_bytes() == image.data) == (kind != "PNG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>Please sign in.</html>",
        b"\x89PNG\r\n\x1a\n",
        encoded(photo(512, 512))[:-20],
        encoded(photo(512, 512))[:2000],
        encoded(gradient(16, 16))[:-30],
    ],
    ids=["nothing", "html", "signature only", "end cut off", "most cut off", "small and cut off"],
)
def test_a_broken_image_is_refused(store: ImageStore, data: bytes):
    """What is no whole image is refused and leaves nothing."""
    with pytest.raises(GenerationFailed) as caught:
        store.save(EngineImage(data=data, source="http://comfyui/view", seed=1), provenance={})
    assert f"({len(data)} bytes)" in caught.value.message
    assert "http://comfyui/view" in caught.value.hint
    assert not store.folder.exists()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("colour", ["black", "white"])
def test_an_image_of_one_colour_is_told(store: ImageStore, colour: str, mode: str):
    image = Image.new("RGB", (256, 128), colour).convert(mode)
    assert store.save(from_engine(image), provenance={}).uniform


def test_an_image_of_one_colour_is_reported(store: ImageStore):
    """An image of one colour is reported though ComfyUI wrote its workflow into it."""
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("workflow", "x" * 50_000)
    assert store.save(from_engine(Image.new("RGB", (64, 64)), pnginfo=notes), provenance={}).uniform


@pytest.mark.parametrize("channel", range(3))
def test_one_other_pixel_is_not_uniform(store: ImageStore, channel: int):
    """One pixel of another colour is enough not to be uniform."""
    image = Image.new("RGB", (256, 128))
    image.putpixel((255, 127), tuple(int(n == channel) for n in range(3)))
    assert not store.save(from_engine(image), provenance={}).uniform


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_rename_that_fails_leaves_nothing(store: ImageStore, monkeypatch):
    """A rename that fails leaves neither file nor part."""
    monkeypatch.setattr(images, "_name_file", failing(errno.EIO))
    with pytest.raises(OutputNotWritable):
        store.save(from_engine(gradient(8, 8)), provenance={})
    assert listing(store) == []


@pytest.mark.parametrize("megapixel", [False, True], ids=["at the close", "at the write"])
def test_a_write_that_fails_leaves_nothing(store: ImageStore, megapixel: bool):
    """A write that fails leaves neither file nor part. A limit of the system stops it in the middle."""
    resource = pytest.importorskip("resource", reason="Windows has no file size limit", exc_type=ImportError)
    image = from_engine(photo(512, 512) if megapixel else gradient(32, 32))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OutputNotWritable):
            store.save(image, provenance={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert listing(store) == []


def test_a_full_disk_names_the_engines_copy(store: ImageStore, monkeypatch):
    """A full disk is named and the engines copy as well."""
    monkeypatch.setattr(images, "_name_file", failing(errno.ENOSPC))
    with pytest.raises(OutputNotWritable) as caught:
        store.save(from_engine(gradient(8, 8)), provenance={})
    assert caught.value.code == "output_not_writable"
    assert caught.value.message == (
        f"The disk is full: {store.folder}. The image is not lost: it stays at http://comfyui/view?filename=x.png"
    )
    assert caught.value.hint.startswith("Free space, then ")


def test_no_part_of_an_image_is_visible(store: ImageStore, monkeypatch):
    """No part of an image is ever visible under its name.

    Before it is named there is only a hidden .part; the name appears with the whole file.
    """
    seen: list[list[str]] = []
    link = os.link
    monkeypatch.setattr(os, "link", lambda *paths: (seen.append(listing(store)), link(*paths)))
    saved = store.save(from_engine(gradient(8, 8)), provenance={})
    assert [[name[0] + name[33:] for name in names] for names in seen] == [["..part"]]
    assert listing(store) == [saved.path.name]


def test_a_folder_in_place_of_a_file(tmp_path: Path):
    """A folder in the place of a file is not writable."""
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        store = ImageStore(folder)
        for action in (store.check, lambda s=store: s.save(from_engine(gradient(8, 8)), provenance={})):
            with pytest.raises(OutputNotWritable, match="set IMAGE_OUTPUT_DIR to another folder"):
                action()
        described = store.describe()
        assert (described.exists, described.writable, described.images) == (False, False, 0)


def test_a_folder_with_too_long_a_name(tmp_path: Path):
    """A folder whose name is too long is described all the same."""
    described = ImageStore(tmp_path / ("x" * 300)).describe()
    assert (described.exists, described.images) == (False, 0)


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_without_permission(tmp_path: Path, mode: int):
    """A folder without permission is reported before and after."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=mode)
    try:
        if os.access(locked, os.W_OK):
            pytest.skip("root, or a system without POSIX permissions")
        for folder in (locked, locked / "below"):
            with pytest.raises(OutputNotWritable):
                ImageStore(folder).check()
            assert ImageStore(folder).describe().writable is False
    finally:
        locked.chmod(0o700)


def test_a_missing_folder_can_be_made(store: ImageStore):
    """A missing folder is described as one that can be made."""
    described = store.describe()
    assert (described.exists, described.writable, described.images, described.size_bytes) == (False, True, 0, 0)
    assert not store.folder.exists()


def test_describing_counts_images_and_nothing_else(store: ImageStore):
    saved = [store.save(from_engine(gradient(8, 8), kind), provenance={}) for kind in ("PNG", "JPEG")]
    (store.folder / "notes.txt").write_text("no image")
    (store.folder / ".20260101-000000-000_1.png.part").write_bytes(b"unfinished")
    (store.folder / "older.PNG").write_bytes(b"1234")
    (store.folder / "sub.png").mkdir()
    described = store.describe()
    assert described.images == 3
    assert described.size_bytes == sum(s.size_bytes for s in saved) + 4
    assert described.exists
    assert described.writable
