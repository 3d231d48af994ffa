"""The WebSocket side of the ComfyUI test double."""

import asyncio
import json
import math
import struct
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from tests.comfyui_control import Controls
from tests.comfyui_state import Json

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FEATURES: Json = {"supports_preview_metadata": True, "max_upload_size": 104857600}
_FORMATS = {"jpeg": 1, "png": 2}
_CUT = object()  # in an outbox: abort the connection here


class _Socket:
    """One open WebSocket."""

    def __init__(self) -> None:
        self.outbox: asyncio.Queue[Any] = asyncio.Queue()
        self.takes_metadata = False  #: the client asked for preview frames with metadata

    def put(self, event: str, data: Json) -> None:
        self.outbox.put_nowait(json.dumps({"type": event, "data": data}))


class Hub:
    """Routes events to sockets by client id; publishes from any thread, delivers in the loop."""

    def __init__(self, controls: Controls, loop: asyncio.AbstractEventLoop) -> None:
        self.open: set[_Socket] = set()
        self.client_ids: list[str] = []
        self._controls, self._loop = controls, loop
        self._by_client: dict[str, _Socket] = {}

    def publish(self, event: str, data: Json, client_id: str | None = None) -> None:
        """Send an event to one client, or to all of them."""
        # Written here and now: the sender goes on changing `data`.
        text = json.dumps({"type": event, "data": data})
        self._later(self._deliver, text, client_id)

    def show(self, image: bytes, kind: str, where: Json, client_id: str | None, *, after: Callable[[], None]) -> None:
        """Send an image: with metadata before the `progress` that `after` sends, without it behind."""
        about = json.dumps(where | {"image_type": f"image/{kind}"}).encode()
        self._later(self._deliver_frame, True, struct.pack(">II", 4, len(about)) + about + image, client_id)
        after()
        self._later(self._deliver_frame, False, struct.pack(">II", 1, _FORMATS[kind]) + image, client_id)

    def drop(self, client_id: str | None) -> None:
        """Cut a client's socket (None: everybody's) after what was sent so far."""
        self._later(self._cut, client_id)

    async def serve(self, client_id: str, greeting: list[tuple[str, Json]], receive: Receive, send: Send) -> bool:
        """Serve an accepted socket until it closes; True if it has to be cut."""
        sid = client_id or uuid.uuid4().hex
        socket = _Socket()
        socket.put(greeting[0][0], greeting[0][1] | {"sid": sid})
        self._join(sid, socket)
        for event, data in greeting[1:]:
            self._deliver(json.dumps({"type": event, "data": data}), sid)
        sender = asyncio.ensure_future(_send_all(socket, send))
        reader = asyncio.ensure_future(_read_all(socket, receive))
        try:
            await asyncio.wait((sender, reader), return_when=asyncio.FIRST_COMPLETED)
            return sender.done() and sender.result()
        finally:
            self._leave(sid, socket)
            for task in (sender, reader):
                task.cancel()
            await asyncio.gather(sender, reader, return_exceptions=True)

    def _join(self, sid: str, socket: _Socket) -> None:
        with self._controls.changed:
            self.open.add(socket)
            self.client_ids.append(sid)
            self._by_client[sid] = socket
            self._controls.changed.notify_all()

    def _leave(self, sid: str, socket: _Socket) -> None:
        with self._controls.changed:
            self.open.discard(socket)
            # ComfyUI's own bug: this forgets the id even if a newer socket holds it.
            self._by_client.pop(sid, None)
            self._controls.changed.notify_all()

    def _later(self, call: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server is gone
            self._loop.call_soon_threadsafe(call, *arguments)

    def _sockets(self, client_id: str | None) -> list[_Socket]:
        if client_id is None:
            return list(self._by_client.values())
        return [self._by_client[client_id]] if client_id in self._by_client else []

    def _listeners(self, client_id: str | None) -> list[_Socket]:
        """Return those of the sockets that are not deaf."""
        fault = self._controls.options("deaf_socket")
        sockets = self._sockets(client_id)
        return [s for s in sockets if fault is None or fault["told"][s] < fault.get("after", 0)]

    def _deliver(self, text: str, client_id: str | None) -> None:
        self._cut_if_told_enough(client_id)  # after=0
        for socket in self._listeners(client_id):
            socket.outbox.put_nowait(text)
            if client_id is not None:
                self._count(socket)
        self._cut_if_told_enough(client_id)

    def _count(self, socket: _Socket) -> None:
        """Tell the faults that strike after N messages of one more."""
        for name in ("drop_socket", "deaf_socket"):
            fault = self._controls.options(name)
            if fault is not None:
                fault["told"][socket] += 1

    def _cut_if_told_enough(self, client_id: str | None) -> None:
        fault = self._controls.options("drop_socket")
        if fault is None or client_id not in self._by_client:
            return
        if fault["told"][self._by_client[client_id]] >= fault.get("after", math.inf):
            self._controls.use("drop_socket")
            self._cut(client_id)
            del self._by_client[client_id]

    def _cut(self, client_id: str | None) -> None:
        for socket in self._sockets(client_id):
            socket.outbox.put_nowait(_CUT)

    def _deliver_frame(self, metadata: bool, frame: bytes, client_id: str | None) -> None:
        for socket in self._listeners(client_id):
            if socket.takes_metadata == metadata:
                socket.outbox.put_nowait(frame)


async def _send_all(socket: _Socket, send: Send) -> bool:
    """Send what is put into the outbox; True when it says to cut the connection."""
    with suppress(OSError):  # the client is gone
        while (message := await socket.outbox.get()) is not _CUT:
            kind = "bytes" if isinstance(message, bytes) else "text"
            await send({"type": "websocket.send", kind: message})
        return True
    return False


async def _read_all(socket: _Socket, receive: Receive) -> None:
    """Read until the client leaves; only its first text message may say something."""
    first = True
    while (message := await receive())["type"] != "websocket.disconnect":
        if first and message.get("text"):
            with suppress(ValueError, AttributeError):
                said = json.loads(message["text"])
                if said.get("type") == "feature_flags":
                    socket.takes_metadata = bool(said.get("data", {}).get("supports_preview_metadata"))
                    socket.put("feature_flags", FEATURES)
        first = False
