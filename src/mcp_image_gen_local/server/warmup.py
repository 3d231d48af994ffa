"""What the first call needs is loaded in a thread, so that the event loop answers other requests meanwhile."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import Tool, ToolResult

#: FastMCP imports these with the first call, on the event loop: 0.15 s.
FIRST_CALL = ("key_value.aio.stores.memory", "key_value.aio.adapters.pydantic")


class WarmUp(Middleware):
    """Loads once, after the first list of tools or before the first call; calls wait until it is done.

    The outermost middleware: the others need what it loads.
    """

    def __init__(self, *loads: Callable[[], object]) -> None:
        """Load nothing yet.

        Args:
            loads: called in a thread; their errors are ignored, as the call that needs the result raises them again.
        """
        self._loads = loads
        self._loading: asyncio.Future[None] | None = None

    async def on_list_tools(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Sequence[Tool]]
    ) -> Sequence[Tool]:
        """List the tools, and begin to load."""
        tools = await call_next(context)
        asyncio.get_running_loop().call_later(0.1, self._begin)
        return tools

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, ToolResult]) -> ToolResult:
        """Call the tool when everything is loaded."""
        await asyncio.shield(self._begin())
        return await call_next(context)

    def _begin(self) -> asyncio.Future[None]:
        self._loading = self._loading or asyncio.ensure_future(asyncio.to_thread(self._load))
        return self._loading

    def _load(self) -> None:
        for name in FIRST_CALL:
            with suppress(ImportError):
                import_module(name)
        for load in self._loads:
            with suppress(Exception):
                load()
