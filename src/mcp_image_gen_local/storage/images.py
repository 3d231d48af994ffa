"""Finished images on disk: whole files only, never over an older one."""

import contextlib
import errno
import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from mcp_image_gen_local.domain.errors import GenerationFailed, OutputNotWritable
from mcp_image_gen_local.domain.image import EngineImage, SavedImage
from mcp_image_gen_local.imaging import READ, ImageHeader, ImageTooLarge, ImageUnreadable, glance, read_header
from mcp_image_gen_local.storage import png

#: format -> ending of its files, all of which housekeeping finds. The last three are saved as they come and not shown.
EXTENSIONS = {
    "png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif",
    "tiff": "tif", "bmp": "bmp", "avif": "avif",
}  # fmt: skip
FOLDER_MODE = 0o700  #: of a folder that is made here: images hold their prompts
MAX_SEED = 2**64 - 1
LATEST_MS = 10**14  #: milliseconds since 1970, the year 5138; what names a file is below
METADATA_KEYWORD = "mcp-image-gen"
PART = ".part"  #: ending of a file that is being written
#: An image of one colour compresses below this many bytes per pixel; anything larger need not be looked at.
UNIFORM_BYTES_PER_PIXEL = 0.05
NOTES_BYTES = 65_536  #: what the metadata may add to such a file
DISK_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


@dataclass(frozen=True, kw_only=True)
class OutputFolder:
    """What lies in the output folder."""

    path: Path
    exists: bool
    writable: bool  #: for a folder that does not exist yet: it can be made
    images: int
    size_bytes: int

    @property
    def summary(self) -> str:
        """What it holds, e.g. "1 image, 2.1 MB"."""
        return f"{self.images} {'image' if self.images == 1 else 'images'}, {self.size_bytes / 1e6:.1f} MB"


