"""ComfyUI's WebSocket, shared by all jobs of this process."""

import asyncio
import contextlib
import json
import logging
import uuid

import httpx2

from mcp_image_gen.engines.comfyui.events import Disconnected, Event, parse_message

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
MAX_MESSAGE_BYTES = 64 * 2**20  # preview frames and SaveImageWebsocket pictures come this way too

Inbox = asyncio.Queue[Event]


class EventStream:
    """Hands each job the events of its own prompt; open only while a job wants them.

    A fresh client id for each connection: with a reused one, ComfyUI forgets the newer socket when the older closes
    (Comfy-Org/ComfyUI issue 16010). A lost connection is therefore not resumed; its jobs go on by polling, and the next
    job opens a new one.
    """

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self._http = http
        self._url = "ws" + url.removeprefix("http") + "/ws"
        self._client_id = ""
        self._inboxes: dict[str, Inbox] = {}
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def subscribe(self, prompt_id: str) -> str:
        """Begin to collect the prompt's events and return the client id to send with it.

        Without a socket (a proxy may not pass one) the inbox holds `Disconnected` and the id is one nobody listens to.
        """
        inbox = self._inboxes[prompt_id] = asyncio.Queue()
        async with self._opening:
            if self._reader is None or self._reader.done():
                await self._open()
        if self._reader is None or self._reader.done():
            inbox.put_nowait(Disconnected())
        return self._client_id

    def inbox(self, prompt_id: str) -> Inbox:
        """Return the prompt's events; a prompt that never subscribed has none to come."""
        if prompt_id not in self._inboxes:
            inbox = self._inboxes[prompt_id] = asyncio.Queue()
            inbox.put_nowait(Disconnected())
        return self._inboxes[prompt_id]

    async def unsubscribe(self, prompt_id: str) -> None:
        """Stop collecting; the last one to leave closes the socket."""
        self._inboxes.pop(prompt_id, None)
        if not self._inboxes:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the socket."""
        reader, self._reader = self._reader, None
        if reader:
            reader.cancel()
            await asyncio.wait({reader}, timeout=CONNECT_SECONDS)

    async def _open(self) -> None:
        self._client_id = uuid.uuid4().hex
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._client_id, opened), name="comfyui-socket")
        await asyncio.wait({opened, self._reader}, timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            self._reader.cancel()

    async def _read(self, client_id: str, opened: asyncio.Future[None]) -> None:
        try:
            async with self._http.websocket(
                self._url, params={"clientId": client_id}, max_message_size_bytes=MAX_MESSAGE_BYTES
            ) as socket:
                opened.set_result(None)
                while True:
                    self._deliver(await socket.receive())
        except Exception as error:  # however it ends, the jobs go on by polling
            logger.info("socket lost: %r", error)
        finally:
            if self._reader is asyncio.current_task():  # a reader that was closed on purpose has nobody to tell
                for inbox in self._inboxes.values():
                    inbox.put_nowait(Disconnected())

    def _deliver(self, message: object) -> None:
        text = getattr(message, "data", None)
        if not isinstance(text, str):
            return  # a preview frame
        with contextlib.suppress(ValueError):
            parsed = parse_message(json.loads(text))
            if parsed and parsed[0] in self._inboxes:
                self._inboxes[parsed[0]].put_nowait(parsed[1])
