"""The tools: parse the call, run the use case, phrase the answer."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

import anyio
from fastmcp import Context, FastMCP
from fastmcp.tools import ToolResult
from mcp.types import ToolAnnotations
from pydantic import Field

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.errors import PromptUnknown
from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.jobs.runner import CANCEL_SECONDS
from mcp_image_gen_local.server import answers
from mcp_image_gen_local.server.cancellation import Cancellations
from mcp_image_gen_local.server.errors import tool_errors
from mcp_image_gen_local.server.progress import ProgressReporter

WITHDRAW_SECONDS = 15.0  #: bound on taking a job back when its call is cancelled

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
STOPS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
GENERATES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)


def register_tools(server: FastMCP[Any], app: App, cancellations: Cancellations) -> None:
    """Give the server its tools. Descriptions stand here, not in docstrings: parsing those slows the start."""

    @server.tool(
        description="Generate an image from a text prompt on the user's own hardware. Returns the image, the path of "
        "the file and the seed; or, if it takes long, status 'running' with a prompt_id for get_generation_status.",
        annotations=GENERATES,
    )
    async def generate_image(  # the field's words, all but one optional
        ctx: Context,
        prompt: Annotated[str, Field(description="What to generate: subject, setting, style, light")],
        negative_prompt: Annotated[str, Field(description="What to avoid; no effect on models with cfg 1")] = "",
        width: Annotated[int | None, Field(description="Pixels, 16-4096; default by model, 1024 for Flux")] = None,
        height: Annotated[int | None, Field(description="Pixels, 16-4096")] = None,
        steps: Annotated[int | None, Field(description="Sampling steps; default by model, 4 for Flux schnell")] = None,
        seed: Annotated[int | None, Field(description="Same seed and settings, same image; default random")] = None,
        cfg: Annotated[float | None, Field(description="Guidance scale; default by model")] = None,
        model: Annotated[str | None, Field(description="Name from list_available_models")] = None,
        batch_size: Annotated[int, Field(description="Images to generate, 1-16")] = 1,
        sampler: Annotated[str | None, Field(description="e.g. euler")] = None,
        scheduler: Annotated[str | None, Field(description="e.g. simple")] = None,
        init_image: Annotated[str | None, Field(description="Path of an image to begin with")] = None,
        denoise: Annotated[float | None, Field(description="0 keeps init_image, 1 ignores it")] = None,
    ) -> ToolResult:
        with tool_errors():
            request = GenerationRequest(
                prompt=prompt,
                negative_prompt=negative_prompt,
                width=width,
                height=height,
                steps=steps,
                seed=seed,
                cfg=cfg,
                model=model or None,
                batch_size=batch_size,
                sampler=sampler or None,
                scheduler=scheduler or None,
                init_image=await asyncio.to_thread(app.inputs.read, init_image) if init_image else None,
                denoise=denoise,
            )
            prompt_id = app.runner.start(request)
            try:
                job = await _watch(ctx, app, prompt_id)
            except asyncio.CancelledError:
                if app.interrupted or await cancellations.by_client(ctx):
                    await _withdraw(app, prompt_id)
                raise  # a client that is gone leaves its job running; the journal holds what comes of it
            if job.error:
                raise job.error.anew()
        return await answers.of_job(job, app.settings)

    @server.tool(
        description="Wait for an image that generate_image left running; returns it when it is done, else where it "
        "stands: queued, running, failed, cancelled, lost or unknown.",
        annotations=READS,
    )
    async def get_generation_status(
        ctx: Context, prompt_id: Annotated[str, Field(description="From generate_image")]
    ) -> ToolResult:
        with tool_errors():
            job = await _known(app, prompt_id, app.runner.find)
            if not job.status.is_final:
                job = await _watch(ctx, app, prompt_id)
            return await answers.of_job(job, app.settings)

    @server.tool(
        description="Stop a job that generate_image left queued or running, and no other job.",
        annotations=STOPS,
    )
    async def cancel_generation(prompt_id: Annotated[str, Field(description="From generate_image")]) -> ToolResult:
        with tool_errors():
            job = await _known(app, prompt_id, partial(app.runner.cancel, seconds=CANCEL_SECONDS))
            return await answers.of_cancel(job, app.settings)

    @server.tool(
        description="List the models the image engine has, which are ready to generate, and their default steps, cfg "
        "and size. Only needed to choose a model or when one is missing.",
        annotations=READS,
    )
    async def list_available_models() -> ToolResult:
        with tool_errors():
            return answers.of_catalog(await app.engine.models(), app.engine)

    @server.tool(
        description="Tell where finished images are saved, whether that folder is writable and how much it holds.",
        annotations=READS,
    )
    async def get_output_directory() -> ToolResult:
        return answers.of_folder(await asyncio.to_thread(app.store.describe))


async def _watch(ctx: Context, app: App, prompt_id: str) -> Job:
    """Report progress until the job has ended or the wait is over; return it as it stands then."""
    reporter = ProgressReporter(ctx)
    async for job in app.runner.watch(prompt_id, seconds=app.settings.wait_seconds):
        await reporter.report(job)
    return job


async def _known(app: App, prompt_id: str, ask: Callable[[str], Awaitable[Job]]) -> Job:
    """Return what `ask` says of the job; one that nobody knows has status "unknown"."""
    try:
        return await ask(prompt_id)
    except PromptUnknown as error:
        return Job(prompt_id=prompt_id, engine=app.engine.name, status=JobStatus.UNKNOWN, error=error)


async def _withdraw(app: App, prompt_id: str) -> None:
    """Take the job back, whatever else is cancelled meanwhile: the GPU must not finish what nobody awaits."""
    with anyio.move_on_after(WITHDRAW_SECONDS, shield=True):
        await app.runner.cancel(prompt_id)
