"""Who ended a call: a client that cancelled it, or one that is gone?

The first wants the job taken back; the second may only have been restarted, so its job goes on.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import anyio
from fastmcp import Context
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext

STATELESS_SINCE = "2026-07-28"  #: protocol revision in which closing an HTTP response is how a client cancels
WORD_SECONDS = 0.5  #: the call is ended just before the notification is handed on
MAX_REMEMBERED = 256


class Cancellations(Middleware):
    """Remembers the cancel notifications of the clients."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str], anyio.Event] = OrderedDict()

    async def on_notification(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Note which request the client cancels, and pass the notification on."""
        if context.method == "notifications/cancelled" and context.fastmcp_context:
            message = context.message
            fields = message if isinstance(message, Mapping) else {"requestId": getattr(message, "request_id", None)}
            self._event(context.fastmcp_context, str(fields.get("requestId"))).set()
        return await call_next(context)

    async def by_client(self, ctx: Context) -> bool:
        """Return True if the client cancelled this call, which has just been ended; False if the client is gone."""
        request = ctx.request_context
        if request is None:
            return True  # a background task: only its client can end it
        if ctx.transport == "streamable-http" and request.protocol_version >= STATELESS_SINCE:
            return True  # the protocol has no other way to say it
        event = self._event(ctx, ctx.request_id)
        with anyio.move_on_after(WORD_SECONDS, shield=True):
            await event.wait()
        return event.is_set()

    def _event(self, ctx: Context, request_id: str) -> anyio.Event:
        # Over stdio there is one client; over HTTP every session counts its requests from 1.
        session = ctx.session_id if ctx.transport == "streamable-http" else ""
        event = self._told.setdefault((session, request_id), anyio.Event())
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        return event
