"""Connections of HTTP clients: bounded in number and in the time that a request takes to arrive."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11
import pytest
import uvicorn

from mcp_image_gen_local.server import connections
from mcp_image_gen_local.server.http import OUT_OF_FILES, _Exceptions

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"


class Application:
    """Answers each request with its body, once `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if message["type"] == "http.disconnect":
            return
        self.entered.set()
        await self.open.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def application() -> Application:
    return Application()


@pytest.fixture
async def port(application: Application) -> AsyncIterator[int]:
    """The port of a server with bounded connections."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application, http=connections.BoundedProtocol, ws="none", lifespan="off", log_config=None,
        timeout_graceful_shutdown=0,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listener]))
    yield listener.getsockname()[1]
    application.open.set()
    server.should_exit = True
    await task


@asynccontextmanager
async def connected(port: int, sent: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.wait({asyncio.ensure_future(writer.wait_closed())})


async def ending(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes the connection, gently or not."""
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize(
    ("phase", "sent"),
    [(h11.IDLE, b""), (h11.IDLE, HEAD), (h11.SEND_BODY, HEAD + b"\r\n123")],
    ids=["nothing", "half a header", "half a body"],
)
async def test_a_request_that_does_not_arrive_is_cut(port: int, monkeypatch, phase: Any, sent: bytes):
    monkeypatch.setitem(connections.SECONDS_OF, phase, 0.05)
    async with connected(port, sent) as (reader, _):
        assert await ending(reader) == b""


async def test_an_answer_may_take_as_long_as_it_takes(application: Application, port: int, monkeypatch):
    """Only what arrives is bounded: neither the answer, nor the next request while it comes in time."""
    usual = dict(connections.SECONDS_OF)
    monkeypatch.setattr(connections, "SECONDS_OF", dict.fromkeys(usual, 0.05))
    application.open.clear()
    async with connected(port, HEAD + b"\r\n12345") as (reader, writer):
        async with asyncio.timeout(10):
            await application.entered.wait()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)
            monkeypatch.setattr(connections, "SECONDS_OF", usual)
            application.open.set()
            assert (await reader.readuntil(b"12345")).startswith(b"HTTP/1.1 200")
            writer.write(HEAD + b"\r\n54321")
            assert (await reader.readuntil(b"54321")).startswith(b"HTTP/1.1 200")


async def test_who_only_holds_a_connection_makes_room(port: int, monkeypatch):
    """The oldest connection without a request goes when a new one comes."""
    monkeypatch.setattr(connections, "most_connections", lambda: 2)
    async with connected(port, HEAD) as (oldest, _), connected(port, HEAD) as (older, _):
        async with connected(port, HEAD + b"\r\n12345") as (reader, _), asyncio.timeout(10):
            assert (await reader.readuntil(b"12345")).startswith(b"HTTP/1.1 200")
            assert await ending(oldest) == b""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await older.read(1)


async def test_no_room_beside_running_calls_is_said(application: Application, port: int, monkeypatch):
    """A connection beyond the limit is refused while all others await their answer."""
    monkeypatch.setattr(connections, "most_connections", lambda: 1)
    application.open.clear()
    async with connected(port, HEAD + b"\r\n12345") as (first, _), asyncio.timeout(10):
        await application.entered.wait()
        async with connected(port) as (second, _):
            assert (await ending(second)).startswith(b"HTTP/1.1 503")
        application.open.set()
        assert (await first.readuntil(b"12345")).startswith(b"HTTP/1.1 200")


async def test_a_lack_of_files_is_one_line(caplog: pytest.LogCaptureFixture):
    """asyncio tells each connection that it could not take, with a traceback."""
    loop, handler = asyncio.get_running_loop(), _Exceptions()
    for _ in range(1000):
        handler(loop, {"message": OUT_OF_FILES, "exception": OSError(24, "Too many open files")})
    handler(loop, {"message": "another fault"})
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "Too many open files" in caplog.records[0].getMessage()
    assert "ulimit -n" in caplog.records[0].getMessage()
    assert caplog.records[1].getMessage() == "another fault"
