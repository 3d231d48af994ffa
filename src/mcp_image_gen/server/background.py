"""Calls as MCP tasks, if IMAGE_GEN_TASKS is true: the client gets the protocol's own handle at once and polls it.

What such a server needs beyond a usual one is imported here and nowhere else, and only then: it slows the start.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import mcp.types
from fastmcp import Context, FastMCP
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import Tool, ToolResult
from fastmcp.utilities.tasks import TaskConfig

from mcp_image_gen.domain.errors import SettingsInvalid

POLL_INTERVAL = timedelta(seconds=2)  #: how often clients are told to ask how a task goes
NO_TASK = TaskConfig(mode="forbidden")
Function = Callable[..., Awaitable[ToolResult]]


class Background(Middleware):
    """The calls that run as tasks.

    Attributes:
        config: What marks a tool that can run as a task; None while tasks are off.
    """

    def __init__(self, *, offered: bool) -> None:
        self.config = TaskConfig(mode="optional", poll_interval=POLL_INTERVAL) if offered else None
        self._running: set[asyncio.Task[Any]] = set()
        self._over = False

    def offer(self, server: FastMCP[Any]) -> None:
        """Let the server run calls as tasks, if they are wanted.

        Raises:
            SettingsInvalid: they are wanted, and the extra is not installed.
        """
        if self.config is None:
            return
        try:
            from mcp_image_gen.server.extension import Tasks
        except ImportError as error:
            raise SettingsInvalid(
                f"IMAGE_GEN_TASKS=true needs the extra [tasks], which is not installed ({error}).",
                hint="Run: pip install 'mcp-image-gen[tasks]', or unset IMAGE_GEN_TASKS.",
            ) from error
        # At debug Docket would tell of every poll of its queue.
        logging.getLogger("docket").setLevel(max(logging.WARNING, logging.getLogger().level))
        server.add_extension(Tasks(end_tasks=self.end))
        server.add_middleware(self)

    async def on_list_tools(
        self,
        context: MiddlewareContext[mcp.types.ListToolsRequest],
        call_next: CallNext[mcp.types.ListToolsRequest, Sequence[Tool]],
    ) -> Sequence[Tool]:
        """Return the tools without a word on tasks.

        Older clients would be told of the tasks of revision 2025-11-25, which this server has not; newer ones ask for
        a task with each call.
        """
        return [tool.model_copy(update={"task_config": NO_TASK}) for tool in await call_next(context)]

    def ends_with_server(self, tool: Function) -> Function:
        """Return the tool, changed such that its tasks end when `end` is called; unchanged while tasks are off."""
        if self.config is None:
            return tool

        @functools.wraps(tool)
        async def call(*, ctx: Context, **arguments: Any) -> ToolResult:
            task = asyncio.current_task()
            if task is None or not ctx.is_background_task:
                return await tool(ctx=ctx, **arguments)
            self._running.add(task)
            if self._over:
                task.cancel()
            try:
                return await tool(ctx=ctx, **arguments)
            finally:
                self._running.discard(task)

        return call

    def end(self) -> None:
        """Cancel the tasks that run: the server stops."""
        self._over = True
        for task in self._running:
            task.cancel()
