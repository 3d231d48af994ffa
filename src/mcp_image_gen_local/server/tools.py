"""The tools: parse the call, run the use case, phrase the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastmcp import Context
from fastmcp.tools import FunctionTool, ToolResult
from mcp.types import ToolAnnotations
from pydantic import Field

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.errors import PromptUnknown
from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.server import answers
from mcp_image_gen_local.server.arguments import with_request_arguments
from mcp_image_gen_local.server.cancellation import Cancellations, caller_of
from mcp_image_gen_local.server.deliveries import Deliveries
from mcp_image_gen_local.server.errors import tool_error, tool_errors
from mcp_image_gen_local.server.progress import ProgressReporter

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
STOPS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
GENERATES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)


def tools_of(app: App, cancellations: Cancellations, deliveries: Deliveries) -> list[FunctionTool]:
    """Return the tools. Descriptions stand here, not in docstrings: parsing those slows the start."""

    async def generate_image(ctx: Context, **arguments: Any) -> ToolResult:
        with tool_errors():
            delivery = deliveries.to(ctx)
            request = await app.request_of(arguments, app.inputs.refer)
            begun = time.monotonic()
            async with app.answering(
                request,
                caller=caller_of(ctx),
                wait=delivery.wait_seconds,
                on_progress=ProgressReporter(ctx).report,
                ending=lambda: cancellations.ending_of(
                    ctx, elapsed=time.monotonic() - begun, call_limit=delivery.profile.known_limit
                ),
            ) as job:
                if job.error:
                    raise tool_error(job.error, job.job_id)
                return await answers.render_job(job, delivery)

    async def get_generation_status(
        ctx: Context, prompt_id: Annotated[str, Field(description="From generate_image")]
    ) -> ToolResult:
        with tool_errors():
            delivery = deliveries.to(ctx)
            job = await _known(app, prompt_id, app.runner.find)
            if not job.status.is_final:
                job = await _watch(ctx, app, prompt_id, delivery.wait_seconds)
            answer = await answers.render_job(job, delivery)
            await app.calls.handed_over(job)
            return answer

    async def cancel_generation(
        ctx: Context, prompt_id: Annotated[str, Field(description="From generate_image")]
    ) -> ToolResult:
        with tool_errors():
            job = await _known(app, prompt_id, app.runner.cancel)
            return await answers.render_cancel(job, deliveries.to(ctx))

    async def list_available_models() -> ToolResult:
        with tool_errors():
            return answers.render_catalog(await app.engine.models(), app.engine)

    async def get_output_directory() -> ToolResult:
        with tool_errors():
            return answers.render_folder(await asyncio.to_thread(app.store.describe))

    return [
        FunctionTool.from_function(
            with_request_arguments(generate_image, GenerationRequest),
            description="Generate an image from a text prompt on the user's own hardware. Returns the image, the path "
            "of the file and the seed; or, if it takes long, status 'running' with a prompt_id for "
            "get_generation_status.",
            annotations=GENERATES,
        ),
        FunctionTool.from_function(
            get_generation_status,
            description="Wait for a generation to finish and return its image, or its current status: queued, running, "
            "failed, cancelled, lost or unknown.",
            annotations=READS,
        ),
        FunctionTool.from_function(
            cancel_generation,
            description="Cancel a queued or running generation. Other jobs are not affected.",
            annotations=STOPS,
        ),
        FunctionTool.from_function(
            list_available_models,
            description="List available models with readiness and default steps, cfg and size. Call only to choose a "
            "model.",
            annotations=READS,
        ),
        FunctionTool.from_function(
            get_output_directory,
            description="Return the output directory, whether it is writable, and how many images and bytes it "
            "contains.",
            annotations=READS,
        ),
    ]


async def _watch(ctx: Context, app: App, prompt_id: str, seconds: float) -> Job:
    """Report progress until the job has ended or the wait is over; return it as it stands then."""
    reporter = ProgressReporter(ctx)
    async for job in app.runner.watch(prompt_id, seconds=seconds):
        await reporter.report(job)
    return job


async def _known(app: App, prompt_id: str, ask: Callable[[str], Awaitable[Job]]) -> Job:
    """Return what `ask` returns; an id that nothing knows has status "unknown"."""
    try:
        return await ask(prompt_id)
    except PromptUnknown as error:
        return Job(job_id=prompt_id, engine=app.engine.name, status=JobStatus.UNKNOWN, error=error)
