"""The traces of one run. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scripts.clients.protocol import Record
from scripts.clients.turn import Turn


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of one client left."""

    log: tuple[Record, ...]  #: of the tap
    turns: tuple[Turn, ...]  #: of the model
    screen: str
    images: tuple[str, ...]  #: names of the saved files
    facts: Mapping[str, object] = field(default_factory=dict)

    def with_facts(self, **facts: object) -> "Outcome":
        """Return the same with further facts."""
        return replace(self, facts={**self.facts, **facts})
