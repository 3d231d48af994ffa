"""Who sends a call, and how its answer is to reach it."""

import logging

from fastmcp import Context
from fastmcp.server.dependencies import get_http_headers

from mcp_image_gen_local.app import App
from mcp_image_gen_local.server.clients import Client, Delivery, delivery_of

logger = logging.getLogger(__name__)
MAX_REMEMBERED = 64


class Deliveries:
    """How answers reach the clients of one server."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._told: set[Client] = set()

    def to(self, ctx: Context) -> Delivery:
        """Return how the answer to this call reaches its client; what was chosen is logged once for each client."""
        client = client_of(ctx)
        delivery = delivery_of(client, self._app.settings)
        if client not in self._told and len(self._told) < MAX_REMEMBERED:
            self._told.add(client)
            logger.info("%s", "; ".join(delivery.reasons))
        return delivery


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
