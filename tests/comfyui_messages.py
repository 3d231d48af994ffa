"""What the ComfyUI test double tells of a running prompt, in ComfyUI's words and to those whom it tells."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from tests.comfyui_state import Json, Prompt


class Audience(Protocol):
    """Where events go; safe to call from every thread."""

    def publish(self, event: str, data: Json, client_id: str | None = None) -> None:
        """Send an event to one client, or to all of them."""

    def show(self, image: bytes, kind: str, where: Json, client_id: str | None, *, after: Callable[[], None]) -> None:
        """Send an image as a binary frame around the message that `after` sends."""

    def drop(self, client_id: str | None) -> None:
        """Cut a client's socket (None: everybody's) after what was sent so far."""


class Teller:
    """Sends the events of one prompt.

    Attributes:
        messages: What the history keeps of them.
        progress: The newest state of each node begun so far.
    """

    def __init__(self, audience: Audience, prompt: Prompt) -> None:
        self._audience, self._prompt = audience, prompt
        self.messages: list[list[Any]] = []
        self.progress: dict[str, Json] = {}

    def show(self, image: bytes, kind: str, node_id: str, after: Callable[[], None]) -> None:
        """Send an image of the node around the message that `after` sends."""
        where = {
            "node_id": node_id,
            "prompt_id": self._prompt.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        self._audience.show(image, kind, where, self._prompt.client_id, after=after)

    def report(self, node_id: str, value: float, top: float, state: str = "running") -> None:
        """Send progress_state with all nodes begun so far."""
        ids = {"node_id": node_id, "prompt_id": self._prompt.prompt_id, "display_node_id": node_id}
        about = {"value": value, "max": top, "state": state, **ids, "parent_node_id": None, "real_node_id": node_id}
        self.progress[node_id] = about
        self.streamed("progress_state", {}, {"nodes": self.progress})

    def message(self, event: str, data: Json, *, everybody: bool = False) -> None:
        """Send an event that the history keeps as well."""
        stamped = {"prompt_id": self._prompt.prompt_id} | data | {"timestamp": int(time.time() * 1000)}
        if event == "execution_cached":
            stamped = data | {"prompt_id": self._prompt.prompt_id, "timestamp": stamped["timestamp"]}
        self.messages.append([event, stamped])
        if everybody or self._prompt.client_id is not None:
            self._audience.publish(event, stamped, self._prompt.client_id)

    def addressed(self, event: str, data: Json) -> None:
        """Send an event that nobody gets if the prompt came without client_id."""
        if self._prompt.client_id is not None:
            data["prompt_id"] = self._prompt.prompt_id
            self._audience.publish(event, data, self._prompt.client_id)

    def streamed(self, event: str, before: Json, after: Json) -> None:
        """Send an event that everybody gets if the prompt came without client_id."""
        data = before | {"prompt_id": self._prompt.prompt_id} | after
        self._audience.publish(event, data, self._prompt.client_id)
