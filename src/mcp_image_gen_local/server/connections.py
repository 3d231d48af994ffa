"""Connections of HTTP clients: bounded in number, and in the time that a request takes to arrive."""

import asyncio
from collections.abc import Iterable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  #: from the connection, or the end of the last answer, to the end of a request's header
BODY_SECONDS = 60.0  #: from there to the end of its body
DEFAULT_FILES = 512  #: where the system tells no limit of open files
MOST = 4096
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
SECONDS_OF = {h11.IDLE: HEADER_SECONDS, h11.SEND_BODY: BODY_SECONDS}


def most_connections() -> int:
    """Return how many connections there may be at once: half of the files that this process may open."""
    try:
        import resource  # not on Windows
    except ImportError:
        files = DEFAULT_FILES
    else:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if files < 0 else max(8, min(MOST, files // 2))  # below 0: no limit


def backlog() -> int:
    """Return how many connections are taken in one turn of the event loop, which the bound sees only afterwards."""
    return max(4, min(128, most_connections() // 8))


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, which by itself waits for ever for the rest of a request.

    Where there is no room, the oldest connection whose request has not arrived makes room: who asks at once is
    answered, however many others only hold a connection.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.since = self.loop.time()
        self._most = most_connections()
        self._phase: object = None
        self._bound: asyncio.TimerHandle | None = None

    @property
    def is_arriving(self) -> bool:
        """Whether a request, or the rest of one, is awaited."""
        return self.conn.their_state in SECONDS_OF

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection if there is room for it."""
        has_room = len(self.connections) < self._most or self._make_room(self.connections)
        super().connection_made(transport)
        if has_room:
            self._watch()
        else:
            self.connections.discard(self)
            transport.write(BUSY)
            transport.close()

    def _make_room(self, connections: Iterable[Any]) -> bool:
        waiting = (each for each in connections if isinstance(each, BoundedProtocol) and each.is_arriving)
        oldest = min(waiting, key=lambda each: each.since, default=None)
        if oldest is None:
            return False
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Await the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._unbind()
        super().connection_lost(exc)

    def _should_upgrade(self) -> bool:
        return False  # MCP needs no WebSocket, and uvicorn would log two lines for each try

    def _watch(self) -> None:
        """Bound the time to the end of what is arriving, once for each part."""
        if self.conn.their_state is self._phase:
            return
        self._phase = self.conn.their_state
        self._unbind()
        if self.is_arriving and not self.transport.is_closing():
            self._bound = self.loop.call_later(SECONDS_OF[self.conn.their_state], self.transport.abort)

    def _unbind(self) -> None:
        if self._bound:
            self._bound.cancel()
            self._bound = None
