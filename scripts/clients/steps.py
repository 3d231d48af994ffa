"""What a model can do in one turn, and what a client offers it."""

import uuid
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool as the client offers it to the model."""

    name: str
    namespace: str | None = None  #: Codex groups the tools of a server


@dataclass(frozen=True, kw_only=True)
class Call:
    """The model calls a tool."""

    tool: Tool
    arguments: dict[str, Any] = field(default_factory=dict)
    id: str


@dataclass(frozen=True, kw_only=True)
class Say:
    """The model answers with a text."""

    text: str


Step = Call | Say


def unique_id(prefix: str) -> str:
    """Return an id that no other message has: clients take two of the same id for one."""
    return prefix + uuid.uuid4().hex[:16]
