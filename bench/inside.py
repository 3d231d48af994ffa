"""The server as users start it, with a window: the bench asks for its tasks and objects by a connection of its own.

A task counts as alive until it has ended. What is asked for is answered by a thread, and only while it is asked for is
the server kept from its work: 1 ms for tasks, 0.2 s for objects. Objects, and tasks for the first time, may only be
asked for while the server does nothing: whoever is shown a tuple in the making breaks the code that makes it
(SystemError, "tupleobject.c: bad argument to internal function").
"""

import asyncio
import gc
import os
import threading
import tracemalloc
from collections import Counter
from functools import cache
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

PORT = "BENCH_WINDOW_PORT"


class Window:
    """The bench's end."""

    def __init__(self) -> None:
        self._listener = Listener(("127.0.0.1", 0))
        self.settings = {PORT: str(self._listener.address[1])}  #: environment of the server to look into
        self._connection: Connection | None = None

    def ask(self, what: str) -> Any:
        """Return the answer of one of `LOOKS`."""
        self._connection = self._connection or self._listener.accept()
        self._connection.send(what)
        return self._connection.recv()


def tasks() -> int:
    """Return how many asyncio tasks have not ended."""
    return len(asyncio.all_tasks(_loop()))


def objects() -> dict[str, int]:
    """Return how many objects there are that can hold others, by type."""
    gc.collect()
    return dict(Counter(type(thing).__qualname__ for thing in gc.get_objects()))


def memory() -> dict[str, int]:
    """Return bytes that are held, by the line that allocated them; needs tracemalloc."""
    gc.collect()
    found = tracemalloc.take_snapshot().statistics("lineno")
    return {f"{line.traceback[0].filename}:{line.traceback[0].lineno}": line.size for line in found}


LOOKS = {"tasks": tasks, "objects": objects, "memory": memory}


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return next(o for o in gc.get_objects() if isinstance(o, asyncio.AbstractEventLoop) and o.is_running())


def _answer(connection: Connection) -> None:
    while True:
        try:
            connection.send(LOOKS[connection.recv()]())
        except EOFError:  # the bench has ended
            return


def main() -> None:
    connection = Client(("127.0.0.1", int(os.environ.pop(PORT))))
    threading.Thread(target=_answer, args=(connection,), daemon=True).start()
    from mcp_image_gen_local.cli import main as serve

    serve()


if __name__ == "__main__":
    main()
