"""Is everything there to generate? One finding for each question, with the fix."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from mcp_image_gen_local.app import App
from mcp_image_gen_local.cli import doctor_clients, doctor_folders
from mcp_image_gen_local.domain.errors import ImageGenError, InvalidRequest, SettingsInvalid, unexpected
from mcp_image_gen_local.domain.finding import Finding, Level
from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.engine_kit.registry import find_engine
from mcp_image_gen_local.settings import Settings

logger = logging.getLogger(__name__)

Findings = Sequence[Finding]


async def diagnose(open_app: Callable[[], App], client: str | None) -> list[Finding]:
    """Return all findings, also about settings that cannot be read; `client` adds what that one gets."""
    async with _opened(open_app) as opened:
        if isinstance(opened, Finding):
            return [opened, *await _safely("clients", doctor_clients.examine)]
        findings = await examine(opened)
        return findings + (examine_client(client, opened.settings) if client is not None else [])


@contextlib.asynccontextmanager
async def _opened(open_app: Callable[[], App]) -> AsyncIterator[App | Finding]:
    """Yield the app, or why there is none; an engine's package may raise anything, also when it is closed."""
    try:
        app = open_app()
    except InvalidRequest:  # options that exclude each other
        raise
    except Exception as error:
        yield _failure("settings" if isinstance(error, SettingsInvalid) else "engine", error)
        return
    try:
        yield app
    finally:
        with contextlib.suppress(Exception):
            await app.aclose()


async def examine(app: App) -> list[Finding]:
    """Return findings about engine, models, folders, job journal and clients; raises nothing that belongs into one."""
    findings = await _safely("engine", lambda: _engine(app))
    if all(finding.ok for finding in findings):
        findings += await _safely("models", lambda: _models(app))
        if app.settings.model:
            findings += await _safely("model", lambda: _model(app, str(app.settings.model)))
    questions: dict[str, Callable[[], Awaitable[Findings]]] = {
        "folder": lambda: doctor_folders.examine_output(app),
        "inputs": lambda: doctor_folders.examine_inputs(app.settings),
        "journal": lambda: _journal(app),
        "clients": doctor_clients.examine,
    }
    for subject, question in questions.items():
        findings += await _safely(subject, question)
    return findings


async def _safely(subject: str, question: Callable[[], Awaitable[Findings]]) -> list[Finding]:
    try:
        return list(await question())
    except Exception as error:  # doctor is what one runs when something is wrong
        return [_failure(subject, error)]


def _failure(subject: str, error: Exception) -> Finding:
    if not isinstance(error, ImageGenError):
        logger.debug("doctor", exc_info=error)
        error = unexpected(error)
    return Finding(subject=subject, level=Level.FAIL, text=str(error))


def examine_client(name: str, settings: Settings) -> list[Finding]:
    """Return what a client of this name gets, and why: one finding for each choice."""
    from mcp_image_gen_local.server.clients import Client, delivery_of, find_profile, profiles  # a second's import

    found = find_profile(name)
    if found is None:
        known = ", ".join(profiles())
        text = f"no profile is named {clean(name, 60)!r}, so it counts as unknown; there are: {known}"
        return [Finding(subject="client", text=text), *examine_client("unknown", settings)]
    reasons = delivery_of(Client(name=found.names[0].strip("*")), settings).reasons
    return [Finding(subject="client", text=reason) for reason in reasons]


async def _engine(app: App) -> Findings:
    """Return whether the engine answers, and what the engine itself has to say of that."""
    failure: Exception | None = None
    try:
        found = Finding(subject="engine", text=await app.engine.check())
    except Exception as error:
        failure, found = error, _failure("engine", error)
    further = find_engine(app.settings.engine).diagnose
    return [found, *(await further(app.engine_settings, failure) if further else ())]


async def _models(app: App) -> Findings:
    catalog = await app.engine.models()
    found = _readiness(catalog)
    level = max(found.level, Level.WARN, key=list(Level).index) if catalog.problems else found.level
    return [replace(found, level=level, text=". ".join([found.text, *catalog.problems]))]


def _readiness(catalog: ModelCatalog) -> Finding:
    ready = [m.name for m in catalog.models if m.ready]
    if not catalog.models:
        return Finding(subject="models", level=Level.FAIL, text="the engine has no models")
    first = catalog.models[0]
    if first.ready:
        return Finding(subject="models", text=f"{first.name} is ready, and {len(ready) - 1} more")
    lack = f"{first.family} is not ready; get {'; '.join(first.missing)}" if first.missing else _unusable(first)
    if ready:
        return Finding(subject="models", text=f"{ready[0]} is ready ({lack})")
    return Finding(subject="models", level=Level.FAIL, text=f"nothing can generate: {lack}")


def _unusable(model: ModelInfo) -> str:
    return f"{model.name}: {model.unsupported or 'not ready'}"


async def _model(app: App, name: str) -> Findings:
    """Return whether calls that name no model can be served."""
    try:
        found = await app.engine.capabilities(name)
    except ImageGenError as error:
        text = f"IMAGE_GEN_MODEL={clean(name, 100)!r} cannot be used: {error}"
        return [Finding(subject="model", level=Level.FAIL, text=text)]
    return [Finding(subject="model", text=f"IMAGE_GEN_MODEL={clean(name, 100)!r} is {found.model}")]


async def _journal(app: App) -> Findings:
    await app.jobs.forget([])  # a write that changes nothing
    problem = app.jobs.take_warning()
    level = Level.FAIL if problem else Level.OK
    return [Finding(subject="journal", level=level, text=problem or str(app.jobs.path))]
