"""How jobs end: what a failure means for them, and when nothing more can be done."""

import re

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
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan
from mcp_image_gen_local.jobs.entry import Entry, on_disk

#: The image may lie finished at the engine: asking for the status tries again to fetch and save it.
WORTH_ANOTHER_TRY = (EngineUnreachable, EngineRefused, EngineAnswerUnusable, OutputNotWritable, UnexpectedError)
PROMPT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  #: what any engine could know; all else is never asked for


def is_settled(job: Job) -> bool:
    """Return True when asking the engine can change nothing: the job has ended and its images are on disk."""
    if not job.status.is_final or isinstance(job.error, WORTH_ANOTHER_TRY):
        return False
    if job.status is JobStatus.LOST and job.plan and not job.images:
        return False  # it may only have been slow to arrive at the engine
    return job.status is not JobStatus.DONE or len(on_disk(job)) == len(job.images)


def of_error(error: ImageGenError, entry: Entry, elsewhere: Job | None) -> tuple[JobStatus, ImageGenError]:
    """Return the status and the error of a job that `error` ended.

    `elsewhere` is the job as the journal has it: another process may have cancelled it.
    """
    cancelled = entry.withdrawal is not None or (elsewhere and elsewhere.status is JobStatus.CANCELLED)
    if isinstance(error, GenerationCancelled | GenerationLost) and cancelled:
        return JobStatus.CANCELLED, GenerationCancelled(f"The job {entry.prompt_id} was cancelled.")
    if isinstance(error, GenerationCancelled):
        return JobStatus.CANCELLED, error
    if isinstance(error, GenerationLost):
        return JobStatus.LOST, error
    if isinstance(error, WORTH_ANOTHER_TRY) and cancelled:
        return JobStatus.CANCELLED, GenerationCancelled(
            f"The job {entry.prompt_id} was cancelled.", hint=not_told(error)
        )
    if isinstance(error, WORTH_ANOTHER_TRY) and entry.job.plan:
        again = f'(Later, get_generation_status(prompt_id="{entry.prompt_id}") fetches it.)'
        return JobStatus.FAILED, with_hint(error, again)  # the error may be one that several jobs have met
    return JobStatus.FAILED, error


def not_told(failure: ImageGenError) -> str:
    """Return the sentence for a cancel that did not get through."""
    return f"The engine could not be told: {failure}"


def with_hint(error: ImageGenError, more: str) -> ImageGenError:
    """Return a copy of the error that also says `more`."""
    copy = error.anew()
    copy.hint = f"{error.hint} {more}".strip()
    return copy


def note_what_is_missing(entry: Entry) -> None:
    """Tell the reader of a batch that is not whole."""
    wanted, have = int((entry.job.asked or {}).get("batch_size", 1)), len(entry.job.images)
    if 0 < have < wanted:
        entry.note(f"Only {have} of {wanted} images could be had.")


def batch_size(plan: Plan) -> int:
    """Return how many images a plan makes, as far as it tells."""
    value = plan.settings.get("batch_size")
    return value if isinstance(value, int) else 1


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
        f"The engine {engine.name} ({engine.url}) no longer knows the job {job.prompt_id}: {reason}.", hint=again
    )


def elsewhere(job: Job, engine: Engine) -> PromptUnknown:
    """Return the error for a job of an engine that this server does not use."""
    return PromptUnknown(
        f"The job {job.prompt_id} was sent to the engine {job.engine} at {job.url}; this server uses {engine.name} at "
        f"{engine.url}.",
        hint=f"Ask a server that is set to {job.engine} at {job.url}.",
    )
