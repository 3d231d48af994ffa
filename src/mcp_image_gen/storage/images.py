"""Finished pictures on disk: whole files only, never over an older one."""

import errno
import io
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mcp_image_gen.domain.errors import GenerationFailed, OutputNotWritable
from mcp_image_gen.domain.image import EngineImage, SavedImage
from mcp_image_gen.storage import png

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif"}
METADATA_KEYWORD = "mcp-image-gen"
#: A picture of one colour compresses below this many bytes per pixel; anything larger need not be looked at.
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


class ImageStore:
    """The folder of finished pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self) -> None:
        """Make the folder if need be and make sure that it can be written to.

        Raises:
            OutputNotWritable: it cannot be made or written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise self._not_writable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def save(self, image: EngineImage, *, seed: int | None, provenance: Mapping[str, Any]) -> SavedImage:
        """Write the picture under a new name and return where it lies; `provenance` goes into a PNG's metadata.

        Raises:
            OutputNotWritable: the disk is full or the folder cannot be written to; the engine still has the picture.
            GenerationFailed: the engine handed over something that is no picture.
        """
        data = image.data
        kind, width, height, uniform = _inspect(image)
        if png.is_png(data):
            data = png.with_text(data, METADATA_KEYWORD, json.dumps(provenance, ensure_ascii=False, default=str))
        try:
            path = self._write(data, f"{'random' if seed is None else seed}.{EXTENSIONS.get(kind, kind.lower())}")
        except OSError as error:
            raise self._not_writable(error, image.source) from error
        return SavedImage(
            path=path,
            seed=seed,
            width=width,
            height=height,
            size_bytes=len(data),
            mime_type=f"image/{kind.lower()}",
            uniform=uniform,
        )

    def describe(self) -> OutputFolder:
        """Return what lies in the folder; subfolders do not count."""
        exists = self.folder.is_dir()
        nearest = next(p for p in (self.folder, *self.folder.parents) if p.exists())
        sizes = [f.stat().st_size for f in self._pictures()] if exists else []
        return OutputFolder(
            path=self.folder,
            exists=exists,
            writable=nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK),
            images=len(sizes),
            size_bytes=sum(sizes),
        )

    def _pictures(self) -> list[Path]:
        endings = {f".{e}" for e in EXTENSIONS.values()}
        return [f for f in self.folder.iterdir() if f.suffix.lower() in endings and f.is_file()]

    def _write(self, data: bytes, ending: str) -> Path:
        """Write to `{timestamp}_{ending}` as a whole or not at all.

        The exclusive `.part` file is the claim on the name: whoever makes it owns the name, also among processes.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now().astimezone()
        while True:
            path = self.folder / f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}_{ending}"
            part = path.with_name(f".{path.name}.part")
            try:
                file = part.open("xb")
            except FileExistsError:
                now += timedelta(milliseconds=1)
                continue
            try:
                if path.exists():
                    now += timedelta(milliseconds=1)
                    continue
                with file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                file.close()
                part.unlink(missing_ok=True)
            return path

    def _not_writable(self, error: OSError, source: str = "") -> OutputNotWritable:
        full = error.errno in DISK_FULL
        what = "The disk is full" if full else f"Cannot write to the output folder ({error.strerror or error})"
        where = f" The picture is not lost: it stays at {source}" if source else ""
        cure = "Free space" if full else "Make it writable, or set IMAGE_OUTPUT_DIR to another folder"
        again = "then call get_generation_status with the prompt_id to save it." if source else "then call again."
        return OutputNotWritable(f"{what}: {self.folder}.{where}", hint=f"{cure}, {again}")


def _inspect(image: EngineImage) -> tuple[str, int, int, bool]:
    """Return format, width, height, and whether all pixels are equal."""
    from PIL import Image, UnidentifiedImageError  # slow to import; not needed to start

    try:
        with Image.open(io.BytesIO(image.data)) as picture:
            width, height = picture.size
            suspect = len(image.data) < width * height * UNIFORM_BYTES_PER_PIXEL + NOTES_BYTES
            uniform = suspect and _is_uniform(picture.convert("RGB").getextrema())
            return picture.format or "PNG", width, height, uniform
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise GenerationFailed(
            f"The engine handed over a file that is no whole picture ({len(image.data)} bytes).",
            hint=f"It lies at {image.source}",
        ) from error


def _is_uniform(extrema: Any) -> bool:
    return all(low == high for low, high in extrema)


def reveal_hint(path: Path) -> str:
    """Return the command that opens a picture on this system."""
    opener = {"darwin": "open", "win32": "start"}.get(sys.platform, "xdg-open")
    return f'{opener} "{path}"'
