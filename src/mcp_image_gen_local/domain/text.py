"""Foreign text, made fit to be shown: to a model, on a terminal, in a log, in the journal.

Foreign is what neither this program nor its user wrote: replies of an engine, file names there, arguments of a call
that are repeated to its sender. Pure.
"""

import unicodedata

MAX_TEXT = 300  #: characters of a foreign message that are passed on
MAX_NAME = 200  #: characters of a foreign name or value that are passed on
#: Unicode categories that steer a reader instead of being seen: controls, bidirectional marks, surrogates ...
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


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
