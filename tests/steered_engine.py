"""A small engine that a test steers step by step."""

import asyncio
from collections.abc import AsyncIterator, Collection

import anyio
import anyio.lowlevel

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.errors import GenerationCancelled, ImageGone
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import JobStatus, Plan, Progress
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.domain.request import GenerationRequest
from tests.comfyui_images import plain


class SteeredEngine(Engine):
    """Generates one step each time `go` is released; the test says how it ends."""

    name = "steered"
    url = "http://steered"

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)
        self.failure: Exception | None = None  #: raised after the last step
        self.refusal: Exception | None = None  #: raised by cancel
        self.known: set[str] = set()  #: submitted here or by another process
        self.followed: list[str] = []
        self.withdrawn: list[str] = []
        self.let_go: set[str] = set()
        self.holds_on = 0  #: so many cancels find it busy
        self.sending: anyio.Event | None = None  #: submitted jobs arrive when it is set
        self.others = 0  #: jobs of its other clients
        self.images: list[bytes | None] = [plain(16, 16)]  #: of every job; None is one that is gone

    async def plan(self, request: GenerationRequest) -> Plan:
        return Plan(seed=request.seed, model="steered.safetensors", settings={"steps": 3}, notes=("a note",))

    async def submit(self, plan: Plan, prompt_id: str) -> None:
        if self.sending:
            await self.sending.wait()
        self.known.add(prompt_id)

    async def follow(self, prompt_id: str) -> AsyncIterator[Progress]:
        self.followed.append(prompt_id)
        for step in range(1, 4):
            await self.go.acquire()
            if prompt_id in self.let_go:
                raise GenerationCancelled("The engine let go of it.")
            yield Progress(status=JobStatus.RUNNING, phase="generating", step=step, steps=3)
        if self.failure:
            raise self.failure

    async def fetch(self, prompt_id: str, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        for index, image in enumerate(self.images):
            if index not in skip and image is not None:
                yield EngineImage(data=image, source=f"http://steered/{index}.png", index=index)
        if None in self.images:
            raise ImageGone("An image is gone.")

    async def recall(self, prompt_id: str) -> Plan | None:
        await anyio.lowlevel.checkpoint()
        return Plan(seed=None, model="steered", settings={}) if prompt_id in self.known else None

    async def cancel(self, prompt_id: str) -> bool:
        self.withdrawn.append(prompt_id)
        if self.refusal:
            raise self.refusal
        if self.holds_on:
            self.holds_on -= 1
            await anyio.lowlevel.checkpoint()
            return False
        if prompt_id in self.known:
            self.let_go.add(prompt_id)
            self.go.release()
        return True

    async def waiting(self) -> int:
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
