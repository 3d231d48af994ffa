"""What an engine can generate with."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One model as the user may name it, with its defaults."""

    name: str  #: file name at the engine, as `model` takes it; a family id when it is not installed
    role: str  #: "checkpoint" or "diffusion_model"
    family: str  #: e.g. "flux1-schnell"; "unknown" when the name tells nothing; what it is instead, e.g. "video"
    ready: bool  #: it can generate now
    missing: tuple[str, ...] = ()  #: what to download, and into which folder
    kind: str = ""  #: in a word, what this version cannot generate with: "video", "Z-Image", "GGUF"
    unsupported: str = ""  #: a sentence: why this version cannot generate with it, whatever is downloaded
    steps: int
    cfg: float
    width: int
    height: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, without empty ones."""
        return {name: value for name, value in asdict(self).items() if value not in ((), "")}


@dataclass(frozen=True, kw_only=True)
class ModelCatalog:
    """All models of an engine."""

    models: tuple[ModelInfo, ...]  #: usable ones first; before them the default model, if it is not ready
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)  #: role -> every file name of that role
    problems: tuple[str, ...] = ()  #: why some files are not known, one sentence each
