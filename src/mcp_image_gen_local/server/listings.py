"""Lists of tools and resources, without FastMCP's rules of visibility."""

from collections.abc import Sequence
from typing import Any

from fastmcp.prompts import Prompt
from fastmcp.resources import Resource, ResourceTemplate
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.server.providers import Provider
from fastmcp.tools import Tool


class Listings(Middleware):
    """Lists what is registered.

    FastMCP looks for rules that hide some of it from a client, and loads a store for them with the first list: 0.15 s
    of each start, and there are no rules here.
    """

    def __init__(self, registered: Provider) -> None:
        self._registered = registered

    async def on_list_tools(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Sequence[Tool]]
    ) -> Sequence[Tool]:
        """Return all tools."""
        return await self._registered.list_tools()

    async def on_list_resources(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Sequence[Resource]]
    ) -> Sequence[Resource]:
        """Return all resources."""
        return await self._registered.list_resources()

    async def on_list_resource_templates(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Sequence[ResourceTemplate]]
    ) -> Sequence[ResourceTemplate]:
        """Return all resource templates."""
        return await self._registered.list_resource_templates()

    async def on_list_prompts(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Sequence[Prompt]]
    ) -> Sequence[Prompt]:
        """Return all prompts."""
        return await self._registered.list_prompts()
