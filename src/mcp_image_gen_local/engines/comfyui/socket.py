"""ComfyUI's WebSocket, shared by all jobs of this process."""

import asyncio
import contextlib
import json
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx2

from mcp_image_gen_local.engines.comfyui.events import (
    Dequeued,
    Disconnected,
    Event,
    Preview,
    QueueChanged,
    parse_frame,
    parse_message,
)
from mcp_image_gen_local.engines.comfyui.values import load

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
PATIENCE_SECONDS = 1.0  #: that a job waits for the socket before it is sent; without one it goes on by polling
RECONNECT_SECONDS = (0.5, 1.0, 2.0, 5.0)  #: pauses before the next attempt; the last one repeats
STALLED_SECONDS = 60.0  #: for which no job waits, after one has waited in vain
MAX_MESSAGE_BYTES = 64 * 2**20  # images of SaveImageWebsocket come this way too
MAX_PREVIEW_BYTES = 400_000  #: a larger frame is no preview
MAX_EVENTS, MAX_PREVIEWS = 1_000, 50  #: that wait for one job
#: Sent first: ComfyUI then tells of each preview whose it is.
FEATURES = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})

Inbox = asyncio.Queue[Event]


@dataclass(eq=False)
class _Listener:
    """A job that wants the events of its prompt."""

    client_id: str | None = None  #: of the connection that its prompt's events go to; None: not sent yet
    inbox: Inbox = field(default_factory=asyncio.Queue)


class EventStream:
    """Hands each job the events of its own prompt; open only while a job wants them.

    A fresh client id for each connection: with a reused one, ComfyUI forgets the newer socket when the older closes
    (Comfy-Org/ComfyUI issue 16010). The price: events of prompts that were sent before do not come any more. Their jobs
    go on by polling, and by the queue's changes, which every socket is told of.
    """

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self._http = http
        self._url = "ws" + url.removeprefix("http") + "/ws"
        self._client_id = ""
        self._listeners: dict[str, _Listener] = {}
        self._reader: asyncio.Task[None] | None = None
        self._connected = False
        self._attempt: asyncio.Future[None] | None = None  #: done when it is decided
        self._reconnect_now = asyncio.Event()  #: do not wait for the next attempt
        self._stalled_until = 0.0
        self._executing: str | None = None  #: prompt_id that frames without metadata belong to

    @property
    def is_open(self) -> bool:
        """True while ComfyUI is known to be there."""
        return self._connected

    async def subscribe(self, prompt_id: str) -> str:
        """Begin to collect the prompt's events and return the client id to send with it.

        Without a socket (a proxy may not pass one) the inbox holds `Disconnected` and the id is one nobody listens to.
        """
        listener = self._listeners[prompt_id] = _Listener()
        if not self._connected:
            await self._connect_now()
        listener.client_id = self._client_id
        if not self._connected:
            listener.inbox.put_nowait(Disconnected())
        return self._client_id

    def inbox(self, prompt_id: str) -> Inbox:
        """Return the prompt's events; a prompt that never subscribed has none of its own to come."""
        if prompt_id not in self._listeners:
            self._listeners[prompt_id] = _Listener(client_id="another's")
            self._listeners[prompt_id].inbox.put_nowait(QueueChanged())  # have a look at once
            self._begin()
        return self._listeners[prompt_id].inbox

    def report_dequeued(self, prompt_id: str) -> None:
        """Put into the prompt's inbox, if anybody listens, that it was taken from the queue."""
        if prompt_id in self._listeners:
            self._listeners[prompt_id].inbox.put_nowait(Dequeued())

    async def unsubscribe(self, prompt_id: str) -> None:
        """Stop collecting; the last one to leave closes the socket."""
        self._listeners.pop(prompt_id, None)
        if not self._listeners:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the socket."""
        reader, self._reader, self._connected = self._reader, None, False
        self._resolve_connect()
        if reader:
            reader.cancel()
            await asyncio.wait({reader}, timeout=CONNECT_SECONDS)

    def _begin(self) -> None:
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._keep_reading(), name="comfyui-socket")

    async def _connect_now(self) -> None:
        """Return once an attempt to connect has been decided."""
        self._begin()
        self._reconnect_now.set()
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.get_running_loop().create_future()
        if time.monotonic() < self._stalled_until:
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.shield(self._attempt)
        except TimeoutError:  # somebody takes connections and says nothing: the next jobs do not wait for it
            self._stalled_until = time.monotonic() + STALLED_SECONDS

    async def _keep_reading(self) -> None:
        """Read, and connect anew when the connection is lost, until nobody listens."""
        failures = 0
        while True:
            self._reconnect_now.clear()
            self._client_id = uuid.uuid4().hex
            was_open = await self._read()
            failures = 0 if was_open else failures + 1
            self._resolve_connect()
            for listener in self._listeners.values():
                listener.inbox.put_nowait(Disconnected(was_open=was_open))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONNECT_SECONDS[min(failures, len(RECONNECT_SECONDS) - 1)]):
                    await self._reconnect_now.wait()

    async def _read(self) -> bool:
        """Read one connection to its end; return False if there never was one."""
        opened = False
        try:
            async with asyncio.timeout(CONNECT_SECONDS) as bound, self._websocket() as socket:
                await socket.send_text(FEATURES)
                bound.reschedule(None)
                opened = self._connected = True
                self._resolve_connect()
                while True:
                    self._deliver(await socket.receive())
        except Exception as error:  # however it ends, the jobs go on by polling
            logger.info("socket lost: %r", error)
        finally:
            if self._reader is asyncio.current_task():
                self._connected = False
        return opened

    def _websocket(self) -> contextlib.AbstractAsyncContextManager[Any]:
        params = {"clientId": self._client_id}
        return self._http.websocket(self._url, params=params, max_message_size_bytes=MAX_MESSAGE_BYTES)

    def _resolve_connect(self) -> None:
        if self._attempt and not self._attempt.done():
            self._attempt.set_result(None)

    def _deliver(self, message: object) -> None:
        data = getattr(message, "data", None)
        if isinstance(data, bytes | bytearray):
            self._deliver_frame(bytes(data))
        elif isinstance(data, str):
            with contextlib.suppress(ValueError):
                self._deliver_text(load(data))

    def _deliver_text(self, message: object) -> None:
        parsed = parse_message(message)
        if parsed:
            self._executing = parsed[0]
            self._dispatch(*parsed)
        elif isinstance(message, dict) and message.get("type") == "status":
            for listener in self._listeners.values():
                if listener.client_id not in (None, self._client_id):
                    listener.inbox.put_nowait(QueueChanged())

    def _deliver_frame(self, frame: bytes) -> None:
        if len(frame) <= MAX_PREVIEW_BYTES and (parsed := parse_frame(frame)):
            self._dispatch(parsed[0] or self._executing, parsed[1])

    def _dispatch(self, prompt_id: str | None, event: Event) -> None:
        if prompt_id not in self._listeners:
            return
        inbox = self._listeners[prompt_id].inbox
        if inbox.qsize() < (MAX_PREVIEWS if isinstance(event, Preview) else MAX_EVENTS):
            inbox.put_nowait(event)  # of a flood the rest is left out: polling tells what it would have told
