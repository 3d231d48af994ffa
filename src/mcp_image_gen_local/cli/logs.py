"""The log on stderr."""

import logging
from typing import Any

from mcp_image_gen_local.domain.text import visible


class PlainFormatter(logging.Formatter):
    """Writes a message in one line, and no character that steers a terminal: a message may hold foreign text."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Return the line."""
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback, in lines."""
        return "\n".join(map(visible, super().formatException(ei).splitlines()))


def plain_last_resort() -> None:
    """Format what is logged while no log is set up, which is so in every command but `serve`."""
    if logging.lastResort:
        logging.lastResort.setFormatter(PlainFormatter())
