"""What an engine can generate with."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One model as the user may name it, with its family's defaults."""

    name: str  #: file name at the engine, as `model` takes it; a family id when it is not installed
    role: str  #: "checkpoint" or "diffusion_model"
    family: str  #: e.g. "flux1-schnell"; "unknown" when the name tells nothing
    ready: bool  #: everything it needs is installed
    missing: tuple[str, ...] = ()  #: what to download, and into which folder
    steps: int
    cfg: float
    width: int
    height: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, without an empty `missing`."""
        fields = asdict(self)
        return fields if self.missing else {k: v for k, v in fields.items() if k != "missing"}


@dataclass(frozen=True, kw_only=True)
class ModelCatalog:
    """All models of an engine."""

    models: tuple[ModelInfo, ...]  #: usable ones first, the default model first of all
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)  #: role -> every file name of that role
    problems: tuple[str, ...] = ()  #: why some files are not known, one sentence each
