"""The arguments of the tools: derived from the fields of the request, listed plainly, and read with tolerance."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args

import mcp.types
import pydantic
from fastmcp import Context
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import FunctionTool, ToolResult
from mcp.types import TextContent
from pydantic import Field

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.request import GenerationRequest, options_of
from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.server.errors import quiet_error, tool_error, tool_errors
from mcp_image_gen_local.server.tolerance import understand


def with_request_arguments(tool: Callable[..., Any], kind: type[GenerationRequest]) -> Callable[..., Any]:
    """Return `tool(ctx, **arguments)` with a signature that lists an argument for each field of the request."""
    parameters = [inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Context)]
    parameters += [
        inspect.Parameter(
            each.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=Annotated[_plain(each.type), Field(description=about.about)],
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
        )
        for each, about in zip(fields(kind), options_of(kind).values(), strict=True)
    ]
    returns = tool.__annotations__["return"]
    tool.__signature__ = inspect.Signature(parameters, return_annotation=returns)  # type: ignore[attr-defined]
    tool.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": returns}
    return tool


def _plain(kind: Any) -> Any:
    """Return the one type of the argument: the path of a file where the field holds an image.

    A type or null is refused by Gemini's API and read as a string by mcpadapt; Tolerance takes null for not given.
    """
    types = [each for each in get_args(kind) if each is not type(None)] or [kind]
    return str if ImageRef in types else types[0]


def list_plainly(tool: FunctionTool) -> FunctionTool:
    """Return the tool with a schema of one type for each argument, which closes out no further arguments.

    Optional ones are "nullable", a word of OpenAPI that Gemini's API knows: smolagents demands all others in each call.
    """
    tool.parameters = {name: value for name, value in tool.parameters.items() if name != "additionalProperties"}
    for name, about in tool.parameters.get("properties", {}).items():
        if about.get("default", "") in (None, ""):
            about.pop("default", None)
        if name not in tool.parameters.get("required", ()):
            about["nullable"] = True
    return tool


class Tolerance(Middleware):
    """Reads the arguments of every call, and adds to its answer what was read otherwise or left out."""

    def __init__(self) -> None:
        self._schemas: dict[str, dict[str, Any]] = {}

    def add(self, tool: FunctionTool) -> FunctionTool:
        """Return the tool, whose calls are read from now on."""
        self._schemas[tool.name] = tool.parameters
        return tool

    async def on_call_tool(
        self,
        context: MiddlewareContext[mcp.types.CallToolRequestParams],
        call_next: CallNext[mcp.types.CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Pass the call on with arguments as the tool lists them."""
        name, given = context.message.name, context.message.arguments or {}
        if name not in self._schemas:
            return await call_next(context)
        with tool_errors():
            understood = understand(name, self._schemas[name], given)
        message = context.message.model_copy(update={"arguments": dict(understood.arguments)})
        notes = " ".join(understood.notes)
        try:
            result = await call_next(context.copy(message=message))
        except ToolError as error:
            raise (quiet_error(f"{error} {notes}") if notes else error) from error
        except (ValidationError, pydantic.ValidationError) as error:  # what no table foresees
            raise tool_error(_invalid(name, error)) from error
        return _with_notes(result, notes)


def _with_notes(result: ToolResult, notes: str) -> ToolResult:
    with suppress(StopIteration):
        first = next(block for block in result.content if isinstance(block, TextContent))
        first.text = f"{first.text} {notes}".rstrip()
    return result


def _invalid(tool: str, error: Exception) -> InvalidRequest:
    cause = error if isinstance(error, pydantic.ValidationError) else error.__cause__
    faults = cause.errors(include_url=False) if isinstance(cause, pydantic.ValidationError) else []
    problems = "; ".join(f"{'.'.join(map(str, f['loc']))}={clean(repr(f['input']), 200)}: {f['msg']}" for f in faults)
    return InvalidRequest(f"{tool}: {problems or clean(error)}.", hint="Correct the arguments and call again.")
