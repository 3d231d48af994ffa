"""How a call ended that got no answer: its client cancelled it, waited no longer, or is gone?

The first wants the job taken back. The others may ask again, so their job goes on.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from fastmcp import Context
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext

from mcp_image_gen_local.domain.job import CallEnd

STATELESS_SINCE = "2026-07-28"  #: protocol revision in which closing an HTTP response is how a client cancels
NOTIFICATION_GRACE_SECONDS = 0.5  #: the call ends just before the notification arrives here
LIMIT_TOLERANCE_SECONDS = 2.0  #: a cancel that comes so near to the client's known limit is its time-out
MAX_REMEMBERED = 256

#: In the reason of a cancel that no person wanted, in lower case: "MCP error -32001: Request timed out" (Claude Code,
#: Gemini CLI, Qwen Code, Continue), "timed out after 5s" (OpenAI Agents, Google ADK), "TimeoutError", "deadline
#: exceeded". A person's stop says "AbortError: user-cancel" or "request cancelled"; Codex says for both "MCP request
#: cancelled by caller".
TIME_OUT_WORDS = ("timed out", "timedout", "timeout", "time-out", "time out", "time limit", "deadline", "-32001")


@dataclass(eq=False)
class _Notice:
    """What a client said of a request of its own."""

    is_here: anyio.Event = field(default_factory=anyio.Event)
    is_time_out: bool = False


class Cancellations(Middleware):
    """Remembers what the clients have cancelled."""

    def __init__(self) -> None:
        self._notices: OrderedDict[tuple[str, str], _Notice] = OrderedDict()

    async def on_notification(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        """Note which request the client cancels, and pass the notification on."""
        if context.method == "notifications/cancelled" and context.fastmcp_context:
            request_id = _field(context.message, "requestId", "request_id")
            notice = self._notice(_of_request(context.fastmcp_context, request_id))
            if not notice.is_here.is_set():  # the first one ends the call
                notice.is_time_out = _says_time_out(_field(context.message, "reason", "reason"))
                notice.is_here.set()
        return await call_next(context)

    async def ending_of(self, ctx: Context, *, elapsed: float, call_limit: float | None) -> CallEnd:
        """Return how this call, which has just been cancelled, was ended.

        Args:
            ctx: the call's.
            elapsed: seconds since the call began.
            call_limit: seconds after which this client is known to give a call up; None: not known.
        """
        request = ctx.request_context
        if request is None:
            return CallEnd.GONE
        notice = _Notice()
        if not (_is_http(ctx) and request.protocol_version >= STATELESS_SINCE):  # there is no other way to say it
            notice = self._notice(_of_request(ctx, ctx.request_id))
            with anyio.move_on_after(NOTIFICATION_GRACE_SECONDS, shield=True):
                await notice.is_here.wait()
            if not notice.is_here.is_set():
                return CallEnd.GONE
        is_near = call_limit is not None and abs(elapsed - call_limit) <= LIMIT_TOLERANCE_SECONDS
        return CallEnd.TIMED_OUT if notice.is_time_out or is_near else CallEnd.CANCELLED

    def _notice(self, key: tuple[str, str]) -> _Notice:
        notice = self._notices.setdefault(key, _Notice())
        while len(self._notices) > MAX_REMEMBERED:
            self._notices.popitem(last=False)
        return notice


def caller_of(ctx: Context) -> str:
    """Return what tells clients apart, for their calls that are asked again.

    Over HTTP with sessions each is one caller. Without them all who have the token are one, as nothing else tells
    who asks; so are the clients that start a server of their own, which all belong to the user of the journal.
    """
    request = ctx.request_context
    has_session = request is not None and _is_http(ctx) and request.protocol_version < STATELESS_SINCE
    return ctx.session_id if has_session else ""


def _is_http(ctx: Context) -> bool:
    return ctx.transport == "streamable-http"


def _says_time_out(reason: str) -> bool:
    return any(word in reason.lower() for word in TIME_OUT_WORDS)


def _of_request(ctx: Context, request_id: str) -> tuple[str, str]:
    # Over stdio there is one client; over HTTP every session counts its requests from 1.
    return (ctx.session_id if _is_http(ctx) else "", request_id)


def _field(message: object, wire_name: str, name: str) -> str:
    """Return a field of a message, whether that is JSON or already parsed."""
    return str(message.get(wire_name) if isinstance(message, Mapping) else getattr(message, name, None))
