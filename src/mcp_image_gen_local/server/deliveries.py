"""Who sends a call, and how its answer is to reach it."""

import logging

from fastmcp import Context
from fastmcp.server.dependencies import get_http_headers

from mcp_image_gen_local.server.clients import Client, Delivery, delivery_of
from mcp_image_gen_local.settings import Settings

logger = logging.getLogger(__name__)
MAX_REMEMBERED = 64


class Deliveries:
    """How answers reach the clients of one server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[Client, Delivery] = {}

    def to(self, ctx: Context) -> Delivery:
        """Return how the answer to this call reaches its client; what was chosen is logged once for each client."""
        client = client_of(ctx)
        if client not in self._known:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[client] = delivery_of(client, self._settings)
            logger.info("%s", "; ".join(self._known[client].reasons))
        return self._known[client]


def client_of(ctx: Context) -> Client:
    """Return the client as it presents itself, in the handshake or with each request."""
    request = ctx.request_context
    params = request.session.client_params if request else None
    info = params.client_info if params else None
    agent = get_http_headers().get("user-agent", "") if ctx.transport == "streamable-http" else ""
    return Client(
        name=(info.name or "")[:200] if info else "",
        version=(info.version or "")[:50] if info else "",
        protocol=request.protocol_version if request else "",
        user_agent=agent[:200],
    )
