"""Stands between an MCP client and its server on stdio and records each line: `python tap.py LOG COMMAND [ARGUMENT]`.

LOG gets one JSON object a line: `at` (seconds since 1970), `by` ("client", "server" or "tap"), `session` (a number for
each start) and `message` (JSON-RPC) or `text` (what is no JSON, or a remark of the tap). It is a program of its own,
and imports nothing of this repository.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any

KERNEL = 0x80  #: si_code of a signal that the terminal sent to the whole group, so that the server has it already


class Log:
    """Appends records to a file, each at once."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115, PTH123 - lives as long as the process
        self._lock = threading.Lock()

    def write(self, by: str, **fields: Any) -> None:
        """Append one record."""
        with self._lock:
            self._file.write(json.dumps({"at": time.time(), "by": by, "session": os.getpid(), **fields}) + "\n")
            self._file.flush()

    def line(self, by: str, line: bytes) -> None:
        """Append one line of the protocol."""
        try:
            self.write(by, message=json.loads(line))
        except ValueError:
            self.write(by, text=line.decode("utf-8", "replace"))


def pump(log: Log, by: str, source: IO[bytes], target: IO[bytes]) -> None:
    """Copy lines until `source` ends, then close `target`."""
    try:
        for line in iter(source.readline, b""):
            log.line(by, line)
            target.write(line)
            target.flush()
    except OSError as error:
        log.write("tap", text=f"{by}: {error}")
    log.write("tap", text=f"{by} closed its output")
    with suppress(OSError):
        target.close()


def forward_signals(log: Log, server: subprocess.Popen[bytes]) -> None:
    """Give each signal to the server, unless it has it from the terminal."""
    while True:
        got = signal.sigwaitinfo({signal.SIGINT, signal.SIGTERM})
        log.write("tap", text=f"signal {signal.Signals(got.si_signo).name}")
        if got.si_code != KERNEL:
            server.send_signal(got.si_signo)


def main(path: str, command: list[str]) -> None:
    """Run the server until it ends, and end with its exit code."""
    log = Log(path)
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    assert server.stdin is not None
    assert server.stdout is not None
    for task in (
        threading.Thread(target=pump, args=(log, "client", sys.stdin.buffer, server.stdin), daemon=True),
        threading.Thread(target=forward_signals, args=(log, server), daemon=True),
    ):
        task.start()
    pump(log, "server", server.stdout, sys.stdout.buffer)
    code = server.wait()
    log.write("tap", text=f"the server ended with {code}")
    os._exit(max(code, 0))  # the pump from the client may still wait for it


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
