"""JSON of ComfyUI, value by value: what is not what it must be is None or empty, and nothing raises. Pure."""

import json
from typing import Any

from mcp_image_gen_local.domain.text import MAX_NAME, clean

MAX_VALUES = 1_000_000  #: in one reply: a list of 64 MiB of empty lists would take gigabytes
MAX_FILE_NAME = 255  #: characters; no file system takes more
MAX_PATH = 4096  #: characters


def load(data: bytes | str) -> Any:
    """Return the JSON value.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or holds too many values.
    """
    signs: tuple[Any, ...] = (b",", b"[", b"{") if isinstance(data, bytes) else (",", "[", "{")
    if sum(map(data.count, signs)) > MAX_VALUES:
        message = f"more than {MAX_VALUES} values"
        raise ValueError(message)
    try:
        return json.loads(data)
    except RecursionError as error:
        message = "nested too deeply"
        raise ValueError(message) from error


def table(value: object) -> dict[str, Any]:
    """Return an object as it is, and an empty one for all else."""
    return value if isinstance(value, dict) else {}


def entries(value: object) -> list[Any]:
    """Return a list as it is, and an empty one for all else."""
    return value if isinstance(value, list) else []


def whole(value: object, low: int, high: int) -> int | None:
    """Return an integer of that range, ends included; None for all else, true and 1.0 among it."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and low <= value <= high else None  # type: ignore[operator, return-value]


def number(value: object) -> float | None:
    """Return a number that arithmetic can be done with; None for all else, true, NaN and infinity among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 2**65 else None  # no comparison with NaN holds


def label(value: object) -> str:
    """Return a name fit to be shown; empty for what is no text."""
    return clean(value, MAX_NAME) if isinstance(value, str) else ""


def node_id(value: object) -> str | None:
    """Return the id of a node, which old clients write as a number; None for what is no id."""
    if isinstance(value, str):
        return value if len(value) <= MAX_NAME else None
    as_number = whole(value, -(2**63), 2**63)
    return None if as_number is None else str(as_number)


def file_name(value: object, limit: int = MAX_FILE_NAME) -> str | None:
    """Return a name that a file can have, as it is; None for what cannot be one. It may not be fit to be shown."""
    if not isinstance(value, str) or not 0 < len(value) <= limit or "\0" in value:
        return None
    return value if _is_unicode(value) else None


def long_text(value: str, limit: int) -> str:
    """Return a text that can be written as UTF-8, cut to `limit` characters; its lines stay."""
    return value[:limit].encode("utf-8", "replace").decode()


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)
