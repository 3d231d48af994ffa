"""`mcp-image-gen jobs`: what was drawn, and making room."""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mcp_image_gen.app import App
from mcp_image_gen.cli.show import escape, talk
from mcp_image_gen.domain.errors import InvalidRequest, JournalUnusable
from mcp_image_gen.domain.job import Job, JobStatus
from mcp_image_gen.storage.housekeeping import DAY, Leftover, Swept, leftovers, sweep

RUNNING = (JobStatus.QUEUED, JobStatus.RUNNING)
FAILED = (JobStatus.FAILED, JobStatus.LOST, JobStatus.CANCELLED)
ALL = 1_000_000  #: more than the journal keeps


async def list_jobs(app: App, *, running: bool, failed: bool, limit: int, as_json: bool) -> int:
    """Print the newest jobs of the journal; return the exit code. No engine is asked.

    Raises:
        InvalidRequest: both kinds are asked for, or no number of jobs.
        JournalUnusable: the journal cannot be read.
    """
    if running and failed:
        raise InvalidRequest("--running and --failed exclude each other.", hint="Give one of them, or neither.")
    if limit < 1:
        raise InvalidRequest(f"--limit {limit} is no number of jobs.", hint="Give 1 or more.")
    jobs = await app.journal.recent(limit, RUNNING if running else FAILED if failed else ())
    if app.journal.problem:
        raise JournalUnusable(app.journal.problem)
    if as_json:
        print(json.dumps([_facts(job) for job in jobs], ensure_ascii=False))
    elif jobs:
        _print_table([("PROMPT_ID", "STATUS", "STARTED", "SECONDS", "SEED", "MODEL", "PICTURE"), *map(_row, jobs)])
    else:
        talk.print(f"No jobs in {escape(str(app.journal.path))}.")
    return 0


def _row(job: Job) -> tuple[str, ...]:
    paths = [str(image.path) for image in job.images]
    more = f" (+{len(paths) - 1})" if len(paths) > 1 else ""
    result = f"{paths[0]}{more}" if paths else job.error.code if job.error else "-"
    return (
        job.prompt_id,
        job.status,
        f"{_begun(job):%Y-%m-%d %H:%M:%S}",
        f"{job.seconds:.1f}",
        str(job.plan.seed) if job.plan and job.plan.seed is not None else "-",
        job.plan.model if job.plan else "-",
        result,
    )


def _facts(job: Job) -> dict[str, Any]:
    return {
        "prompt_id": job.prompt_id,
        "status": job.status,
        "engine": job.engine,
        "url": job.url,
        "created": _begun(job).isoformat(timespec="seconds"),
        "seconds": round(job.seconds, 2),
        "prompt": (job.asked or {}).get("prompt"),
        "seed": job.plan.seed if job.plan else None,
        "model": job.plan.model if job.plan else None,
        "images": [image.to_dict() for image in job.images],
        "error": job.error.to_dict() if job.error else None,
        "notes": list(job.notes),
    }


def _begun(job: Job) -> datetime:
    """Return when the job was begun, in local time."""
    return datetime.fromtimestamp(job.created, UTC).astimezone()


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print aligned columns, never cut: somebody copies ids and paths from them."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


async def prune(app: App, *, keep_days: float | None, max_bytes: int | None, dry_run: bool, as_json: bool) -> int:
    """Delete pictures beyond the limits, and the jobs that have none left; return the exit code.

    Raises:
        InvalidRequest: there is no limit, or one that is no positive number.
    """
    keep_days = keep_days if keep_days is not None else app.settings.keep_days
    max_bytes = max_bytes if max_bytes is not None else app.settings.max_bytes
    _check_limits(keep_days, max_bytes)
    now = time.time()
    doomed = await asyncio.to_thread(
        leftovers, app.settings.output_dir, keep_days=keep_days, max_bytes=max_bytes, now=now
    )
    jobs = [job for job in await app.journal.recent(ALL) if _is_spent(job, doomed, keep_days, now)]
    swept = Swept(deleted=tuple(doomed), failures=())
    if not dry_run:
        swept = await asyncio.to_thread(sweep, doomed)
        await app.journal.forget([job.prompt_id for job in jobs])
    _tell(swept, len(jobs), dry_run=dry_run, as_json=as_json)
    return 1 if swept.failures else 0


def _check_limits(keep_days: float | None, max_bytes: int | None) -> None:
    if keep_days is None and max_bytes is None:
        raise InvalidRequest(
            "Nothing says what to delete.",
            hint="Give --keep-days or --max-bytes, or set IMAGE_GEN_KEEP_DAYS or IMAGE_GEN_MAX_BYTES.",
        )
    for name, value in (("--keep-days", keep_days), ("--max-bytes", max_bytes)):
        if value is not None and not value > 0:
            raise InvalidRequest(f"{name} {value:g} is not above 0.", hint="Nothing was deleted.")


def _is_spent(job: Job, doomed: Sequence[Leftover], keep_days: float | None, now: float) -> bool:
    """Return True for an ended job whose pictures all go, and for an old one that has none left."""
    if not job.status.is_final:
        return False
    going = {file.path for file in doomed}
    if keep_days is not None and now - job.created > keep_days * DAY:
        return all(image.path in going or not Path(image.path).exists() for image in job.images)
    return bool(job.images) and all(image.path in going for image in job.images)


def _tell(swept: Swept, jobs: int, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        files = [
            {"path": str(f.path), "bytes": f.size_bytes, "age_days": round(f.age_days, 1), "reason": f.reason}
            for f in swept.deleted
        ]
        facts = {"dry_run": dry_run, "deleted": files, "bytes": swept.size_bytes, "jobs": jobs}
        print(json.dumps({**facts, "failures": list(swept.failures)}))
        return
    for file in swept.deleted:
        print(file.path)
    for failure in swept.failures:
        talk.print(f"[red]Error:[/] {escape(failure)}")
    numbers = f"files: {len(swept.deleted)} ({swept.size_bytes / 1e6:.1f} MB), jobs: {jobs}"
    talk.print(f"{'Would be deleted' if dry_run else 'Deleted'}: {numbers}.")
