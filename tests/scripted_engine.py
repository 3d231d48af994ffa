"""A small engine that a test steers step by step."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection

import anyio.lowlevel

from mcp_image_gen_local.domain.capabilities import Capabilities
from mcp_image_gen_local.domain.engine import Engine, ImageReader
from mcp_image_gen_local.domain.errors import GenerationCancelled, ImageGone
from mcp_image_gen_local.domain.image import EngineImage, InputImage
from mcp_image_gen_local.domain.job import JobStatus, Plan, Progress, Ticket
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.domain.request import Feature, GenerationRequest
from tests.comfyui_images import plain


class ScriptedEngine(Engine):
    """Generates one step each time `go` is released; the test says how it ends.

    A call stops at a point of `hold`: "plan", "submit" (before the job arrives), "submitted" (before the reply),
    "fetch", "image1" (before the second image), "lookup", "cancel".
    """

    name = "steered"
    url = "http://scripted"

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)
        self.failure: Exception | None = None  #: raised after the last step
        self.refusal: Exception | None = None  #: raised by cancel
        self.known: set[str] = set()  #: submitted here or by another process
        self.planned: list[GenerationRequest] = []
        self.inputs: list[InputImage] = []  #: images that requests named, as they were read
        self.followed: list[str] = []
        self.looked_up: list[str] = []
        self.cancelled: list[str] = []
        self.stopped: set[str] = set()
        self.holds_on = 0  #: so many cancels find it busy
        self.hides = 0  #: so many lookups do not find a job that is just arriving
        self.others = 0  #: jobs of its other clients
        self.preview: bytes | None = None  #: of every step
        self.position: int | None = None  #: in the queue, at every step
        self.images: list[bytes | None] = [plain(16, 16)]  #: of every job; None is one that is gone
        self._gates: dict[str, asyncio.Event] = {}
        self._arrivals: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def hold(self, point: str) -> asyncio.Event:
        """Let calls stop at the point until the event is set."""
        gate = self._gates[point] = asyncio.Event()
        return gate

    async def arrival(self, point: str) -> None:
        """Return when a call is at the point, or was."""
        async with asyncio.timeout(20):
            await self._arrivals[point].wait()

    async def _pass(self, point: str) -> None:
        self._arrivals[point].set()
        if gate := self._gates.get(point):
            await gate.wait()

    async def capabilities(self, model: str | None) -> Capabilities:
        return Capabilities(model="steered", features=frozenset({Feature.STEPS, Feature.INIT_IMAGE}))

    async def plan(self, request: GenerationRequest, images: ImageReader) -> Plan:
        self.planned.append(request)
        await self._pass("plan")
        if request.init_image:
            self.inputs.append(await images.read(request.init_image))
        return Plan(seed=request.seed, model="steered.safetensors", steps=3, notes=("a note",), payload="a graph")

    async def submit(self, plan: Plan, job_id: str) -> Ticket:
        await self._pass("submit")
        self.known.add(job_id)
        await self._pass("submitted")
        return Ticket(host=self.url, id=job_id, data={"seed": plan.seed})

    async def follow(self, ticket: Ticket) -> AsyncIterator[Progress]:
        prompt_id = ticket.id
        self.followed.append(prompt_id)
        self._arrivals["follow"].set()
        for step in range(1, 4):
            await self.go.acquire()
            if prompt_id in self.stopped:
                raise GenerationCancelled("The engine let go of it.")
            facts = {"step": step, "steps": 3, "preview": self.preview, "queue_position": self.position}
            yield Progress(status=JobStatus.RUNNING, phase="generating", **facts)
        if self.failure:
            raise self.failure

    async def fetch(self, ticket: Ticket, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        await self._pass("fetch")
        for index, image in enumerate(self.images):
            await self._pass(f"image{index}")
            if index not in skip and image is not None:
                seed = ticket.data.get("seed")
                yield EngineImage(data=image, source=f"http://scripted/{index}.png", index=index, seed=seed)
        if None in self.images:
            raise ImageGone("An image is gone.")

    async def lookup(self, ticket: Ticket) -> Plan | None:
        self.looked_up.append(ticket.id)
        await self._pass("lookup")
        await anyio.lowlevel.checkpoint()
        if self.hides:
            self.hides -= 1
            return None
        return Plan(seed=None, model="steered", notes=("a guess",)) if ticket.id in self.known else None

    async def cancel(self, ticket: Ticket) -> bool:
        prompt_id = ticket.id
        self.cancelled.append(prompt_id)
        await self._pass("cancel")
        if self.refusal:
            raise self.refusal
        if self.holds_on:
            self.holds_on -= 1
            await anyio.lowlevel.checkpoint()
            return False
        if prompt_id in self.known:
            self.stopped.add(prompt_id)
            self.go.release()
        return True

    async def queue_length(self) -> int:
        return self.others

    async def models(self) -> ModelCatalog:
        raise NotImplementedError

    async def check(self) -> str:
        return "steered"

    async def aclose(self) -> None: ...

    def steps(self, count: int = 3) -> None:
        """Let the engine generate so many steps."""
        for _ in range(count):
            self.go.release()
