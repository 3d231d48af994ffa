"""Stands between an MCP client and its server on HTTP and records what both say, in the form of the tap's log."""

import http.client
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}  #: headers of one connection


class HttpTap:
    """Passes requests on to a port of this machine, and answers back, while it is open."""

    def __init__(self, *, port: int, log: Path) -> None:
        self._log, self._lock = log, threading.Lock()
        tap = self

        class Handler(_Handler):
            owner, upstream = tap, port

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """The address to give to the client."""
        return f"http://127.0.0.1:{self._server.server_port}/mcp"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write(self, by: str, content: bytes, **fields: Any) -> None:
        """Append one message; what is no JSON is left out."""
        with suppress(ValueError), self._lock, self._log.open("a", encoding="utf-8") as file:
            record = {"at": time.time(), "by": by, "message": json.loads(content), **fields}
            file.write(json.dumps(record) + "\n")


class _Handler(BaseHTTPRequestHandler):
    owner: HttpTap
    upstream: int

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Stay silent."""

    def do_GET(self) -> None:
        """Pass a request on."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.owner.write("client", body, user_agent=self.headers.get("User-Agent"))
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        connection.request(self.command, self.path, body or None, headers)
        with suppress(OSError):  # the client is gone
            self._answer(connection.getresponse())
        connection.close()

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names are the library's

    def _answer(self, response: http.client.HTTPResponse) -> None:
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        for line in iter(response.readline, b""):
            self.owner.write("server", line.removeprefix(b"data:"))
            self.wfile.write(line)
            self.wfile.flush()
