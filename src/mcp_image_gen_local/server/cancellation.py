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
NOTIFICATION_GRACE_SECONDS = 0.5  #: the call ends just before the notification arrives here
MAX_REMEMBERED = 256


class Cancellations(Middleware):
    """Remembers what the clients have cancelled."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, str], anyio.Event] = OrderedDict()

    async def on_notification(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Note which request the client cancels, and pass the notification on."""
        if context.method == "notifications/cancelled" and context.fastmcp_context:
            request_id = _field(context.message, "requestId", "request_id")
            self._event(_of_request(context.fastmcp_context, request_id)).set()
        return await call_next(context)

    async def was_cancelled_by_client(self, ctx: Context) -> bool:
        """Return True if the client cancelled this call, which has just been ended; False if the client is gone."""
        request = ctx.request_context
        if request is None:
            return False
        if ctx.transport == "streamable-http" and request.protocol_version >= STATELESS_SINCE:
            return True  # the protocol has no other way to say it
        return await self._was_notified(_of_request(ctx, ctx.request_id))

    async def _was_notified(self, key: tuple[str, str]) -> bool:
        event = self._event(key)
        with anyio.move_on_after(NOTIFICATION_GRACE_SECONDS, shield=True):
            await event.wait()
        return event.is_set()

    def _event(self, key: tuple[str, str]) -> anyio.Event:
        event = self._told.setdefault(key, anyio.Event())
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
        return event


def _of_request(ctx: Context, request_id: str) -> tuple[str, str]:
    # Over stdio there is one client; over HTTP every session counts its requests from 1.
    return (ctx.session_id if ctx.transport == "streamable-http" else "", request_id)


def _field(message: object, wire_name: str, name: str) -> str:
    """Return a field of a message, whether that is JSON or already parsed."""
    return str(message.get(wire_name) if isinstance(message, Mapping) else getattr(message, name, None))
