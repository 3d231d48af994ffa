"""Is everything there to generate? One finding for each question, with the fix."""

import asyncio
from dataclasses import asdict, dataclass, replace
from typing import Any

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.errors import ImageGenError
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to one question."""

    subject: str
    ok: bool
    text: str  #: what is there, or what is wrong and how to mend it

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'}  {self.subject}: {self.text}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


async def examine(app: App) -> list[Finding]:
    """Return findings about engine, models, output folder and job journal; raises nothing that belongs into one."""
    engine = await _engine(app)
    found = [engine]
    if engine.ok:
        found.append(await _models(app))
    return [*found, await _folder(app), await _journal(app)]


def examine_client(name: str, settings: Settings) -> list[Finding]:
    """Return what a client of this name gets, and why: one finding for each choice."""
    from mcp_image_gen_local.server.clients import Client, delivery_of, find_profile, profiles  # a second's import

    found = find_profile(name)
    if found is None:
        known = ", ".join(profiles())
        text = f"no profile is named {clean(name, 60)!r}, so it counts as unknown; there are: {known}"
        unknown = Finding(subject="client", ok=True, text=text)
        return [unknown, *examine_client("unknown", settings)]
    reasons = delivery_of(Client(name=found.names[0].strip("*")), settings).reasons
    return [Finding(subject="client", ok=True, text=reason) for reason in reasons]


async def _engine(app: App) -> Finding:
    try:
        return Finding(subject="engine", ok=True, text=await app.engine.check())
    except ImageGenError as error:
        return Finding(subject="engine", ok=False, text=str(error))


async def _models(app: App) -> Finding:
    try:
        catalog = await app.engine.models()
    except ImageGenError as error:
        return Finding(subject="models", ok=False, text=str(error))
    found = _readiness(catalog)
    return replace(found, text=". ".join([found.text, *catalog.problems]))


def _readiness(catalog: ModelCatalog) -> Finding:
    first = catalog.models[0]
    ready = [m.name for m in catalog.models if m.ready]
    if first.ready:
        return Finding(subject="models", ok=True, text=f"{first.name} is ready, and {len(ready) - 1} more")
    lack = f"{first.family} is not ready; get {'; '.join(first.missing)}"
    if ready:
        return Finding(subject="models", ok=True, text=f"{ready[0]} is ready ({lack})")
    return Finding(subject="models", ok=False, text=f"nothing can generate: {lack}")


async def _folder(app: App) -> Finding:
    folder = await asyncio.to_thread(app.store.describe)
    if not folder.writable:
        fix = "make it writable, or set IMAGE_OUTPUT_DIR to another folder"
        return Finding(subject="folder", ok=False, text=f"{folder.path} cannot be written to: {fix}")
    holds = folder.summary if folder.exists else "will be made"
    return Finding(subject="folder", ok=True, text=f"{folder.path} ({holds})")


async def _journal(app: App) -> Finding:
    await app.jobs.forget([])  # a write that changes nothing
    problem = app.jobs.take_warning()
    return Finding(subject="journal", ok=not problem, text=problem or str(app.jobs.path))
