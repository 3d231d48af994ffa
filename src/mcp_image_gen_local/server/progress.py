"""Progress notifications in percent, whose numbers always rise."""

from fastmcp import Context

from mcp_image_gen_local.domain.job import Job, JobStatus

TOTAL = 100.0
RUNNING, FIRST_STEP, LAST_STEP = 2.0, 10.0, 95.0  #: percent when the engine begins, samples, and has sampled
TICK = 0.01  #: so that a notification without news still rises, as the protocol demands


class ProgressReporter:
    """Tells one call's client how its job goes."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._value = 0.0
        self._told: tuple[str, int] | None = None

    async def report(self, job: Job) -> None:
        """Notify the client, if it wants to know; the same phrase is repeated at most once a second."""
        if job.status.is_final or not self._is_wanted():
            return
        phrase = job.progress.describe() if job.progress else "sending the job"
        told = (phrase, int(job.seconds))
        if told == self._told:
            return
        self._told = told
        percent = float(int(percent_of(job)))
        self._value = percent if percent > self._value else round(self._value + TICK, 2)
        await self._ctx.report_progress(min(self._value, TOTAL), TOTAL, f"{phrase} ({job.seconds:.0f} s)")

    def _is_wanted(self) -> bool:
        """Return True for a call that came with a progress token, which may be 0."""
        request = self._ctx.request_context
        return request is not None and (request.meta or {}).get("progressToken") is not None


def percent_of(job: Job) -> float:
    """Return how far the job is, 1..95: sampling steps count, and what comes before the first one counts little."""
    progress = job.progress
    if progress and progress.step is not None and progress.steps:
        return FIRST_STEP + (LAST_STEP - FIRST_STEP) * min(1.0, progress.step / progress.steps)
    return RUNNING if job.status is JobStatus.RUNNING else 1.0
