"""The straight line from a request to pictures on disk."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from mcp_image_gen import __version__
from mcp_image_gen.domain.engine import Engine
from mcp_image_gen.domain.image import SavedImage
from mcp_image_gen.domain.job import Plan, Progress
from mcp_image_gen.domain.request import GenerationRequest
from mcp_image_gen.storage.images import ImageStore


class Listener(Protocol):
    """Hears of a job's way."""

    def planned(self, plan: Plan) -> None:
        """The engine knows what to draw."""
        ...

    def progressed(self, progress: Progress) -> None:
        """Something happened at the engine."""
        ...


async def generate(
    engine: Engine, store: ImageStore, request: GenerationRequest, prompt_id: str, listener: Listener
) -> list[SavedImage]:
    """Draw what was asked for and return the saved pictures.

    Raises:
        ImageGenError: as the engine and the store say.
    """
    await asyncio.to_thread(store.check)  # before the GPU works for nothing
    plan = await engine.plan(request)
    listener.planned(plan)
    await engine.submit(plan, prompt_id)
    return await collect(engine, store, plan, prompt_id, listener.progressed)


async def collect(
    engine: Engine, store: ImageStore, plan: Plan, prompt_id: str, report: Callable[[Progress], None]
) -> list[SavedImage]:
    """Follow a submitted job to its end and return the saved pictures.

    Raises:
        ImageGenError: as the engine and the store say.
    """
    async for progress in engine.follow(prompt_id):
        report(progress)
    origin = {"engine": engine.name, "prompt_id": prompt_id, "software": f"mcp-image-gen {__version__}"}
    return [
        await asyncio.to_thread(store.save, picture, seed=plan.seed, provenance={**plan.settings, **origin})
        for picture in await engine.fetch(prompt_id)
    ]
