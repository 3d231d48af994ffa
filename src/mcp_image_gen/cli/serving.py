"""Serving MCP: over stdio by default, over HTTP on request."""

import asyncio
import contextlib
import ipaddress
import logging
import sys

from mcp_image_gen.domain.errors import ImageGenError, SettingsInvalid
from mcp_image_gen.settings import Settings, load_settings

BAD_USAGE = 2  #: exit code


def serve_stdio() -> int:
    """Serve on stdin and stdout until stdin closes; return the exit code."""
    try:
        settings = load_settings()
    except ImageGenError as error:
        print(f"mcp-image-gen: {error}", file=sys.stderr)
        return BAD_USAGE
    start_logging(settings)
    from mcp_image_gen.server import build_server  # a second's import; errors above come first

    server = build_server(settings)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.run_async("stdio", show_banner=False, log_level=settings.log_level))
    return 0


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
    start_logging(settings)
    from mcp_image_gen.server import build_server  # see serve_stdio

    server = build_server(settings)
    if settings.http_token:
        from fastmcp.server.auth import StaticTokenVerifier  # only wanted here

        token = settings.http_token.get_secret_value()
        server.auth = StaticTokenVerifier(tokens={token: {"client_id": "mcp-image-gen", "scopes": []}})
    print(f"Serving MCP at http://{host}:{port}/mcp (Ctrl-C ends)", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            server.run_async(
                "http",
                show_banner=False,
                host=host,
                port=port,
                log_level=settings.log_level,
                # FastMCP's own default is off: any web page could then talk to the server by DNS rebinding. Beyond
                # loopback the names under which this machine is known are not ours to guess; the token guards.
                host_origin_protection="auto" if loopback else False,
            )
        )
    return 0


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def start_logging(settings: Settings) -> None:
    """Send our log to stderr; stdout belongs to the protocol."""
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
