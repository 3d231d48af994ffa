"""Generations that outlive the calls that asked for them."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from mcp_image_gen.domain.engine import Engine
from mcp_image_gen.domain.errors import (
    EngineAnswerUnusable,
    EngineRefused,
    EngineUnreachable,
    GenerationCancelled,
    GenerationFailed,
    GenerationLost,
    GenerationTimeout,
    ImageGenError,
    OutputNotWritable,
    PromptUnknown,
)
from mcp_image_gen.domain.image import SavedImage
from mcp_image_gen.domain.job import Job, JobStatus, Plan, Progress
from mcp_image_gen.domain.request import GenerationRequest
from mcp_image_gen.generation import collect, generate
from mcp_image_gen.storage.images import ImageStore

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 256  #: ended jobs; older ones are asked of the engine again
#: The picture may lie finished at the engine: asking for the status tries again to fetch and save it.
WORTH_ANOTHER_TRY = (EngineUnreachable, EngineRefused, EngineAnswerUnusable, OutputNotWritable)
PROMPT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  #: what any engine could know; all else is never asked for
Work = Callable[[], Coroutine[Any, Any, list[SavedImage]]]  #: called by the job's own task: no task, no work
ENDINGS = {GenerationCancelled: JobStatus.CANCELLED, GenerationLost: JobStatus.LOST}


@dataclass(eq=False)
class _Entry:
    """A job, the task that works on it, and who watches."""

    job: Job
    task: asyncio.Task[None] | None = None
    watchers: set[asyncio.Queue[Job]] = field(default_factory=set)

    def update(self, **changes: Any) -> None:
        self.job = replace(self.job, **changes)
        for watcher in self.watchers:
            watcher.put_nowait(self.job)

    def planned(self, plan: Plan) -> None:
        self.update(plan=plan, notes=plan.notes)

    def progressed(self, progress: Progress) -> None:
        self.update(status=progress.status, progress=progress)


class JobRunner:
    """Runs jobs in the background; a call only watches."""

    def __init__(self, engine: Engine, store: ImageStore, *, timeout_seconds: float) -> None:
        self._engine = engine
        self._store = store
        self._timeout = timeout_seconds
        self._entries: dict[str, _Entry] = {}

    def start(self, request: GenerationRequest) -> str:
        """Begin to draw and return the prompt_id, ours and the engine's."""
        entry = self._add(Job(prompt_id=str(uuid.uuid4()), engine=self._engine.name))
        self._run(entry, lambda: generate(self._engine, self._store, request, entry.job.prompt_id, entry))
        return entry.job.prompt_id

    async def find(self, prompt_id: str) -> Job:
        """Return the job; one of another process is taken over from the engine, its pictures saved when it is done.

        Raises:
            PromptUnknown: neither we nor the engine know it.
            EngineUnreachable: we do not know it and the engine does not answer.
        """
        entry = self._entries.get(prompt_id)
        if entry and not isinstance(entry.job.error, WORTH_ANOTHER_TRY):
            return entry.job
        plan = await self._engine.recall(prompt_id) if PROMPT_ID.fullmatch(prompt_id) else None
        if plan is None:
            raise PromptUnknown(
                f"No job {prompt_id[:64]!r} is known here or at {self._engine.url}.",
                hint="Check the prompt_id. If the engine was restarted, the job is gone: call generate_image again.",
            )
        current = self._entries.get(prompt_id)
        if current is None or current is entry:  # nobody else has taken it over meanwhile
            taken = current = self._add(Job(prompt_id=prompt_id, engine=self._engine.name, plan=plan, notes=plan.notes))
            self._run(taken, lambda: collect(self._engine, self._store, plan, prompt_id, taken.progressed))
        return current.job

    async def watch(self, prompt_id: str, *, seconds: float, heartbeat: float = 5.0) -> AsyncIterator[Job]:
        """Yield the job now and at every change, until it has ended or `seconds` are over.

        When nothing changes for `heartbeat` seconds the job is yielded as it is.
        """
        entry, inbox = self._entries[prompt_id], asyncio.Queue[Job]()
        deadline = time.monotonic() + seconds
        entry.watchers.add(inbox)
        try:
            job = entry.job
            yield job
            while not job.status.is_final and (left := deadline - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(min(left, heartbeat)):
                        job = await inbox.get()
                except TimeoutError:
                    job = entry.job
                yield job
        finally:
            entry.watchers.discard(inbox)

    async def cancel(self, prompt_id: str) -> Job:
        """Withdraw the job from the engine and return it as it stands then; an ended job stays as it is."""
        entry = self._entries[prompt_id]
        if entry.job.status.is_final:
            return entry.job
        if entry.task:
            entry.task.cancel()
            await asyncio.wait({entry.task})
        if not entry.job.status.is_final:
            entry.update(**await self._withdraw(prompt_id), ended=time.monotonic())
        return entry.job

    async def _withdraw(self, prompt_id: str) -> dict[str, Any]:
        """Return the changes to a job that was taken from the engine, or was meant to be."""
        error: ImageGenError = GenerationCancelled(f"The job {prompt_id} was cancelled.")
        try:
            if not await self._engine.cancel(prompt_id):
                error.hint = "The engine has not let go of it yet; it stops at the end of the step or load it is in."
        except ImageGenError as failure:
            error.hint = f"The engine could not be told: {failure}"
        return {"status": JobStatus.CANCELLED, "error": error}

    async def aclose(self) -> None:
        """Stop working on all jobs; what runs at the engine goes on there and can be found again by its prompt_id."""
        tasks = [e.task for e in self._entries.values() if e.task and not e.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _add(self, job: Job) -> _Entry:
        ended = [p for p, e in self._entries.items() if e.job.status.is_final]
        for prompt_id in ended[: max(0, len(ended) - MAX_REMEMBERED)]:
            del self._entries[prompt_id]
        entry = self._entries[job.prompt_id] = _Entry(job)
        return entry

    def _run(self, entry: _Entry, work: Work) -> None:
        entry.task = asyncio.create_task(self._finish(entry, work), name=f"job-{entry.job.prompt_id}")

    async def _finish(self, entry: _Entry, work: Work) -> None:
        """Do the work and note how it ended."""
        prompt_id = entry.job.prompt_id
        bound = asyncio.timeout(self._timeout)
        try:
            async with bound:
                images = await work()
            changes: dict[str, Any] = {"status": JobStatus.DONE, "images": tuple(images)}
        except ImageGenError as error:
            if isinstance(error, WORTH_ANOTHER_TRY) and entry.job.progress:
                error.hint = f'{error.hint} (Later, get_generation_status(prompt_id="{prompt_id}") fetches it.)'.strip()
            changes = {"status": ENDINGS.get(type(error), JobStatus.FAILED), "error": error}
        except Exception as error:
            if bound.expired():
                changes = {"status": JobStatus.FAILED, "error": await self._time_out(prompt_id)}
            else:
                logger.exception("job %s", prompt_id)
                failure = GenerationFailed(
                    f"An unexpected error: {repr(error)[:300]}.", hint="Please report it with the log."
                )
                changes = {"status": JobStatus.FAILED, "error": failure}
        logger.info("job %s: %s", prompt_id, changes["status"])
        entry.update(**changes, ended=time.monotonic())

    async def _time_out(self, prompt_id: str) -> GenerationTimeout:
        withdrawal = (await self._withdraw(prompt_id))["error"]
        hint = "Raise IMAGE_GEN_JOB_TIMEOUT_SECONDS, or ask for fewer steps or a smaller picture."
        return GenerationTimeout(
            f"The job {prompt_id} did not end within {self._timeout:g} s and was withdrawn.",
            hint=f"{withdrawal.hint} {hint}".strip(),
        )
