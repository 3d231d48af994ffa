"""Images on their way from the engine to the user."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class EngineImage:
    """A finished image as the engine handed it over."""

    data: bytes = field(repr=False)  #: the whole file, as the engine wrote it
    source: str  #: where it lies at the engine, for people: a URL or a path
    index: int = 0  #: place in the job's batch, from 0; the same whenever the job is fetched


@dataclass(frozen=True, kw_only=True)
class SavedImage:
    """An image on disk."""

    path: Path  #: absolute
    seed: int | None  #: None when the engine's workflow does not tell one
    width: int  #: pixels, of the real file
    height: int  #: pixels, of the real file
    size_bytes: int
    mime_type: str  #: e.g. "image/png"
    index: int = 0  #: place in the job's batch, from 0
    uniform: bool = False  #: every pixel has the same colour, which a NaN in the model also gives

    def to_dict(self) -> dict[str, Any]:
        """Return what the answer tells of one image."""
        return {"path": str(self.path), "seed": self.seed, "width": self.width, "height": self.height}
