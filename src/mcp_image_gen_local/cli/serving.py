"""Serving MCP: over stdio by default, over HTTP on request."""

import asyncio
import gc
import ipaddress
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from mcp_image_gen_local.cli.logs import PlainFormatter
from mcp_image_gen_local.domain.errors import ImageGenError, SettingsInvalid
from mcp_image_gen_local.settings import LogLevel, Settings, load_settings

if TYPE_CHECKING:
    from mcp_image_gen_local.app import App

FAILED, BAD_USAGE = 1, 2  #: exit codes
GRACE_SECONDS = 2.0  #: for calls to take their jobs back after Ctrl-C
HEARING_SECONDS = 0.2  #: after SIGTERM, for what the client has just written to be read
SAME_SECONDS = 0.3  #: in which several SIGINTs are one Ctrl-C


def serve_stdio() -> int:
    """Serve on stdin and stdout until stdin closes; return the exit code."""
    try:
        settings = load_settings()
        start_logging(settings)
        from mcp_image_gen_local.app import App
        from mcp_image_gen_local.server import build_server  # a second's import; errors above come first
        from mcp_image_gen_local.server.stdio import serve

        app = App(settings)
        server = build_server(settings, app)
    except ImageGenError as error:
        print(f"mcp-image-gen: {error}", file=sys.stderr)
        return BAD_USAGE
    _spare_collector()
    logging.getLogger("fastmcp").setLevel(_framework_level(settings).upper())
    asyncio.run(_until_interrupted(serve(server), app))
    return 0


def _spare_collector() -> None:
    """Take what is loaded now out of the garbage collector's sight: it lives as long as the process.

    Else each full collection looks at a hundred thousand objects of the libraries, and nothing answers for 30 to 90 ms.
    """
    gc.freeze()
    gc.enable()  # disabled by main() while modules are imported


async def _until_interrupted(serving: Coroutine[Any, Any, None], app: "App") -> None:
    """Serve until stdin closes; Ctrl-C cancels the calls and ends the process though stdin is open.

    SIGTERM ends it too, and leaves the jobs running that no client has cancelled: Codex cancels a call and sends it
    60 ms later.
    """
    task = asyncio.ensure_future(serving)
    interrupts = Interrupts(lambda signum: _end(app, task, signum))
    interrupts.listen()
    await asyncio.wait({task})
    if interrupts.count:
        os._exit(0)  # the thread that reads stdin cannot be stopped, and a usual exit would wait for it
    await task


def _end(app: "App", serving: asyncio.Future[None], signum: int) -> None:
    loop = asyncio.get_running_loop()
    app.interrupted = signum == signal.SIGINT
    loop.call_later(0.0 if app.interrupted else HEARING_SECONDS, serving.cancel)
    loop.call_later(GRACE_SECONDS, os._exit, 0)


class Interrupts:
    """Counts SIGINT and SIGTERM: the first ends the work, a later one the process.

    Terminal and client both send one for the same Ctrl-C, within a millisecond; together they are the first.
    """

    def __init__(self, first: Callable[[int], object]) -> None:
        """Call `first` in the event loop with the number of the first one."""
        self.count = 0
        self._first = first
        self._since = 0.0

    def listen(self) -> None:
        """Take the place of Python's handler, whose exception may come in the middle of anything."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(signum, self._note, signum)
            except (NotImplementedError, ValueError, RuntimeError):  # Windows
                signal.signal(signum, lambda number, _: loop.call_soon_threadsafe(self._note, number))

    def _note(self, signum: int) -> None:
        now = time.monotonic()
        if not self.count:
            self.count, self._since = 1, now
            self._first(signum)
        elif now - self._since > SAME_SECONDS:
            os._exit(0)


def serve_http(settings: Settings, *, host: str, port: int) -> int:
    """Serve streamable HTTP at http://{host}:{port}/mcp until Ctrl-C; return the exit code.

    Raises:
        SettingsInvalid: the host is reachable from other machines and no token is set.
    """
    loopback = is_loopback(host)
    if not loopback and settings.http_token is None:
        raise SettingsInvalid(
            f"--host {host} can be reached from other machines, and no token protects it.",
            hint="Set IMAGE_GEN_HTTP_TOKEN to a long random text, or leave --host out to stay on this machine.",
        )
    _check_names(settings)
    start_logging(settings)
    from mcp_image_gen_local.server import build_server  # see serve_stdio
    from mcp_image_gen_local.server.http import serve

    server = build_server(settings)
    if settings.http_token:
        from fastmcp.server.auth import StaticTokenVerifier  # only wanted here

        token = settings.http_token.get_secret_value()
        server.auth = StaticTokenVerifier(tokens={token: {"client_id": "mcp-image-gen", "scopes": []}})
    _spare_collector()
    logging.getLogger("fastmcp").setLevel(_framework_level(settings).upper())
    shown = f"[{host}]" if ":" in host else host
    print(f"Serving MCP at http://{shown}:{port}/mcp (Ctrl-C ends)", file=sys.stderr)
    try:
        asyncio.run(serve(server, settings, host=host, port=port, is_loopback=loopback))
    except KeyboardInterrupt:
        return 0
    except SystemExit:  # uvicorn has logged why: mostly a port that is taken; its own code 3 is our "no engine"
        return FAILED
    return 0


def _check_names(settings: Settings) -> None:
    """Refuse a pattern that any name fits, unless a token guards."""
    for setting, names in (
        ("IMAGE_GEN_HTTP_ALLOWED_HOSTS", settings.http_allowed_hosts),
        ("IMAGE_GEN_HTTP_ALLOWED_ORIGINS", settings.http_allowed_origins),
    ):
        if settings.http_token is None and any(map(_fits_any_name, names)):
            raise SettingsInvalid(
                f"{setting} lets any web page use this server, and no token protects it.",
                hint="Name the hosts, or set IMAGE_GEN_HTTP_TOKEN to a long random text.",
            )


def _fits_any_name(pattern: str) -> bool:
    host = pattern.rpartition("://")[2].partition(":")[0]
    return "*" in host and not any(map(str.isalnum, host))


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _framework_level(settings: Settings) -> LogLevel:
    """Return FastMCP's log level: at debug it would write prompts into the log."""
    return "info" if settings.log_level == "debug" else settings.log_level


def start_logging(settings: Settings) -> None:
    """Send our log to stderr; stdout belongs to the protocol."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper())
    for noisy in ("httpx2", "httpcore2", "mcp", "PIL"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
