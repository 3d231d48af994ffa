"""Images and jobs as resources: parse the address, ask the runner or the journal, hand over bytes or JSON."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastmcp import FastMCP
from fastmcp.exceptions import ResourceError
from fastmcp.resources import ResourceContent, ResourceResult

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.errors import ImageGenError, ImageGone, InvalidRequest, JournalUnusable
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job
from mcp_image_gen_local.domain.text import MAX_NAME, clean
from mcp_image_gen_local.imaging import ImageUnreadable, read_header
from mcp_image_gen_local.server import answers
from mcp_image_gen_local.server.errors import tool_error
from mcp_image_gen_local.storage.addresses import unwrapped
from mcp_image_gen_local.storage.files import open_regular, read_up_to

JSON = "application/json"
RECENT_JOBS = 20
MAX_IMAGE_BYTES = 2**29  #: of a file that is served; far more than any engine's image has
FETCH_SECONDS = 5.0  #: for an image that lies finished at the engine to be fetched and saved


def register_resources(server: FastMCP[Any], app: App) -> None:
    """Give the server its resources. Descriptions stand here, not in docstrings: parsing those slows the start."""

    @server.resource(
        "image://{prompt_id}/{index}",
        name="image",
        title="Image",
        description="An image of a finished job at full size, as it lies on disk; index counts from 0.",
        mime_type="image/png",
    )
    async def image(prompt_id: str, index: str) -> ResourceResult:
        with resource_errors():
            saved = _image(await _finished(app, unwrapped(prompt_id)), unwrapped(index))
            data, mime_type = await asyncio.to_thread(read_file, saved)
        return ResourceResult([ResourceContent(data, mime_type=mime_type)])

    @server.resource(
        "job://{prompt_id}",
        name="job",
        title="Job",
        description="How a job stands now, what was asked for and what came of it.",
        mime_type=JSON,
    )
    async def job(prompt_id: str) -> str:
        with resource_errors():
            return _json(answers.full_payload(await app.runner.find(unwrapped(prompt_id))))

    @server.resource(
        "jobs://recent",
        name="recent_jobs",
        title="Recent jobs",
        description=f"The newest {RECENT_JOBS} jobs of all servers of this user, and where their images lie.",
        mime_type=JSON,
    )
    async def recent_jobs() -> str:
        with resource_errors():
            jobs = await app.jobs.recent(RECENT_JOBS)
            if app.jobs.problem:
                raise JournalUnusable(app.jobs.problem)
        return _json([answers.short_payload(job) for job in jobs])


@contextmanager
def resource_errors() -> Iterator[None]:
    """Turn every ImageGenError into a ResourceError: the only kind whose text reaches all clients."""
    try:
        yield
    except ImageGenError as error:
        # FastMCP adds a traceback to the log
        raise ResourceError(str(tool_error(error)), log_level=logging.DEBUG) from error


async def _finished(app: App, prompt_id: str) -> Job:
    """Return the job with its images.

    Raises:
        PromptUnknown, EngineUnreachable: as the runner says.
        InvalidRequest: it has not ended.
        ImageGenError: it ended without an image, and this is why.
    """
    job = await app.runner.find(prompt_id)
    if not job.status.is_final:
        job = [job async for job in app.runner.watch(prompt_id, seconds=FETCH_SECONDS)][-1]
    if job.error:
        raise job.error.anew()
    if not job.status.is_final:
        raise InvalidRequest(
            f"The job {prompt_id} is {job.status}: it has no image yet.",
            hint=f'Call get_generation_status(prompt_id="{prompt_id}") to wait for it.',
        )
    return job


def _image(job: Job, index: str) -> SavedImage:
    """Return the job's image of that number.

    Raises:
        InvalidRequest: there is none of that number.
    """
    images = {str(image.index): image for image in job.images}
    if index not in images:
        raise InvalidRequest(
            f"The job {job.job_id} has no image '{clean(index, 20)}'.", hint=f"It has: {', '.join(images)}."
        )
    return images[index]


def read_file(image: SavedImage) -> tuple[bytes, str]:
    """Return the file and its MIME type.

    Raises:
        ImageGone: it is not there, may not be read, or is no image: the journal may name any file.
    """
    try:
        with open_regular(image.path) as file:
            data = read_up_to(file, MAX_IMAGE_BYTES) or b""
        kind = read_header(data, also_stored=True).format
    except (OSError, ImageUnreadable) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageGone(
            f"The image {clean(image.path, MAX_NAME)} cannot be read ({reason}).",
            hint="Call get_generation_status to have it fetched again, if the engine still has it.",
        ) from error
    return data, f"image/{kind.lower()}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
