"""The clients that can be run: what to install, how to configure and how to start them. Data in `clients.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class ClientProgram:
    """A published client; `clients.toml` says what each field means."""

    id: str
    title: str
    npm: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    bin: str = ""
    version: str
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    prepare: tuple[tuple[str, ...], ...] = ()
    once: tuple[str, ...]
    person: tuple[str, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    stop: str = "ctrl-c"
    entry: str = ""
    http_entry: str = ""
    limit: str = ""
    no_limit: str = ""
    limit_seconds: float = 0
    ready_seconds: float = 8


def catalogue() -> dict[str, ClientProgram]:
    """Return all clients by id."""
    entries = tomllib.loads((FOLDER / "clients.toml").read_text("utf-8"))
    return {name: _client(name, entry) for name, entry in entries.items()}


def _client(name: str, entry: dict[str, object]) -> ClientProgram:
    lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    if "prepare" in lists:
        lists["prepare"] = tuple(map(tuple, lists["prepare"]))
    return ClientProgram(id=name, **{**entry, **lists})  # type: ignore[arg-type]


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with each ${name} replaced; any other dollar stays."""
    return Template(text).safe_substitute(values)
