"""Jobs that this process did not begin: found in the journal or at the engine, and gone on with."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.errors import ImageGenError, PromptUnknown
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan
from mcp_image_gen_local.jobs import endings
from mcp_image_gen_local.jobs.entry import Entry, on_disk
from mcp_image_gen_local.jobs.roster import Roster
from mcp_image_gen_local.jobs.withdrawal import stop
from mcp_image_gen_local.storage import journal
from mcp_image_gen_local.storage.journal import Journal

logger = logging.getLogger(__name__)

RECOVERY_SECONDS = 60.0  #: at least between two looks for jobs that no process has ended
RECALL_DELAYS = (0.0, 0.2, 0.5)  #: before a job that the engine does not have is asked for again


class Takeover:
    """Finds jobs by their prompt_id, and looks now and then for those that other processes left at the engine."""

    def __init__(
        self, engine: Engine, journal: Journal, roster: Roster, go_on: Callable[[Entry, Plan, bool], None]
    ) -> None:
        """Prepare to find jobs; `go_on(entry, plan, is_new)` begins to follow one and to save its images."""
        self._engine = engine
        self._journal = journal
        self._roster = roster
        self._go_on = go_on
        self._looking: dict[str, asyncio.Task[Job]] = {}  #: by prompt_id
        self._recovery: asyncio.Task[None] | None = None
        self._next_recovery = 0.0

    async def find(self, prompt_id: str) -> Job:
        """Return the job, wherever it was begun; one that no task of this process works on is taken over.

        Raises:
            PromptUnknown: neither we nor the journal nor the engine know it.
            EngineUnreachable: whether it has ended is to be asked of the engine, and that does not answer.
        """
        if not endings.PROMPT_ID.fullmatch(prompt_id):
            raise self._unknown(prompt_id)
        self.look_for_orphans()
        return await self._once(prompt_id, lambda: self._find(prompt_id))

    async def _once(self, prompt_id: str, look: Callable[[], Coroutine[Any, Any, Job]]) -> Job:
        """Return what `look` finds; all who want the job meanwhile get the same answer, as it is half taken over."""
        task = self._looking.get(prompt_id)
        if task is None:
            task = self._looking[prompt_id] = asyncio.create_task(look(), name=f"find-{prompt_id}")
            task.add_done_callback(lambda _: self._looking.pop(prompt_id))
        try:
            return await asyncio.shield(task)
        except ImageGenError as error:
            raise error.anew() from None  # others may raise it as well

    async def _find(self, prompt_id: str) -> Job:
        entry = self._roster.get(prompt_id)
        if entry and entry.at_work:
            return entry.job
        known = entry.job if entry else None
        if known is None or known.status is not JobStatus.DONE:  # another process may know more
            known = await self._journal.get(prompt_id) or known
        if known is not None and await asyncio.to_thread(endings.is_settled, known):
            if entry and entry.job.status is known.status:
                return self._roster.renew(entry).job
            return self._roster.add(known).job
        is_anothers = known is not None and self._journal.is_looked_after(known)
        return await self._take_over(prompt_id, known, is_anothers=is_anothers)

    async def _take_over(self, prompt_id: str, known: Job | None, *, is_anothers: bool) -> Job:
        """Go on with a job that nobody here works on, as far as the engine still has it.

        `is_anothers` says that another process was at work on it a moment ago.
        """
        if known and (known.engine, known.url) != (self._engine.name, self._engine.url):
            raise endings.elsewhere(known, self._engine)
        if plan := await self._recall(prompt_id, known):
            if known:
                known = replace(known, images=await asyncio.to_thread(on_disk, known))
            return self._resume(prompt_id, known, plan, is_owned=not is_anothers)
        if known is None:
            raise self._unknown(prompt_id)
        known = await self._journal.get(prompt_id) or known  # it may have been cancelled or saved while we asked
        taken = self._roster.add(known)
        if is_anothers or known.status is JobStatus.LOST:  # that process may just be sending it
            return taken.job
        if not await asyncio.to_thread(endings.is_settled, known) and (known.plan or not known.status.is_final):
            await taken.end(JobStatus.LOST, endings.loss(known, self._engine))
        return taken.job

    async def _recall(self, prompt_id: str, known: Job | None) -> Plan | None:
        """Return what the engine knows of the job; one that another process may just be sending is asked for again."""
        may_arrive = known is not None and known.plan is not None and not known.status.is_final
        for delay in RECALL_DELAYS if may_arrive else RECALL_DELAYS[:1]:
            await asyncio.sleep(delay)
            if plan := await self._engine.recall(prompt_id):
                return plan
        return None

    def _resume(self, prompt_id: str, known: Job | None, plan: Plan, *, is_owned: bool) -> Job:
        """Follow a job that the engine has, and save what is missing of it."""
        if known:
            status = JobStatus.QUEUED if known.status.is_final else known.status
            job = replace(known, status=status, plan=known.plan or plan, error=None, ended=None)
        else:
            job = Job(prompt_id=prompt_id, engine=self._engine.name, url=self._engine.url, plan=plan, notes=plan.notes)
        taken = self._roster.add(job)
        taken.is_owned = is_owned
        self._go_on(taken, plan, known is None)
        return taken.job

    # -- orphans --------------------------------------------------------------------------------------

    def look_for_orphans(self) -> None:
        """Begin, if the last look is long enough ago, to look after what other processes left at the engine."""
        if (self._recovery is None or self._recovery.done()) and time.monotonic() >= self._next_recovery:
            self._next_recovery = time.monotonic() + RECOVERY_SECONDS
            self._recovery = asyncio.create_task(self._recover(), name="recovery")

    async def _recover(self) -> None:
        """Take over the jobs that no process looks after: their images are fetched and saved."""
        while jobs := await self._journal.unfinished(self._engine.name, self._engine.url):
            others = [job for job in jobs if not self._is_ours(job.prompt_id)]
            for job in others:
                if not self._journal.is_looked_after(job) and not await self._recover_one(job):
                    self._next_recovery = 0.0  # the next call tries again
                    return
            if not any(map(self._journal.is_looked_after, others)):
                return
            await asyncio.sleep(journal.ALIVE_SECONDS)  # whether those who look after them are alive

    def _is_ours(self, prompt_id: str) -> bool:
        entry = self._roster.get(prompt_id)
        return entry is not None and (entry.at_work or entry.job.status.is_final)

    async def _recover_one(self, job: Job) -> bool:
        """Take the job over; return False if the engine cannot be asked."""
        if self._is_ours(job.prompt_id):  # a call was quicker
            return True
        try:
            await self._once(job.prompt_id, lambda: self._adopt(job))
        except ImageGenError as error:
            logger.info("job %s is left for later: %s", job.prompt_id, error)
            return False
        except Exception:  # one odd job must not keep the others from being looked after
            logger.exception("job %s could not be looked after", job.prompt_id)
        return True

    async def _adopt(self, job: Job) -> Job:
        """Take the job over and tell other processes so, unless the engine cannot be asked."""
        await self._journal.touch([job.prompt_id])
        try:
            return await self._take_over(job.prompt_id, job, is_anothers=False)
        except BaseException:
            await self._journal.touch([job.prompt_id], alive=False)
            raise

    async def aclose(self) -> None:
        """Stop looking."""
        tasks = [self._recovery, *self._looking.values()]
        await asyncio.gather(*(stop(task) for task in tasks if task))

    def _unknown(self, prompt_id: str) -> PromptUnknown:
        return PromptUnknown(
            f"No job {prompt_id[:64]!r} is known here or at {self._engine.url}.",
            hint="Check the prompt_id. If the engine was restarted, the job is gone: call generate_image again.",
        )
