"""What a call's arguments mean, whatever dress they come in. Pure; `tolerance.toml` is the table.

Agents write arguments from memory of other programs, and clients add some of their own. Whatever has one meaning here
is understood; what has none is left out; both are told in a sentence. Only a value that cannot be read is an error.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.domain.text import MAX_NAME, clean
from mcp_image_gen_local.server import readings
from mcp_image_gen_local.server.readings import Unreadable
from mcp_image_gen_local.server.tolerance_table import absent, short, synonyms, table, wrappers

SIZE = "size"  #: what stands for width and height together; no tool lists it
SIDES = ("width", "height")
CLOSE = 0.84  #: likeness (0..1) from which a misspelt name is taken for an argument
MAX_DEPTH = 3  #: of arguments inside arguments
MAX_TOLD = 8  #: names told of what was left out


@dataclass(frozen=True, kw_only=True)
class Understood:
    """A call's arguments as the tool takes them."""

    arguments: Mapping[str, Any]
    notes: tuple[str, ...] = ()  #: what was left out or understood otherwise, one sentence each


def understand(tool: str, schema: Mapping[str, Any], given: Mapping[str, Any]) -> Understood:
    """Return what the arguments mean to a tool of this input schema.

    Raises:
        InvalidRequest: a value cannot be read, or a required argument is missing.
    """
    reading = _Reading(schema)
    for key, value in sorted(_unwrapped(given, reading.kinds), key=lambda pair: pair[0] not in reading.kinds):
        reading.take(key, value)
    reading.settle()
    if reading.problems:
        raise InvalidRequest(f"{tool}: {'; '.join(reading.problems)}.", hint="Correct the arguments and call again.")
    return Understood(arguments=reading.arguments, notes=tuple(reading.notes()))


class _Reading:
    """The arguments of one call, as far as they are read."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        #: argument -> "string", "integer" or "number"
        self.kinds = {name: str(about.get("type")) for name, about in schema.get("properties", {}).items()}
        self._required = schema.get("required", ())
        self.arguments: dict[str, Any] = {}
        self.problems: list[str] = []
        self._renamed: list[str] = []
        self._changed: list[str] = []
        self._left_out: dict[str, str] = {}  #: name as given -> why, a clause
        self._sizes: list[tuple[str, Any]] = []

    def take(self, key: str, value: Any) -> None:
        """Read one argument."""
        name = _name_of(key, self.kinds)
        if name is None:
            if not readings.is_empty(value) and (short(key) in absent() or not _is_injected(key)):
                self._left_out[key] = absent().get(short(key), "not an argument of this tool")
        elif not readings.is_given(name, value):
            if isinstance(value, str) and name in self._required:
                self.arguments.setdefault(name, "")  # its tool says what an empty one lacks
        elif name == SIZE or (name in SIDES and readings.is_size(value)):
            self._sizes.append((key, value))
        elif value is True and self.kinds[name] != "string":
            self._left_out[key] = "true is not a number"
        elif name in self.arguments:
            self._repeat(key, name, value)
        else:
            self._read(key, name, value)

    def _read(self, key: str, name: str, value: Any) -> None:
        try:
            self.arguments[name], change = readings.read(name, self.kinds[name], value)
        except Unreadable as error:
            self.problems.append(f"{key[:MAX_NAME]}={readings.shown(value)} {error}")
            return
        if key != name:
            self._renamed.append(f"{clean(key, MAX_NAME)} as {name}")
        if change:
            self._changed.append(f"{name}: {change}")

    def _repeat(self, key: str, name: str, value: Any) -> None:
        """Leave out a second value for an argument, unless it is the same."""
        if value != self.arguments[name]:
            self._left_out[key] = f"{name} is given"

    def settle(self) -> None:
        """Read what depends on several arguments."""
        self.problems += [f"{name} is missing" for name in self._required if name not in self.arguments]
        for key, value in self._sizes:
            self._settle_size(key, value)
        if {"sampler", "scheduler"} <= self.kinds.keys():
            self._settle_sampler()
        if "width" in self.arguments and "height" in self.arguments and "aspect_ratio" in self.arguments:
            self._left_out["aspect_ratio"] = "width and height are given"
            del self.arguments["aspect_ratio"]
        # 0 and 1 are what AUTOMATIC1111 and ComfyUI say where there is no image.
        has_image = "init_image" in self.arguments
        if not has_image and self.arguments.pop("denoise", 0) not in (0, 1):
            self._left_out["denoise"] = "it needs init_image"

    def _settle_size(self, key: str, value: Any) -> None:
        try:
            size = readings.size(value)
        except Unreadable as error:
            self.problems.append(f"{key[:MAX_NAME]}={readings.shown(value)} {error}")
            return
        told = [
            f"{name} {wanted}" for name, wanted in size.items() if self.arguments.setdefault(name, wanted) == wanted
        ]
        self._renamed.append(f"{clean(key, MAX_NAME)} as {' and '.join(told) or 'nothing new'}")

    def _settle_sampler(self) -> None:
        given = {name: self.arguments.pop(name) for name in ("sampler", "scheduler") if name in self.arguments}
        read = readings.sampler(given.get("sampler"), given.get("scheduler"))
        self.arguments |= read
        if {n: v.lower() for n, v in given.items()} != read:
            was = ", ".join(f"{name} {clean(value, MAX_NAME)!r}" for name, value in given.items())
            now = ", ".join(f"{name} {value}" for name, value in read.items()) or "the model's default"
            self._renamed.append(f"{was} as {clean(now, MAX_NAME)}")

    def notes(self) -> Iterator[str]:
        """Yield what is to be told, a sentence each."""
        if self._renamed:
            yield f"Read {', '.join(self._renamed)}."
        yield from (f"{change[0].upper()}{change[1:]}." for change in self._changed)
        if self._left_out:
            told = [f"{clean(name, 60)} ({why})" for name, why in list(self._left_out.items())[:MAX_TOLD]]
            more = len(self._left_out) - len(told)
            yield f"Left out: {', '.join(told)}{f' and {more} more' if more else ''}."


def _unwrapped(given: Mapping[str, Any], kinds: Mapping[str, str], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the arguments, those inside of "input" or "kwargs" too."""
    for key, value in given.items():
        inner = readings.mapping(value) if short(key) in wrappers() and key not in kinds else None
        if inner is not None and depth < MAX_DEPTH:
            yield from _unwrapped(inner, kinds, depth + 1)
        else:
            yield key, value


def _name_of(key: str, kinds: Mapping[str, str]) -> str | None:
    """Return the argument that a name means, SIZE for width and height together; None if it means none."""
    if key in kinds:
        return key
    called = short(key)
    for name in kinds:
        if called == short(name) or called in synonyms().get(name, ()):
            return name
    if "width" in kinds and (called == SIZE or called in synonyms()[SIZE]):
        return SIZE
    if called in absent() or _is_injected(key):
        return None
    close = difflib.get_close_matches(called, [short(name) for name in kinds], n=1, cutoff=CLOSE)
    return next((name for name in kinds if close and short(name) == close[0]), None)


def _is_injected(key: str) -> bool:
    return any(fnmatchcase(key, p) or fnmatchcase(key.lower(), p) for p in table()["injected"]["names"])
