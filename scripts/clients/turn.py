"""One request of a client to the model. Pure."""

from dataclasses import dataclass
from typing import Any

from scripts.clients.apis import Api
from scripts.clients.conversation import HELP
from scripts.clients.steps import Call, Step


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A request, and the model's answer."""

    at: float  #: seconds since 1970
    api: Api
    path: str
    body: dict[str, Any]
    step: Step

    @property
    def latest(self) -> list[Any]:
        """What is new since the model's last turn."""
        return self.api.latest(self.body)

    @property
    def has_result(self) -> bool:
        """Whether the client brings the answer of the wanted tool."""
        return any(HELP not in each for each in self.api.result_ids(self.latest))

    @property
    def generates(self) -> bool:
        """Whether the model calls the wanted tool."""
        return isinstance(self.step, Call) and HELP not in self.step.id
