"""One HTTP request to ComfyUI, bounded in bytes and in time. No thinking here."""

import asyncio
import contextlib
import io
import ssl
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from mcp_image_gen_local.domain.errors import SettingsInvalid

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0  #: one piece of an answer; ComfyUI answers in milliseconds even while it samples
PROBE_SECONDS = 2.0  #: for a TLS handshake that only shows whether a port speaks TLS
MAX_JSON = 64 * 2**20  #: bytes of one reply, decoded
MAX_IMAGE = 256 * 2**20  #: bytes of one image, decoded
SMALL = 2**20  #: bytes: of larger replies only few are read at a time
LARGE_AT_ONCE = 2


class TooLarge(Exception):
    """A reply has more bytes than it may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit / 2**20:g} MiB")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    body: bytes = field(repr=False)  #: decoded
    location: str = ""  #: of a redirect, which is never followed


class Transport:
    """One connection pool, and the bounds on what is read through it."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Prepare; nothing is contacted.

        Raises:
            SettingsInvalid: SSL_CERT_FILE or SSL_CERT_DIR cannot be read.
        """
        real = httpx2.URL(url)
        #: for people, too: without the user and password that may stand in the real one
        self.url = str(real.copy_with(userinfo=b"")).rstrip("/")
        #: by limit: a slow image does not hold up the queue
        self._turns = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(LARGE_AT_ONCE))
        # trust_env=False: the engine is the user's own; a system-wide proxy has no business in between.
        self.http = httpx2.AsyncClient(
            base_url=self.url,
            auth=httpx2.BasicAuth(real.username, real.password) if real.userinfo else None,
            headers={**httpx2.Headers(headers), "accept-encoding": "identity"},
            timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=16),
            trust_env=False,
            verify=_trusted() if self.url.startswith("https:") else False,  # loading certificates takes 0.1 s
        )

    async def ask(self, method: str, path: str, *, seconds: float, limit: int | None = None, **content: Any) -> Reply:
        """Send a request and return the whole reply, whatever its status.

        Args:
            method: of HTTP.
            path: below the URL.
            seconds: for all of it, from the connection to the last byte.
            limit: bytes of the decoded body; MAX_JSON or MAX_IMAGE.
            content: as `httpx2.AsyncClient.stream` takes it.

        Raises:
            TimeoutError, TooLarge, httpx2.HTTPError.
        """
        async with asyncio.timeout(seconds), self.http.stream(method, path, **content) as reply:
            body = await self._read(reply, limit or MAX_JSON)
            return Reply(status=reply.status_code, body=body, location=reply.headers.get("location", ""))

    async def _read(self, reply: httpx2.Response, limit: int) -> bytes:
        """Return the body; compression that nobody asked for is bounded by what it unpacks to."""
        announced = reply.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > limit:
            raise TooLarge(limit)
        async with contextlib.AsyncExitStack() as turn, contextlib.aclosing(reply.aiter_bytes()) as pieces:
            body = turn.enter_context(io.BytesIO())  # closed, so that no traceback keeps its bytes
            async for piece in pieces:
                if body.tell() <= SMALL < body.tell() + len(piece):
                    await turn.enter_async_context(self._turns[limit])
                body.write(piece)
                if body.tell() > limit:
                    raise TooLarge(limit)
            return body.getvalue()

    async def speaks_tls(self) -> bool:
        """Return whether the port takes a TLS handshake."""
        url, context = httpx2.URL(self.url), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                _, writer = await asyncio.open_connection(url.host, url.port or 80, ssl=context)
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        return True

    async def aclose(self) -> None:
        """Close all connections."""
        await self.http.aclose()


def _trusted() -> ssl.SSLContext:
    """Return the certificates of this machine, or those that the environment names."""
    try:
        return httpx2.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        message = f"The certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({error})."
        raise SettingsInvalid(message, hint="Set it to a PEM file that exists, or unset it.") from error
