"""An MCP client of JSON lines, so that the measurement holds no client library's time."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

HANDSHAKE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


class Server:
    """One spawned server."""

    def __init__(self, process: subprocess.Popen[bytes], spawned: float) -> None:
        self.process = process
        self.usage = psutil.Process(process.pid)
        self._id = 0
        self.call("initialize", HANDSHAKE)
        self.start_seconds = time.monotonic() - spawned
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, method: str, params: dict[str, Any] | None = None) -> tuple[dict[str, Any], int]:
        """Return the result and the bytes of the reply."""
        self._id += 1
        self._send({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}})
        while True:
            line = self.process.stdout.readline()
            self.received = time.monotonic()
            if not line:
                raise RuntimeError(f"the server ended with {self.process.wait()}")
            reply = json.loads(line)
            if reply.get("id") == self._id:
                return reply["result"], len(line)

    def rss_bytes(self) -> int:
        return self.usage.memory_info().rss

    def _send(self, message: dict[str, Any]) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()


@contextmanager
def spawn(*arguments: str, **environment: str) -> Iterator[Server]:
    """Spawn `python arguments...` and answer `initialize`."""
    spawned = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as process:
        try:
            yield Server(process, spawned)
        finally:
            process.stdin.close()
            process.wait(10)
