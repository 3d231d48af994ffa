"""Images on their way to the engine and from it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ImageRef:
    """An image that a request names; the engine reads its bytes when it needs them."""

    uri: str  #: absolute path of the file
    sha256: str  #: of its bytes when it was named, in hex: the same content is uploaded once, a changed file is noticed

    def to_dict(self) -> dict[str, str]:
        """Return the fields for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class InputImage:
    """An image that a request names, read: it can be decoded."""

    data: bytes = field(repr=False)  #: the whole file; a PNG perhaps without its texts
    width: int  #: pixels, turned as its EXIF says
    height: int  #: pixels, likewise


@dataclass(frozen=True, kw_only=True)
class EngineImage:
    """A finished image as the engine returned it."""

    data: bytes = field(repr=False)  #: the whole file, as the engine wrote it
    source: str  #: where the engine keeps it, for people: a URL or a path
    index: int = 0  #: place in the job's batch, from 0; the same whenever the job is fetched
    seed: int | None = None  #: generates this image alone; None when the workflow does not hold one


@dataclass(frozen=True, kw_only=True)
class SavedImage:
    """An image on disk."""

    path: Path  #: absolute
    seed: int | None  #: generates this image alone; None when the engine's workflow does not hold one
    width: int  #: pixels, of the real file
    height: int  #: pixels, of the real file
    size_bytes: int
    mime_type: str  #: e.g. "image/png"
    index: int = 0  #: place in the job's batch, from 0
    uniform: bool = False  #: every pixel has the same colour, which a NaN in the model also gives

    def to_dict(self) -> dict[str, Any]:
        """Return what the answer says of one image."""
        return {"path": str(self.path), "seed": self.seed, "width": self.width, "height": self.height}
