"""Engines that answer one call with images get queue, progress, cancel and memory here."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from mcp_image_gen_local.domain.capabilities import Capabilities
from mcp_image_gen_local.domain.engine import ImageReader
from mcp_image_gen_local.domain.errors import GenerationCancelled, GenerationFailed, GenerationLost, ImageGenError
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import JobStatus, Plan, Progress, Ticket
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.domain.request import GenerationRequest

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 16  #: ended generations kept, so that an image that could not be saved can be fetched again
CANCEL_SECONDS = 5.0  #: for the backend to stop; after that the cancel is to be repeated


class Backend(Protocol):
    """What generates: one call, one result. Everything else of the `Engine` contract comes from `QueuedEngine`."""

    name: str
    url: str

    async def capabilities(self, model: str | None) -> Capabilities:
        """As `Engine.capabilities`."""
        ...

    async def models(self) -> ModelCatalog:
        """As `Engine.models`."""
        ...

    async def plan(self, request: GenerationRequest, images: ImageReader) -> Plan:
        """As `Engine.plan`."""
        ...

    def generate(self, plan: Plan, report: Callable[[Progress], None]) -> AsyncIterator[EngineImage]:
        """Yield the images of the plan as they are finished; call `report` with what happens meanwhile.

        Called for one plan at a time. Being cancelled is how a job is cancelled.

        Raises:
            ImageGenError: it failed; any other exception counts as a fault of the backend.
        """
        ...

    async def check(self) -> str:
        """As `Engine.check`."""
        ...

    async def aclose(self) -> None:
        """Release connections and memory."""
        ...


@dataclass(eq=False)
class _Generation:
    """A job of this process."""

    plan: Plan
    newest: Progress | None = None
    images: list[EngineImage] = field(default_factory=list)
    error: ImageGenError | None = None
    task: asyncio.Task[None] | None = None
    followers: set[asyncio.Queue[Progress | None]] = field(default_factory=set)  #: None ends them

    def report(self, progress: Progress | None) -> None:
        """Inform the followers; None: the job has ended."""
        self.newest = progress or self.newest
        for follower in self.followers:
            follower.put_nowait(progress)

    @property
    def has_ended(self) -> bool:
        """True when nothing more will happen."""
        return self.task is not None and self.task.done()


class QueuedEngine:
    """An `Engine` on a `Backend`: one job at a time, in the order in which they were submitted."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.url = backend.name, backend.url
        self._backend = backend
        self._generations: dict[str, _Generation] = {}
        self._queue: list[str] = []  #: job ids, the running one first
        self._turn = asyncio.Lock()

    async def capabilities(self, model: str | None) -> Capabilities:
        """Return what the backend supports with this model."""
        return await self._backend.capabilities(model)

    async def models(self) -> ModelCatalog:
        """Return the backend's models."""
        return await self._backend.models()

    async def plan(self, request: GenerationRequest, images: ImageReader) -> Plan:
        """Resolve the request."""
        return await self._backend.plan(request, images)

    async def submit(self, plan: Plan, job_id: str) -> Ticket:
        """Append the job to the queue of this process."""
        generation = self._generations[job_id] = _Generation(plan)
        ended = [each for each, known in self._generations.items() if known.has_ended]
        for old in ended[: max(0, len(ended) - MAX_REMEMBERED)]:
            del self._generations[old]
        self._queue.append(job_id)
        generation.task = asyncio.create_task(self._run(job_id, generation), name=f"{self.name}-{job_id}")
        return Ticket(host=self.url, id=job_id)

    async def _run(self, job_id: str, generation: _Generation) -> None:
        """Generate when it is this job's turn."""
        self._report_positions()
        try:
            async with self._turn:
                async for image in self._backend.generate(generation.plan, generation.report):
                    generation.images.append(image)
            if not generation.images:
                generation.error = GenerationFailed(f"The engine {self.name} finished without an image.")
        except asyncio.CancelledError:
            generation.error = GenerationCancelled("The job was cancelled.")
        except ImageGenError as error:
            generation.error = error
        except Exception as error:  # the backend's; without this the job would end as done, with no image
            logger.exception("job %s", job_id)
            generation.error = GenerationFailed(
                f"The engine {self.name} failed: {repr(error)[:300]}.", hint="Report it with the log."
            )
        finally:
            self._queue.remove(job_id)
            self._report_positions()
            generation.report(None)

    def _report_positions(self) -> None:
        """Tell each waiting job its place: 1 is next after the running job."""
        for place, job_id in enumerate(self._queue):
            if place and (generation := self._generations.get(job_id)):
                generation.report(Progress(status=JobStatus.QUEUED, phase="waiting in the queue", queue_position=place))

    async def follow(self, ticket: Ticket) -> AsyncIterator[Progress]:
        """Yield progress from the newest on; end when the images can be fetched."""
        generation = self._known(ticket)
        inbox = asyncio.Queue[Progress | None]()
        generation.followers.add(inbox)
        try:
            if generation.newest and not generation.has_ended:
                yield generation.newest
            while not generation.has_ended and (progress := await inbox.get()):
                yield progress
        finally:
            generation.followers.discard(inbox)
        if generation.error:
            raise generation.error.anew()

    async def fetch(self, ticket: Ticket, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        """Yield the finished images, those of a job that failed later as well."""
        for image in list(self._known(ticket).images):
            if image.index not in skip:
                yield image

    async def lookup(self, ticket: Ticket) -> Plan | None:
        """Return the plan of a job of this process; those of other processes ended with them."""
        generation = self._generations.get(ticket.id)
        return generation.plan if generation else None

    async def cancel(self, ticket: Ticket) -> bool:
        """Cancel a queued job at once, a running one as soon as the backend stops."""
        generation = self._generations.get(ticket.id)
        if generation is None or generation.task is None or generation.has_ended:
            return True
        generation.task.cancel()
        done, _ = await asyncio.wait({generation.task}, timeout=CANCEL_SECONDS)
        return bool(done)

    async def queue_length(self) -> int:
        """Return how many jobs of this process are queued or running."""
        return len(self._queue)

    async def check(self) -> str:
        """Return what the backend says of itself."""
        return await self._backend.check()

    async def aclose(self) -> None:
        """Cancel all jobs and close the backend."""
        tasks = [each.task for each in self._generations.values() if each.task and not each.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._generations.clear()
        await self._backend.aclose()

    def _known(self, ticket: Ticket) -> _Generation:
        if ticket.id not in self._generations:
            raise GenerationLost(
                f"The engine {self.name} no longer knows the job {ticket.id}: its process ended.",
                hint="Call generate_image again.",
            )
        return self._generations[ticket.id]
