"""Failures as a client sees them: tool errors whose text says what to do."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mcp.types
import pydantic
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import ToolResult

from mcp_image_gen_local.domain.errors import ImageGenError, InvalidRequest, unexpected
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
    return ToolError(f"{line}\n{error}")


class ArgumentErrors(Middleware):
    """Says which argument is wrong, with its value, where pydantic would print a page."""

    async def on_call_tool(
        self,
        context: MiddlewareContext[mcp.types.CallToolRequestParams],
        call_next: CallNext[mcp.types.CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Pass the call on; reword what is wrong with its arguments."""
        try:
            return await call_next(context)
        except (ValidationError, pydantic.ValidationError) as error:
            cause = error if isinstance(error, pydantic.ValidationError) else error.__cause__
            if not isinstance(cause, pydantic.ValidationError):
                raise
            problems = "; ".join(_problem(dict(e)) for e in cause.errors(include_url=False))
            wrong = InvalidRequest(f"{context.message.name}: {problems}.", hint="Correct the arguments and call again.")
            raise tool_error(wrong) from error


def _problem(error: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("missing_argument", "missing"):
        return f"{name} is missing"
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{name} is not an argument of this tool"
    return f"{name}={error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
