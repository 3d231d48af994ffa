"""Failures as a client sees them: tool errors whose text says what to do."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fastmcp.exceptions import ToolError

from mcp_image_gen_local.domain.errors import ImageGenError, unexpected
from mcp_image_gen_local.domain.job import JobStatus

logger = logging.getLogger(__name__)


@contextmanager
def tool_errors() -> Iterator[None]:
    """Turn every failure into a ToolError: the only kind whose text reaches all clients."""
    try:
        yield
    except ImageGenError as error:
        raise tool_error(error) from error
    except ToolError:
        raise
    except Exception as error:
        logger.exception("an unexpected error in a tool")
        raise tool_error(unexpected(error)) from error


def tool_error(error: ImageGenError, prompt_id: str | None = None) -> ToolError:
    """Return the error as clients get it: one line of JSON for programs, then message and hint for readers."""
    facts = {"status": JobStatus.FAILED, "prompt_id": prompt_id, "error": error.to_dict()}
    line = json.dumps({name: value for name, value in facts.items() if value}, ensure_ascii=False)
    return quiet_error(f"{line}\n{error}")


def quiet_error(text: str) -> ToolError:
    """Return a tool error that FastMCP does not log: the client is told, and a traceback tells nobody more."""
    return ToolError(text, log_level=logging.DEBUG)
