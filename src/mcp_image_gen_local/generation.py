"""The straight line from a request to images on disk, as events.

The consumer stores each event before the next step runs: a plan is stored before anything is sent, a ticket before
anything is awaited, an image's path before the next image is fetched.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, replace

from mcp_image_gen_local import __version__
from mcp_image_gen_local.domain.engine import Engine, ImageReader
from mcp_image_gen_local.domain.errors import EngineUnreachable, GenerationCancelled, GenerationFailed, ImageGone
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Plan, Progress, Ticket
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.engine_kit.registry import supporters
from mcp_image_gen_local.storage.images import ImageStore


@dataclass(frozen=True)
class Planned:
    """The engine has resolved the request; nothing has been sent."""

    plan: Plan


@dataclass(frozen=True)
class Submitted:
    """The engine has taken the job."""

    ticket: Ticket


@dataclass(frozen=True)
class Generated:
    """The images can be fetched."""


@dataclass(frozen=True)
class Saved:
    """An image is on disk."""

    image: SavedImage


@dataclass(frozen=True)
class Requeued:
    """The engine has lost the job, and gets it once more."""

    sentence: str  #: for the reader


@dataclass(frozen=True)
class Noted:
    """The reader must know this of the result."""

    sentence: str


Event = Planned | Submitted | Progress | Generated | Saved | Requeued | Noted


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the images of one job go."""

    store: ImageStore
    job_id: str
    filename_ms: int  #: names the first image's file
    saved: Collection[int] = ()  #: indices of images that are on disk already


async def generate(
    engine: Engine, images: ImageReader, request: GenerationRequest, target: Target
) -> AsyncIterator[Event]:
    """Generate what was asked for and save the images.

    Raises:
        ImageGenError: as the engine and the store say.
    """
    await asyncio.to_thread(target.store.check)  # before the GPU works for nothing
    capabilities = await engine.capabilities(request.model)
    request, notes = capabilities.check(request, lambda feature: supporters(feature, other_than=engine.name))
    plan = await engine.plan(request, images)
    plan = replace(plan, notes=(*notes, *plan.notes))
    yield Planned(plan)
    ticket = await engine.submit(plan, target.job_id)
    yield Submitted(ticket)
    async for event in collect(engine, plan, ticket, target):
        yield event


async def collect(engine: Engine, plan: Plan, ticket: Ticket, target: Target) -> AsyncIterator[Event]:
    """Follow a submitted job to its end and save the images that are not yet on disk.

    Raises:
        ImageGenError: as the engine and the store say; images that could be saved before are saved.
    """
    saved = set(target.saved)
    for is_last in (False, True):
        async for progress in engine.follow(ticket):
            yield progress
        yield Generated()
        try:
            async for image in _fetch(engine, plan, ticket, replace(target, saved=frozenset(saved))):
                yield Saved(image)
                saved.add(image.index)
            break
        except EngineUnreachable:  # it ended after the job: `follow` waits for its return, and finds the images again
            if is_last:
                raise
        except (ImageGone, GenerationFailed, GenerationCancelled) as failure:
            if not saved:
                raise
            yield Noted(str(failure))
            break
    if not saved:
        raise GenerationFailed("The engine finished the job without an image.", hint="Check the workflow and the log.")


async def _fetch(engine: Engine, plan: Plan, ticket: Ticket, target: Target) -> AsyncIterator[SavedImage]:
    """Fetch the images that are not yet on disk and save each."""
    origin = {"engine": engine.name, "prompt_id": target.job_id, "software": f"mcp-image-gen {__version__}"}
    async for image in engine.fetch(ticket, skip=target.saved):
        if image.seed is None and image.index == 0:
            image = replace(image, seed=plan.seed)
        provenance = {**plan.provenance(), "seed": image.seed, **origin}
        name = target.filename_ms + image.index
        yield await asyncio.to_thread(target.store.save, image, provenance=provenance, filename_ms=name)
