"""MCP over HTTP: which names the server answers to, and what the log says of those that it refuses."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from fastmcp import FastMCP

from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.server.connections import BoundedProtocol, backlog
from mcp_image_gen_local.settings import Settings

logger = logging.getLogger(__name__)

PATH = "/mcp"
GRACE_SECONDS = 2  #: for running calls when the server ends
SELDOM_SECONDS = 60.0  #: between two lines of the log that say the same
NAME_LENGTH = 100  #: characters of a refused name that are logged
OUT_OF_FILES = "socket.accept() out of system resource"  #: how asyncio says it
#: status of a refusal -> header that was refused, and the setting that lets it pass
REFUSALS = {421: (b"host", "IMAGE_GEN_HTTP_ALLOWED_HOSTS"), 403: (b"origin", "IMAGE_GEN_HTTP_ALLOWED_ORIGINS")}

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


async def serve(server: FastMCP[Any], settings: Settings, *, host: str, port: int, is_loopback: bool) -> None:
    """Serve at http://{host}:{port}/mcp until the process is interrupted.

    On loopback only its own names are answered, and those of the settings: else any web page could talk to the server
    by pointing its name here (DNS rebinding). Beyond it the names of this machine are not ours to guess, and the token
    guards; names in the settings then limit them.

    Raises:
        SystemExit: the address cannot be listened on; the log says why.
    """
    hosts, origins = settings.http_allowed_hosts, settings.http_allowed_origins
    is_guarded = is_loopback or bool(hosts or origins)
    app = server.http_app(
        path=PATH,
        transport="http",
        host_origin_protection=is_guarded,
        allowed_hosts=[host, *hosts] if is_loopback or hosts else ["*"],
        allowed_origins=[pattern for origin in origins for pattern in origin_patterns(origin)],
    )
    asyncio.get_running_loop().set_exception_handler(_Exceptions())
    config = uvicorn.Config(
        Door(app),
        host=host,
        port=port,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        backlog=backlog(),
        timeout_graceful_shutdown=GRACE_SECONDS,
        log_config=None,  # its own would send the access log to stdout
    )
    async with server._lifespan_manager():
        await uvicorn.Server(config).serve()


def origin_patterns(origin: str) -> tuple[str, ...]:
    """Return what FastMCP compares an Origin with; a bare name stands for both schemes, without a port for any."""
    if "://" in origin or origin == "*":
        return (origin,)
    has_port = origin.rpartition(":")[2].isdecimal()
    return tuple(f"{scheme}://{origin}{'' if has_port else ':*'}" for scheme in ("http", "https"))


class Seldom:
    """Tells whether something may be said again."""

    def __init__(self) -> None:
        self._said: dict[object, float] = {}

    def permits(self, topic: object) -> bool:
        """Return True at most once a minute for each topic."""
        now = time.monotonic()
        if now - self._said.get(topic, -SELDOM_SECONDS) < SELDOM_SECONDS:
            return False
        self._said[topic] = now
        return True


class Door:
    """Reads the media type in any case, and logs why a request was refused."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._seldom = Seldom()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name, _lower_json(value) if name == b"content-type" else value) for name, value in scope["headers"]]

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in REFUSALS:
                self._explain(message["status"], dict(headers))
            await send(message)

        await self._app({**scope, "headers": headers}, receive, send_on)

    def _explain(self, status: int, headers: dict[bytes, bytes]) -> None:
        header, setting = REFUSALS[status]
        if header in headers and self._seldom.permits(status):
            name = clean(headers[header].decode("latin-1"), NAME_LENGTH)
            text = "a request was refused (HTTP %d): its %s is '%s'. If you trust that name, add it to %s"
            logger.warning(text, status, header.decode().capitalize(), name, setting)


def _lower_json(media_type: bytes) -> bytes:
    """Return application/json in the case that the SDK compares with; other types as they are."""
    return media_type.lower() if media_type.lower().startswith(b"application/json") else media_type


class _Exceptions:
    """Says in one line, now and then, that no file is left for a connection; asyncio would fill the log with it."""

    def __init__(self) -> None:
        self._seldom = Seldom()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what an event loop could not tell to anybody else."""
        if context.get("message") != OUT_OF_FILES:
            loop.default_exception_handler(context)
        elif self._seldom.permits(OUT_OF_FILES):
            reason = clean(context.get("exception"))
            logger.error("no connection can be taken (%s). Raise the limit of open files: ulimit -n", reason)
