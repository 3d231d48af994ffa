"""Replies without measure, for `ComfyUIServer.mutate`: too many bytes, or a byte now and then."""

import asyncio
import functools
import gzip
import zlib
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from tests.comfyui_faults import gone
from tests.comfyui_sockets import Message, Receive, Send

PIECE = b" " * 2**16


def unpacking(megabytes: int, *, times: int = 1) -> Callable[..., Response]:
    """Return a reply of some kilobytes that unpacks to so much."""
    headers = {"Content-Encoding": ", ".join(["gzip"] * times)}

    @functools.cache
    def data() -> bytes:
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        packed = b"".join(packer.compress(bytes(2**20)) for _ in range(megabytes)) + packer.flush()
        for _ in range(times - 1):
            packed = gzip.compress(packed)
        return packed

    return lambda: Response(data(), headers=headers, media_type="application/json")


def endless() -> Response:
    """Return a reply that does not end."""
    return Flood(PIECE)


def announced() -> Response:
    """Return a reply that announces 4 GiB, and sends as many as are taken."""
    return Flood(PIECE, headers={"Content-Length": str(2**32)})


def trickling() -> Response:
    """Return a reply of which a byte comes now and then, each in time for a bound on single reads."""
    return Flood(b" ", pause=0.02)


class Flood(Response):
    """Sends a piece again and again until the client has left."""

    def __init__(self, piece: bytes, *, headers: dict[str, str] | None = None, pause: float = 0.0) -> None:
        super().__init__(headers=headers, media_type="application/json")
        if headers is None:
            del self.headers["content-length"]
        self._piece, self._pause = piece, pause

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        left = asyncio.ensure_future(gone(receive))
        while not left.done():
            await send({"type": "http.response.body", "body": self._piece, "more_body": True})
            await asyncio.wait({left}, timeout=self._pause)


def instead(reply: Callable[[], Response], *routes: str) -> Callable[[str, str, Any], Any]:
    """Return a mutation that gives this reply on these routes, such as "/queue" or "POST /prompt"; on none: on all."""

    def mutate(method: str, path: str, response: Any) -> Any:
        is_meant = not routes or any(f"{method} {path}".startswith(r) or path.startswith(r) for r in routes)
        return reply() if is_meant else response

    return mutate
