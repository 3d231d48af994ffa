"""Progress notifications whose numbers always rise."""

from fastmcp import Context

from mcp_image_gen_local.domain.job import Job

WAITING_TICK = 0.001  #: so that a notification without a new step still rises, as the protocol demands


class ProgressReporter:
    """Tells one call's client how its job goes: whole numbers are sampling steps."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._value = 0.0
        self._told: tuple[str, int] | None = None

    async def report(self, job: Job) -> None:
        """Notify the client, if it wants to know; the same phrase is repeated at most once a second."""
        if job.status.is_final or not self._is_wanted():
            return
        progress = job.progress
        phrase = progress.describe() if progress else "sending the job"
        told = (phrase, int(job.seconds))
        if told == self._told:
            return
        self._told = told
        step = progress.step if progress else None
        self._value = float(step) if step and step > self._value else round(self._value + WAITING_TICK, 3)
        total = float(progress.steps) if progress and progress.steps else None
        await self._ctx.report_progress(self._value, total, f"{phrase} ({job.seconds:.0f} s)")

    def _is_wanted(self) -> bool:
        """Return True for a call that came with a progress token."""
        request = self._ctx.request_context
        return request is not None and bool((request.meta or {}).get("progressToken"))
