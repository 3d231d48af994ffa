"""A job that its engine has lost, most often by a restart, is queued again: once, and with the same seed."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from mcp_image_gen_local.domain.errors import GenerationLost, ImageGenError
from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.generation import Event, Noted, Planned, Requeued, generate
from mcp_image_gen_local.jobs import outcomes
from mcp_image_gen_local.jobs.active_job import ActiveJob, Events
from mcp_image_gen_local.jobs.context import JobContext


def may_requeue(job: Job) -> bool:
    """Return True for a job that the engine may get again, should it have lost it."""
    if job.is_foreign or job.cancel_requested or job.requeues:
        return False
    if job.status.is_final and not (job.status is JobStatus.FAILED and isinstance(job.error, outcomes.RETRYABLE)):
        return False  # its caller was told how it ended
    return request_of(job) is not None


def request_of(job: Job) -> GenerationRequest | None:
    """Return the job's request with the seed that was chosen for it; None if another version stored the request."""
    try:
        request = GenerationRequest.from_dict(job.request or {})
    except (TypeError, ImageGenError):
        return None
    return replace(request, seed=job.plan.seed) if job.plan and job.plan.seed is not None else request


def with_second_run(context: JobContext, events: Events, *, allowed: bool = True) -> Events:
    """Return `events`, followed by those of a second run if the engine loses the job.

    A job that is lost for good ends with the images that it has, or with GenerationLost.
    """

    async def both(active: ActiveJob) -> AsyncIterator[Event]:
        try:
            async for event in events(active):
                yield event
            return
        except GenerationLost as error:
            loss = error
        if allowed and not loss.was_removed and may_requeue(active.job):
            try:
                async for event in second_run(context, active):
                    yield event
                return
            except GenerationLost as error:
                loss = error
        if active.job.requeues:
            loss = outcomes.lost_again(loss, active.job)
        if not active.job.images:
            raise loss
        yield Noted(str(loss))

    return both


async def second_run(context: JobContext, active: ActiveJob) -> AsyncIterator[Event]:
    """Send the job once more, under its old id, and save the images that are not yet on disk."""
    request = request_of(active.job)
    if request is None:
        raise outcomes.loss(active.job, context.engine)
    sentence = outcomes.requeued(active.job, context.title)
    async for event in generate(context.engine, context.inputs, request, active.target):
        if isinstance(event, Planned):
            yield Requeued(sentence)  # stored with the plan, before anything is sent
        yield event
    with contextlib.suppress(ImageGenError):  # the first one may only have been late: it must not run as well
        await context.engine.cancel(context.ticket_of(active.job))