class ImageStore:
    """The folder of finished images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self) -> None:
        """Make the folder if need be and make sure that it can be written to.

        Raises:
            OutputNotWritable: it cannot be made or written to.
        """
        try:
            self.folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise self._not_writable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def save(self, image: EngineImage, *, provenance: Mapping[str, Any], filename_ms: int | None = None) -> SavedImage:
        """Write the image under a new name and return where it lies; `provenance` goes into a PNG's metadata.

        `filename_ms`, in milliseconds since 1970, names the file; None means now. The same image with the same
        `filename_ms` is the same file, however often it is saved.

        Raises:
            OutputNotWritable: the disk is full or the folder cannot be written to; the engine still has the image.
            GenerationFailed: the engine handed over something that is no image.
        """
        data, seed = image.data, _seed_of(image)
        header, uniform = _inspect(image)
        kind = header.format.lower()
        if png.is_png(data):
            data = png.with_text(data, METADATA_KEYWORD, json.dumps(provenance, ensure_ascii=False, default=str))
        try:
            path = self._write(
                data,
                filename_ms,
                f"{'random' if seed is None else seed}.{EXTENSIONS[kind]}",
            )
        except OSError as error:
            raise self._not_writable(error, image.source) from error
        return SavedImage(
            path=path,
            seed=seed,
            width=header.width,
            height=header.height,
            size_bytes=len(data),
            mime_type=f"image/{kind}",
            index=image.index,
            uniform=uniform,
        )

    def describe(self) -> OutputFolder:
        """Return what lies in the folder; subfolders do not count."""
        # os.path, as Path.exists raises where a folder may not be looked into
        exists = os.path.isdir(self.folder)  # noqa: PTH112
        nearest = next(p for p in (self.folder, *self.folder.parents) if os.path.exists(p))  # noqa: PTH110
        sizes = list(self._sizes()) if exists else []
        return OutputFolder(
            path=self.folder,
            exists=exists,
            writable=_can_hold(nearest, self.folder),
            images=len(sizes),
            size_bytes=sum(sizes),
        )

    def _sizes(self) -> Iterator[int]:
        """Yield the size of each image; one that is deleted meanwhile, or may not be looked at, does not count."""
        endings = tuple(f".{e}" for e in EXTENSIONS.values())
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.name.lower().endswith(endings) and entry.is_file():
                        yield entry.stat().st_size

    def _write(self, data: bytes, filename_ms: int | None, ending: str) -> Path:
        """Write to `{timestamp}_{ending}` as a whole or not at all."""
        self.folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        part = self.folder / f".{uuid.uuid4().hex}{PART}"
        try:
            # No fsync: it takes longer than all the rest, and only a power cut within seconds would tell;
            # the engine has its own copy even then.
            part.write_bytes(data)
            return self._publish(part, data, filename_ms or 0, ending)
        finally:
            part.unlink(missing_ok=True)

    def _publish(self, part: Path, data: bytes, filename_ms: int, ending: str) -> Path:
        """Give the whole file its name, the next free one from `filename_ms` on; never over another image."""
        filename_ms = filename_ms if 0 < filename_ms < LATEST_MS else time.time_ns() // 1_000_000
        while True:
            moment = datetime.fromtimestamp(filename_ms / 1000).astimezone()
            path = self.folder / f"{moment:%Y%m%d-%H%M%S}-{filename_ms % 1000:03d}_{ending}"
            try:
                _name_file(part, path)
                return path
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):  # somebody has just deleted it
                    if path.stat().st_size == len(data) and path.read_bytes() == data:
                        return path  # saved before, by another process or by one that was killed then
                filename_ms += 1

    def _not_writable(self, error: OSError, source: str = "") -> OutputNotWritable:
        full = error.errno in DISK_FULL
        what = "The disk is full" if full else f"Cannot write to the output folder ({error.strerror or error})"
        where = f" The image is not lost: it stays at {source}" if source else ""
        cure = "Free space" if full else "Make it writable, or set IMAGE_OUTPUT_DIR to another folder"
        again = "then ask for its status to save it." if source else "then call again."
        return OutputNotWritable(f"{what}: {self.folder}.{where}", hint=f"{cure}, {again}")


def _can_hold(nearest: Path, folder: Path) -> bool:
    """Return True if `folder` can be written to, or can be made below the nearest one that exists."""
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return False
    if nearest == folder:
        return True
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".", dir=nearest))  # noqa: PTH106
    except OSError:  # /proc is writable by its mode, and takes no folder
        return False
    return True


def _name_file(part: Path, path: Path) -> None:
    """Give the file its name.

    Raises:
        FileExistsError: something has that name.
    """
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as exFAT
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        part.rename(path)


def _seed_of(image: EngineImage) -> int | None:
    """Return the seed; None where the engine, which may say anything, told something that is none."""
    seed: object = image.seed
    return seed if type(seed) is int and 0 <= seed <= MAX_SEED else None


def _inspect(image: EngineImage) -> tuple[ImageHeader, bool]:
    """Return what the header tells, and whether all pixels are equal."""
    try:
        header = read_header(image.data, also_stored=True)
        if header.format == "PNG" and not png.is_png(image.data):
            raise ImageUnreadable("a PNG without its end")
        return header, _is_uniform(image.data, header)
    except ImageUnreadable as error:
        raise GenerationFailed(
            f"The engine handed over a file that is no whole image ({len(image.data)} bytes): {error}.",
            hint=f"It lies at {image.source}",
        ) from error


def _is_uniform(data: bytes, header: ImageHeader) -> bool:
    """Tell whether all pixels are equal; an image that is not decoded for that counts as one that is not."""
    if header.format not in READ or len(data) >= header.width * header.height * UNIFORM_BYTES_PER_PIXEL + NOTES_BYTES:
        return False
    try:
        extrema = glance(data).convert("RGB").getextrema()
    except ImageTooLarge:
        return False
    return all(low == high for low, high in cast("tuple[tuple[int, int], ...]", extrema))
