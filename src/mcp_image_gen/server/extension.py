"""The tasks extension as this server uses it; imported only where tasks are offered."""

import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from fastmcp_tasks import TasksExtension

CONCURRENCY = 256  #: a task only waits for its job: the queue that counts is the engine's
CHECK_INTERVAL = timedelta(seconds=1)  #: new tasks wake the worker; the default of 50 ms costs an idle server 2 % CPU


class Tasks(TasksExtension):
    """Runs calls in this process, in a queue that no other server shares."""

    def __init__(self, *, end_tasks: Callable[[], None]) -> None:
        super().__init__(
            # Both given: FASTMCP_DOCKET_URL may name a Redis whose workers know nothing of this server's jobs.
            url="memory://",
            name=f"mcp-image-gen-{uuid.uuid4().hex}",
            concurrency=CONCURRENCY,
            minimum_check_interval=CHECK_INTERVAL,
        )
        self._end_tasks = end_tasks

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        """Run the worker. When the server stops, so do the tasks: Docket alone would wait for every picture."""
        async with super().lifespan():
            try:
                yield
            finally:
                self._end_tasks()
