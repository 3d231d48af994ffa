"""The jobs that this process knows: those it works on, and the newest of those that have ended."""

import asyncio
from collections.abc import Callable, Iterator

from mcp_image_gen_local.domain.job import Job
from mcp_image_gen_local.jobs.entry import Entry
from mcp_image_gen_local.jobs.withdrawal import stop
from mcp_image_gen_local.storage.journal import Journal

MAX_REMEMBERED = 256  #: ended jobs; older ones are asked of the journal again
HEARTBEAT_SECONDS = 5.0


class Roster:
    """Entries by prompt_id; says in the journal, as long as there are any, which jobs this process looks after."""

    def __init__(self, journal: Journal, heed: Callable[[Entry], object]) -> None:
        """Begin empty; `heed(entry)` is called for a job at work that another process has cancelled."""
        self._journal = journal
        self._heed = heed
        self._entries: dict[str, Entry] = {}
        self._heartbeat: asyncio.Task[None] | None = None

    def __getitem__(self, prompt_id: str) -> Entry:
        return self._entries[prompt_id]

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, prompt_id: str) -> Entry | None:
        """Return the entry; None if the job is not known here."""
        return self._entries.get(prompt_id)

    def add(self, job: Job) -> Entry:
        """Return a new entry for the job, in place of an older one; the oldest ended jobs are forgotten."""
        ended = [p for p, e in self._entries.items() if not e.at_work]
        for prompt_id in ended[: max(0, len(ended) - MAX_REMEMBERED)]:
            del self._entries[prompt_id]
        entry = self._entries[job.prompt_id] = Entry(job, self._journal, self._heed)
        return entry

    def renew(self, entry: Entry) -> Entry:
        """Return the entry, now the last to be forgotten."""
        self._entries.pop(entry.prompt_id, None)
        self._entries[entry.prompt_id] = entry
        return entry

    def owned(self) -> list[str]:
        """Return the ids of the jobs that no other process need look after."""
        return [entry.prompt_id for entry in self if entry.is_owned and entry.at_work]

    def keep_alive(self) -> None:
        """Have the journal told from now on, until no owned job is at work."""
        if self._heartbeat is None or self._heartbeat.done():
            self._heartbeat = asyncio.create_task(self._beat(), name="heartbeat")

    async def _beat(self) -> None:
        while owned := self.owned():
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for prompt_id in await self._journal.touch(owned):
                if (entry := self.get(prompt_id)) and entry.at_work:
                    self._heed(entry)

    async def aclose(self) -> None:
        """Stop all work and let go of the owned jobs: the next process need not wait to see that this one is gone."""
        orphans = self.owned()
        tasks = [self._heartbeat, *(task for entry in self for task in (entry.task, entry.withdrawal))]
        await asyncio.gather(*(stop(task) for task in tasks if task))
        if orphans:
            await self._journal.touch(orphans, alive=False)
