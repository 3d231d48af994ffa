"""What the four APIs share. Pure."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any


def after_last(items: Sequence[Any], is_model: Callable[[dict[str, Any]], bool]) -> list[Any]:
    """Return the items behind the last one that the model wrote."""
    behind = takewhile(lambda item: not (isinstance(item, dict) and is_model(item)), reversed(items))
    return list(reversed(list(behind)))


def parts(items: Sequence[Any], key: str) -> list[dict[str, Any]]:
    """Return the content parts of messages, as far as these are lists."""
    lists = (item.get(key) for item in items if isinstance(item, dict))
    return [part for found in lists if isinstance(found, list) for part in found if isinstance(part, dict)]
