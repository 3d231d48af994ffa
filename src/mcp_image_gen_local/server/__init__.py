"""The MCP door; the only room that imports fastmcp."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastmcp import FastMCP

from mcp_image_gen_local import __version__
from mcp_image_gen_local.app import App
from mcp_image_gen_local.server.arguments import Tolerance, list_plainly
from mcp_image_gen_local.server.cancellation import Cancellations
from mcp_image_gen_local.server.clients import profiles
from mcp_image_gen_local.server.deliveries import Deliveries
from mcp_image_gen_local.server.listings import Listings
from mcp_image_gen_local.server.resources import register_resources
from mcp_image_gen_local.server.tolerance_table import table
from mcp_image_gen_local.server.tools import tools_of
from mcp_image_gen_local.server.warmup import WarmUp
from mcp_image_gen_local.settings import Settings

INSTRUCTIONS = (
    "Generates images on the user's own hardware. Call generate_image; show the image and tell its path and seed. "
    "If it answers status 'running', call get_generation_status with the prompt_id."
)


def build_server(settings: Settings, app: App | None = None) -> FastMCP[Any]:
    """Return the MCP server; nothing is contacted or read from disk before a tool is called or a resource read."""
    app = app or App(settings)
    cancellations, tolerance = Cancellations(), Tolerance()

    @asynccontextmanager
    async def lifespan(_: FastMCP[Any]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await app.aclose()

    server: FastMCP[Any] = FastMCP(
        "mcp-image-gen",
        INSTRUCTIONS,
        version=__version__,
        lifespan=lifespan,
        middleware=[WarmUp(table, profiles, lambda: app.engine), tolerance, cancellations],
    )
    server.add_middleware(Listings(server.local_provider))  # the innermost
    for tool in tools_of(app, cancellations, Deliveries(app)):
        server.add_tool(tolerance.add(list_plainly(tool)))
    register_resources(server, app)
    return server
