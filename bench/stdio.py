"""An MCP client of JSON lines, so that the measurement holds no client library's time."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

HANDSHAKE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}
CALL_SECONDS = 300.0  #: bound on one call


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A result, and when it came."""

    result: dict[str, Any]
    size: int  #: bytes of the line
    sent: float  #: seconds on the monotonic clock
    received: float  #: likewise, when the whole line was read

    @property
    def seconds(self) -> float:
        return self.received - self.sent


class Server:
    """One spawned server; several threads may call it at the same time."""

    def __init__(self, process: subprocess.Popen[bytes], spawned: float) -> None:
        self.process = process
        self.usage = psutil.Process(process.pid)
        self._id = 0
        self._waiting: dict[int, tuple[Future[Reply], float]] = {}
        self._writing = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()
        self.start_seconds = self.call("initialize", HANDSHAKE).received - spawned
        with self._writing:
            self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, method: str, params: dict[str, Any] | None = None) -> Reply:
        """Return the reply."""
        future: Future[Reply] = Future()
        with self._writing:
            self._id += 1
            self._waiting[self._id] = future, time.monotonic()
            self._write({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}})
        return future.result(CALL_SECONDS)

    def rss_bytes(self) -> int:
        return self.usage.memory_info().rss

    def descriptors(self) -> int:
        """Return how many files and connections are open; on Windows, how many handles."""
        return self.usage.num_fds() if hasattr(self.usage, "num_fds") else self.usage.num_handles()

    def cpu_seconds(self) -> float:
        times = self.usage.cpu_times()
        return times.user + times.system

    def _write(self, message: dict[str, Any]) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def _listen(self) -> None:
        for line in self.process.stdout:
            received = time.monotonic()
            said = json.loads(line)
            if said.get("id") not in self._waiting:
                continue  # a notification
            future, sent = self._waiting.pop(said["id"])
            if "result" in said:
                future.set_result(Reply(result=said["result"], size=len(line), sent=sent, received=received))
            else:
                future.set_exception(RuntimeError(f"the server answered {said['error']}"))
        for future, _ in list(self._waiting.values()):
            future.set_exception(RuntimeError("the server ended"))


def in_folder(folder: str, **settings: str) -> dict[str, str]:
    """Return the settings of a server that keeps its images and its journal in `folder`, not with the user's."""
    return {"IMAGE_OUTPUT_DIR": folder, "IMAGE_GEN_STATE_DIR": f"{folder}/state", **settings}


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
