"""Foreign text, made fit to be shown: to a model, on a terminal, in a log, in the journal.

Foreign is what neither this program nor its user wrote: replies of an engine, file names there, arguments of a call
that are repeated to its sender. Pure.
"""

import unicodedata

MAX_TEXT = 300  #: characters of a foreign message that are passed on
MAX_NAME = 200  #: characters of a foreign name or value that are passed on
#: Unicode categories that steer a reader instead of being seen: controls, bidirectional marks, surrogates ...
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
STEERS = UNSEEN - {"Co", "Cn"}  #: a terminal shows the other two as it can, such as emoji newer than Python
JOINERS = frozenset("\u200c\u200d")  #: parts of Persian and Indic words and of emoji


def clean(text: object, limit: int = MAX_TEXT) -> str:
    """Return the text in one line without control characters, cut to `limit` characters; None is empty."""
    if text is None:
        return ""
    head = str(text)[: 4 * limit]  # what is cut anyway need not be looked at
    seen = "".join(" " if unicodedata.category(c) in UNSEEN else c for c in head)
    line = " ".join(seen.split())
    is_cut = len(line) > limit or len(head) < len(str(text))
    return line[: limit - 1] + "…" if is_cut else line


def is_clean(name: str, limit: int = MAX_NAME) -> bool:
    """Return True for a name that can be shown as it is."""
    return len(name) <= limit and not any(unicodedata.category(c) in UNSEEN for c in name)


def visible(text: object) -> str:
    """Return the text, not cut, in one line: every character that steers a terminal is written as its code.

    For what a person copies, such as a path: nothing is lost, and what needs no code stays as it is.
    """
    return "".join(_code(c) if unicodedata.category(c) in STEERS and c not in JOINERS else c for c in str(text))


def _code(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
