"""Replies of the ComfyUI test double that come cut short, slowly or not at all."""

import asyncio
from collections.abc import Mapping

from starlette.responses import Response

from tests.comfyui_sockets import Message, Receive, Send


class Cut(Exception):
    """The connection is to be closed without (the rest of) a reply."""


class Truncated(Response):
    """Announces the whole length, sends the first `at` bytes and has the connection closed."""

    def __init__(self, content: bytes, *, headers: Mapping[str, str], at: int) -> None:
        super().__init__(content, headers=headers)
        self._at = at

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._at >= len(self.body):
            return await super().__call__(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body)[: self._at], "more_body": True})
        await asyncio.sleep(0)
        raise Cut


class Slow(Response):
    """Announces the whole length and sends `chunk` bytes every `seconds`, until the client leaves."""

    def __init__(self, content: bytes, *, headers: Mapping[str, str], chunk: int, seconds: float) -> None:
        super().__init__(content, headers=headers)
        self._chunk, self._seconds = chunk, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        body, chunk = bytes(self.body), self._chunk
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for start in range(0, len(body), chunk):
            await send({"type": "http.response.body", "body": body[start : start + chunk], "more_body": True})
            if await gone_within(receive, self._seconds):
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def gone(receive: Receive) -> None:
    """Wait until the client or the server has ended the connection."""
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass


async def gone_within(receive: Receive, seconds: float) -> bool:
    """Wait for the end of the connection, but no longer than `seconds`; True if it came."""
    try:
        async with asyncio.timeout(seconds):
            await gone(receive)
    except TimeoutError:
        return False
    return True
