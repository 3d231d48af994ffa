"""The model APIs that the clients speak. Pure."""

from collections.abc import Sequence
from typing import Any, Protocol

from scripts.clients.apis.anthropic import Anthropic
from scripts.clients.apis.chat import Chat
from scripts.clients.apis.gemini import Gemini
from scripts.clients.apis.responses import Responses
from scripts.clients.steps import Step, Tool

Json = dict[str, Any]


class Api(Protocol):
    """One model API: reads a client's requests and phrases the model's answers."""

    def tools(self, body: Json) -> list[Tool]:
        """Return the tools that the request offers."""

    def latest(self, body: Json) -> list[Any]:
        """Return what follows the model's last turn: new messages and tool results, oldest first."""

    def result_ids(self, items: Sequence[Any]) -> list[str]:
        """Return the call ids of the tool results among `items`."""

    def reply(self, step: Step, model: str) -> Json:
        """Return the answer as one JSON document."""

    def stream(self, step: Step, model: str) -> list[Json | str]:
        """Return the answer as server-sent events; a text is sent as it is."""


def api_of(path: str) -> Api | None:
    """Return the API that answers a POST to `path`; None if it is none of the four."""
    path = path.partition("?")[0]
    if path.endswith("/chat/completions"):
        return Chat()
    if path.endswith("/responses"):
        return Responses()
    if path.endswith("/messages"):
        return Anthropic()
    return Gemini() if path.endswith(("generateContent", "GenerateContent")) else None


def is_streamed(path: str, body: Json) -> bool:
    """Return whether the client asks for server-sent events."""
    return bool(body.get("stream")) or "streamGenerateContent" in path
