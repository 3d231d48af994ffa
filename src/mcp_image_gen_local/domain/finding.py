"""The answer to one question of `doctor`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"  #: as it should be
    WARN = "warn"  #: images are generated all the same
    FAIL = "FAIL"  #: nothing is generated, or not what the user means


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found about one subject."""

    subject: str
    level: Level = Level.OK
    text: str  #: what is there, or what is wrong and how to mend it

    @property
    def ok(self) -> bool:
        """Whether images are generated all the same."""
        return self.level is not Level.FAIL

    def __str__(self) -> str:
        return f"{self.level:4}  {self.subject}: {self.text}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {"subject": self.subject, "ok": self.ok, "level": self.level, "text": self.text}
