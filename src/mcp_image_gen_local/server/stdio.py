"""MCP over stdin and stdout, where every line that is no message gets an answer."""

import json
import os
import sys
from collections.abc import AsyncIterator
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import anyio
from fastmcp import FastMCP
from fastmcp.server.context import reset_transport, set_transport
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import ErrorData, JSONRPCError, jsonrpc_message_adapter

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectSendStream

PARSE_ERROR, INVALID_REQUEST = -32700, -32600  #: JSON-RPC 2.0, section 5.1
BYTE_ORDER_MARK = "\ufeff"


async def serve(server: FastMCP[Any]) -> None:
    """Serve until stdin closes.

    As FastMCP's `run_stdio_async`, whose transport drops a line that is no JSON-RPC message: its sender would wait for
    ever.
    """
    token = set_transport("stdio")
    lines = Lines()
    try:
        async with server._lifespan_manager(), stdio_server(stdin=lines) as (received, to_send):  # type: ignore[arg-type]
            lines.answer_through(to_send)
            await server._mcp_server.run(received, to_send, server._mcp_server.create_initialization_options())
    finally:
        reset_transport(token)


class Lines:
    """The lines of stdin that are JSON-RPC messages; all others are answered with an error."""

    def __init__(self) -> None:
        self._file = anyio.wrap_file(TextIOWrapper(_private_stdin(), encoding="utf-8", errors="replace"))
        self._answers: MemoryObjectSendStream[SessionMessage] | None = None
        self._can_answer = anyio.Event()

    def answer_through(self, answers: Any) -> None:
        """Send errors to this stream from now on."""
        self._answers = answers
        self._can_answer.set()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield the messages."""
        async for line in self._file:
            message = line.strip().removeprefix(BYTE_ORDER_MARK)
            if not message:
                continue
            fault = fault_of(message)
            if fault is None:
                yield message
            else:
                await self._can_answer.wait()
                if self._answers:
                    await self._answers.send(SessionMessage(fault))


def fault_of(line: str) -> JSONRPCError | None:
    """Return the error for a line that is no JSON-RPC message, with its id if it has one; None for a message."""
    try:
        jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:  # pydantic's is one
        return _error(line)
    return None


def _error(line: str) -> JSONRPCError:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return _answer(None, PARSE_ERROR, "Parse error: the line is not JSON. Send one JSON-RPC message on each line.")
    request_id = found.get("id") if isinstance(found, dict) else None
    is_id = isinstance(request_id, str | int) and not isinstance(request_id, bool)
    text = "Invalid request: the line is JSON, but no JSON-RPC 2.0 message."
    return _answer(request_id if is_id else None, INVALID_REQUEST, text)


def _answer(request_id: str | int | None, code: int, text: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=text))


def _private_stdin() -> Any:
    """Return stdin, and leave the null device in its place: what a handler starts cannot read the messages."""
    try:
        private = os.dup(sys.stdin.fileno())
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, sys.stdin.fileno())
        os.close(empty)
    except (OSError, ValueError):  # no descriptor of its own, or no more to be had
        return sys.stdin.buffer
    return os.fdopen(private, "rb", closefd=False)  # a thread may read until the process ends
