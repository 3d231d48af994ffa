"""The server under test on HTTP, behind a tap."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.clients.http_tap import HttpTap

START_SECONDS = 30


@contextmanager
def http_server(command: Sequence[str], variables: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Yield the address for clients; server and tap run until the end of the block, and write into `folder`.

    Raises:
        TimeoutError: the server did not listen within 30 seconds.
    """
    port = _free_port()
    arguments = [*command, "serve", "--http", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(arguments, env={**os.environ, **variables}, stdout=log, stderr=log)
        try:
            _wait_for(port)
            with HttpTap(port=port, log=folder / "tap.jsonl") as tap:
                yield tap.url
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(5)
            server.kill()


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    message = f"The server did not listen on port {port} within {START_SECONDS} s"
    raise TimeoutError(message)
