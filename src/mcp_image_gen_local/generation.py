"""The straight line from a request to images on disk."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from mcp_image_gen_local import __version__
from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.errors import ImageGone
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Plan, Progress
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.storage.images import ImageStore


class Listener(Protocol):
    """Hears of a job's way and keeps what must outlive this process."""

    @property
    def prompt_id(self) -> str:
        """The job's id, ours and the engine's."""
        ...

    @property
    def stamp(self) -> int:
        """What names the first image's file, milliseconds since 1970."""
        ...

    @property
    def saved(self) -> Mapping[int, SavedImage]:
        """The images that are on disk, by index."""
        ...

    async def planned(self, plan: Plan) -> None:
        """The engine knows what to generate; returns once that is written down, before anything is sent.

        Raises:
            GenerationCancelled: another process has cancelled it meanwhile.
        """
        ...

    async def queued(self) -> None:
        """The engine has taken the job: following it tells how it ends."""
        ...

    def progressed(self, progress: Progress) -> None:
        """Something happened at the engine."""
        ...

    async def generated(self) -> None:
        """The images can be fetched; returns once it is known which of them another process has saved."""
        ...

    async def kept(self, image: SavedImage) -> None:
        """An image is on disk."""
        ...

    def note(self, sentence: str) -> None:
        """The reader must know this of the result."""
        ...


async def generate(engine: Engine, store: ImageStore, request: GenerationRequest, job: Listener) -> None:
    """Generate what was asked for and save the images.

    Raises:
        ImageGenError: as the engine and the store say.
    """
    await asyncio.to_thread(store.check)  # before the GPU works for nothing
    plan = await engine.plan(request)
    await job.planned(plan)
    await engine.submit(plan, job.prompt_id)
    await job.queued()
    await collect(engine, store, plan, job)


async def collect(engine: Engine, store: ImageStore, plan: Plan, job: Listener) -> None:
    """Follow a submitted job to its end and save the images that are not yet on disk.

    Raises:
        ImageGenError: as the engine and the store say; what could be saved before is saved.
    """
    async for progress in engine.follow(job.prompt_id):
        job.progressed(progress)
    await job.generated()
    origin = {"engine": engine.name, "prompt_id": job.prompt_id, "software": f"mcp-image-gen {__version__}"}
    provenance, seed = {**plan.settings, **origin}, plan.seed
    try:
        async for image in engine.fetch(job.prompt_id, skip=job.saved):
            stamp = job.stamp + image.index
            await job.kept(await asyncio.to_thread(store.save, image, seed=seed, provenance=provenance, stamp=stamp))
    except ImageGone as gone:
        if not job.saved:
            raise
        job.note(str(gone))
