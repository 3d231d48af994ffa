"""What a tool says: one line of JSON for programs, a sentence or two for readers, then images and links.

Never structured content beside an image: several clients then drop the image.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from fastmcp.tools import ToolResult
from fastmcp.utilities.types import Image
from mcp.types import Annotations, ContentBlock, ResourceLink, TextContent

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.server.catalog import summary
from mcp_image_gen_local.server.clients import Delivery
from mcp_image_gen_local.storage.images import OutputFolder
from mcp_image_gen_local.storage.previews import TEXT_BYTES, NoPreview, Preview, render

MAX_PROMPT_SHOWN = 200  #: characters of each prompt in a list of jobs


async def render_job(job: Job, delivery: Delivery) -> ToolResult:
    """Return the answer for a job as it stands, with its images once it is done."""
    if job.status is not JobStatus.DONE:
        answer = _text(_unfinished(job), _next_step(job))
        return answer if job.status.is_final else _with_preview(answer, job, delivery)
    previews = await asyncio.to_thread(
        render, job.images, formats=delivery.formats, max_bytes=delivery.max_bytes, max_side=delivery.max_side
    )
    blocks: list[ContentBlock] = [
        TextContent(type="text", text=_lines(_finished(job), _message(job, previews, delivery)))
    ]
    blocks += [_inline(preview) for preview in previews if isinstance(preview, Preview)]
    if delivery.link:
        blocks += [_link(image) for image in job.images]
    return ToolResult(content=blocks)


async def render_cancel(job: Job, delivery: Delivery) -> ToolResult:
    """Return the answer to a cancel: how the job stands now, which may be done, with its image."""
    if job.status.is_final:
        return await render_job(job, delivery)
    story = job.cancel_error or ("Cancellation requested. The engine will stop after the current step or model load.")
    see = f'Call get_generation_status(prompt_id="{job.job_id}") to see it end.'
    return _text(_unfinished(job), f"{story} {see}")


def _finished(job: Job) -> dict[str, Any]:
    first, *others = job.images
    facts = {
        "status": job.status,
        **first.to_dict(),
        "model": job.plan.model if job.plan else None,
        "engine": job.engine,
        "seconds": round(job.seconds, 2),
        "prompt_id": job.job_id,
    }
    return {**facts, "images": [image.to_dict() for image in job.images]} if others else facts


def _unfinished(job: Job) -> dict[str, Any]:
    facts: dict[str, Any] = {"status": job.status, "prompt_id": job.job_id}
    if job.plan:
        facts["seed"] = job.plan.seed
    if job.progress and not job.status.is_final:
        p = job.progress
        facts |= {"progress": p.describe(), "step": p.step, "steps": p.steps, "queue_position": p.queue_position}
    if job.error:
        facts["error"] = job.error.to_dict()
    facts["seconds"] = round(job.seconds, 2)
    return {name: value for name, value in facts.items() if value is not None}


def _next_step(job: Job) -> str:
    if job.error:
        return str(job.error)
    return (
        f"Not finished after {job.seconds:.0f} s; the job continues. "
        f'Call get_generation_status(prompt_id="{job.job_id}") to wait for the image.'
    )


def _message(job: Job, previews: list[Preview | NoPreview], delivery: Delivery) -> str:
    """Return the sentences for the reader of a finished job."""
    many = len(job.images) > 1
    sentences = [f"Saved {len(job.images)} images." if many else f"Saved to {job.images[0].path}."]
    if job.images[0].seed is not None:
        seeds = ", ".join(str(image.seed) for image in job.images if image.seed is not None)
        sentences.append(f"Seeds {seeds} generate each again alone." if many else f"Seed {seeds} generates it again.")
    sentences += job.notes
    if any(image.uniform for image in job.images):
        sentences.append(
            "Warning: the image has one colour only. Often the model or VAE overflowed (NaN): try another VAE file, "
            "start ComfyUI with --fp32-vae, or generate with another seed."
        )
    return " ".join([*sentences, *_inline_message(job, previews, delivery)])


def _inline_message(job: Job, previews: list[Preview | NoPreview], delivery: Delivery) -> Iterator[str]:
    """Yield what to know of the images inside the answer: why one is missing, and that one is scaled."""
    if not delivery.formats:
        if reason := delivery.no_image_reason:
            yield f"No image is shown here, as {reason}: open the file to see it."
        return
    for reason in dict.fromkeys(str(preview) for preview in previews if isinstance(preview, NoPreview)):
        which = "An image is" if len(previews) > 1 else "The image is"
        yield f"{which} not shown here: {reason}. Open the file to see it."
    pairs = zip(previews, job.images, strict=True)
    shown = ((p, i) for p, i in pairs if isinstance(p, Preview))
    if scaled := next((p for p, i in shown if (p.width, p.height) != (i.width, i.height)), None):
        yield f"The inline image is scaled to {scaled.width}x{scaled.height}; the file is full size."


def _with_preview(answer: ToolResult, job: Job, delivery: Delivery) -> ToolResult:
    """Add the image as far as it is generated, where the engine shows it."""
    preview = job.progress.preview if job.progress else None
    fits = preview and (len(preview) + 2) // 3 * 4 + TEXT_BYTES <= delivery.max_bytes
    if preview and fits and delivery.formats:
        kind = "png" if preview.startswith(b"\x89PNG") else "jpeg"
        answer.content.append(Image(data=preview, format=kind).to_image_content())
    return answer


def _inline(preview: Preview) -> ContentBlock:
    image = Image(data=preview.data, format=preview.mime_type.removeprefix("image/"))
    return image.to_image_content(annotations=Annotations(audience=["user", "assistant"]))


def _link(image: SavedImage) -> ContentBlock:
    return ResourceLink(
        type="resource_link",
        uri=image.path.as_uri(),
        name=image.path.name,
        mime_type=image.mime_type,
        size=image.size_bytes,
        annotations=Annotations(audience=["user"]),  # for the model it would be the same image twice
    )


def render_folder(folder: OutputFolder) -> ToolResult:
    """Return where images go."""
    facts = {
        "path": str(folder.path),
        "exists": folder.exists,
        "writable": folder.writable,
        "images": folder.images,
        "bytes": folder.size_bytes,
    }
    if not folder.writable:
        story = "It cannot be written to: make it writable, or set IMAGE_OUTPUT_DIR to another folder."
    elif not folder.exists:
        story = "It does not exist yet; the first image makes it."
    else:
        story = f"It holds {folder.summary}."
    return _text(facts, story)


def render_catalog(catalog: ModelCatalog, engine: Engine) -> ToolResult:
    """Return the models in a few kilobytes, however many there are."""
    return _text(*summary(catalog, engine.name))


def _text(facts: dict[str, Any], story: str) -> ToolResult:
    return ToolResult(content=[TextContent(type="text", text=_lines(facts, story))])


def _lines(facts: dict[str, Any], story: str) -> str:
    return f"{json.dumps(facts, ensure_ascii=False)}\n{story}"


def full_payload(job: Job) -> dict[str, Any]:
    """Return what get_generation_status says of the job in its first line, and what was asked for, when, and notes."""
    facts = _finished(job) if job.status is JobStatus.DONE else _unfinished(job)
    return {
        **facts,
        "request": job.request,
        "created": job.created_at.isoformat(timespec="seconds"),
        "notes": job.notes,
    }


def short_payload(job: Job) -> dict[str, Any]:
    """Return what a list of jobs tells of one; None for what is not known, or not yet."""
    return {
        "prompt_id": job.job_id,
        "status": job.status,
        "created": job.created_at.isoformat(timespec="seconds"),
        "prompt": str((job.request or {}).get("prompt", ""))[:MAX_PROMPT_SHOWN] or None,
        "seed": job.plan.seed if job.plan else None,
        "model": job.plan.model if job.plan else None,
        "images": [{"path": str(i.path), "uri": f"image://{job.job_id}/{i.index}"} for i in job.images],
        "error": job.error.code if job.error else None,
    }
