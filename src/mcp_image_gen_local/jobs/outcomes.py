"""How jobs end: what a failure means for them, and when nothing more can be done."""

import re
from pathlib import Path

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineRefused,
    EngineUnreachable,
    GenerationCancelled,
    GenerationLost,
    ImageGenError,
    ImageGone,
    OutputNotWritable,
    PromptUnknown,
    UnexpectedError,
)
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus

#: The engine may have the finished image: a status call tries again to fetch and save it.
RETRYABLE = (EngineUnreachable, EngineRefused, EngineAnswerUnusable, OutputNotWritable, UnexpectedError)
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  #: what any engine could know; all else is never asked for


def on_disk(job: Job) -> tuple[SavedImage, ...]:
    """Return the job's images that are still where they were saved."""
    return tuple(image for image in job.images if Path(image.path).is_file())


def is_settled(job: Job) -> bool:
    """Return True when asking the engine can change nothing: the job has ended and its images are on disk."""
    if not job.status.is_final:
        return False
    if job.plan is None and job.status is not JobStatus.DONE:
        return True  # nothing was sent
    if isinstance(job.error, RETRYABLE):
        return False
    if job.status is JobStatus.LOST and not job.images:
        return False  # it may only have been slow to arrive at the engine
    return job.status is not JobStatus.DONE or len(on_disk(job)) == len(job.images)


def outcome(error: ImageGenError, job: Job) -> tuple[JobStatus, ImageGenError]:
    """Return status and error of a job that `error` ended."""
    if job.cancel_requested and isinstance(error, GenerationCancelled | GenerationLost):
        return JobStatus.CANCELLED, cancelled(job)
    if job.cancel_requested and isinstance(error, RETRYABLE):
        return JobStatus.CANCELLED, cancelled(job, cancel_failed(error))
    if isinstance(error, GenerationCancelled):
        return JobStatus.CANCELLED, error.anew()
    if isinstance(error, GenerationLost):
        return JobStatus.LOST, error.anew()
    if isinstance(error, RETRYABLE) and job.plan:
        return JobStatus.FAILED, with_hint(
            error, f'(Later, get_generation_status(prompt_id="{job.job_id}") fetches it.)'
        )
    return JobStatus.FAILED, error.anew()


def cancelled(job: Job, hint: str = "") -> GenerationCancelled:
    """Return the error of a cancelled job."""
    return GenerationCancelled(f"The job {job.job_id} was cancelled.", hint=hint)


def cancel_failed(reason: object) -> str:
    """Return the sentence for a cancel request that did not reach the engine."""
    return f"The cancel request failed: {reason}"


def with_hint(error: ImageGenError, more: str) -> ImageGenError:
    """Return a copy of the error that also says `more`: several jobs may have met the same one."""
    copy = error.anew()
    copy.hint = f"{error.hint} {more}".strip()
    return copy


def incomplete(job: Job) -> str:
    """Return the sentence for a batch that is not complete; empty if it is."""
    wanted, have = int((job.request or {}).get("batch_size", 1)), len(job.images)
    return f"Only {have} of {wanted} images are available." if 0 < have < wanted else ""


def loss(job: Job, engine: Engine) -> ImageGenError:
    """Return the error of a job that the engine no longer has."""
    seed = job.plan.seed if job.plan else None
    again = "Call generate_image again" + (f" (seed={seed} generates the same image)." if seed is not None else ".")
    if job.images:
        gone = ", ".join(str(image.path) for image in job.images)
        where = f"{engine.name} ({engine.url})"
        return ImageGone(f"The image is no longer at {gone}, and {where} does not have it either.", hint=again)
    reason = "it was restarted, or its queue was cleared"
    return GenerationLost(
        f"The engine {engine.name} ({engine.url}) no longer knows the job {job.job_id}: {reason}.", hint=again
    )


def lost_again(error: GenerationLost, job: Job) -> GenerationLost:
    """Return the error of a job that the engine has lost twice."""
    seed = job.plan.seed if job.plan else None
    again = f" (seed={seed} generates the same image)" if seed is not None else ""
    return GenerationLost(
        error.message, hint=f"It had been queued again before, and was lost again. Call generate_image again{again}."
    )


def requeued(job: Job, title: str) -> str:
    """Return the sentence for a job that the engine `title` gets again."""
    # Without a ticket nobody knows whether it had reached the engine.
    reason = f"{title} lost the job when it was restarted" if job.ticket else f"{title} did not have the job"
    same = " with the same seed" if (job.plan and job.plan.seed is not None) or (job.request or {}).get("seed") else ""
    return f"{reason[:1].upper()}{reason[1:]}; it was queued again{same}."


def wrong_engine(job: Job, engine: Engine) -> PromptUnknown:
    """Return the error for a job of an engine that this server does not use."""
    return PromptUnknown(
        f"The job {job.job_id} was sent to the engine {job.engine} at {job.url}; this server uses {engine.name} at "
        f"{engine.url}.",
        hint=f"Ask a server that is configured for {job.engine} at {job.url}.",
    )


def unknown(job_id: str, engine: Engine) -> PromptUnknown:
    """Return the error for an id that nothing knows."""
    return PromptUnknown(
        f"Unknown prompt_id {job_id[:64]!r}: not found in this server's history or at {engine.url}.",
        hint="Check the prompt_id. The answer of generate_image holds it.",
    )
