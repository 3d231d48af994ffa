"""`mcp-image-gen jobs`: what was generated, and making room."""

import asyncio
import json
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mcp_image_gen_local.app import App
from mcp_image_gen_local.cli.show import escape, line, talk
from mcp_image_gen_local.domain.errors import InvalidRequest, JournalUnusable, OutputNotWritable
from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.domain.text import visible
from mcp_image_gen_local.storage.job_store import JobStore
from mcp_image_gen_local.storage.retention import DAY, Expired, PruneResult, delete_files, expired_files

RUNNING = (JobStatus.QUEUED, JobStatus.RUNNING)
FAILED = (JobStatus.FAILED, JobStatus.LOST, JobStatus.CANCELLED)
ALL = 1_000_000  #: more than the journal keeps, and no more than SQLite can count to


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
    jobs = await app.jobs.recent(min(limit, ALL), RUNNING if running else FAILED if failed else ())
    if app.jobs.problem:
        raise JournalUnusable(app.jobs.problem)
    if as_json:
        print(json.dumps([_facts(job) for job in jobs]))
    elif jobs:
        _print_table([("PROMPT_ID", "STATUS", "STARTED", "SECONDS", "SEED", "MODEL", "IMAGE"), *map(_row, jobs)])
    else:
        talk.print(f"No jobs in {escape(app.jobs.path)}.")
    return 0


def _row(job: Job) -> tuple[str, ...]:
    paths = [str(image.path) for image in job.images]
    more = f" (+{len(paths) - 1})" if len(paths) > 1 else ""
    result = f"{paths[0]}{more}" if paths else job.error.code if job.error else "-"
    return (
        job.job_id,
        job.status,
        f"{job.created_at:%Y-%m-%d %H:%M:%S}",
        f"{job.seconds:.1f}",
        str(job.plan.seed) if job.plan and job.plan.seed is not None else "-",
        job.plan.model if job.plan else "-",
        result,
    )


def _facts(job: Job) -> dict[str, Any]:
    return {
        "prompt_id": job.job_id,
        "status": job.status,
        "engine": job.engine,
        "url": job.url,
        "created": job.created_at.isoformat(timespec="seconds"),
        "seconds": round(job.seconds, 2),
        "prompt": (job.request or {}).get("prompt"),
        "seed": job.plan.seed if job.plan else None,
        "model": job.plan.model if job.plan else None,
        "images": [image.to_dict() for image in job.images],
        "error": job.error.to_dict() if job.error else None,
        "notes": list(job.notes),
    }


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print aligned columns, never cut: somebody copies ids and paths from them."""
    rows = [tuple(map(visible, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


async def prune(app: App, *, keep_days: float | None, max_bytes: int | None, dry_run: bool, as_json: bool) -> int:
    """Delete images beyond the limits, and the jobs that have none left; return the exit code.

    Raises:
        InvalidRequest: there is no limit, or one that is no positive number.
        OutputNotWritable: the output folder cannot be listed.
        SettingsInvalid: the output folder names a variable that is not set.
    """
    keep_days = keep_days if keep_days is not None else app.settings.keep_days
    max_bytes = max_bytes if max_bytes is not None else app.settings.max_bytes
    _check_limits(keep_days, max_bytes)
    now = time.time()
    expired = await asyncio.to_thread(_expired_images, app.settings.folder("output_dir"), keep_days, max_bytes, now)
    result = (
        PruneResult(deleted=tuple(expired), failures=()) if dry_run else await asyncio.to_thread(delete_files, expired)
    )
    orphaned = await _orphaned_jobs(app.jobs, {file.path for file in result.deleted}, keep_days, now)
    if not dry_run:
        await app.jobs.forget(orphaned)
    failures = [*result.failures, *([app.jobs.problem] if app.jobs.problem else [])]
    _report(result, len(orphaned), failures, dry_run=dry_run, as_json=as_json)
    return 1 if failures else 0


def _check_limits(keep_days: float | None, max_bytes: int | None) -> None:
    if keep_days is None and max_bytes is None:
        raise InvalidRequest(
            "No retention limit given.",
            hint="Give --keep-days or --max-bytes, or set IMAGE_GEN_KEEP_DAYS or IMAGE_GEN_MAX_BYTES.",
        )
    for name, value in (("--keep-days", keep_days), ("--max-bytes", max_bytes)):
        if value is not None and not value > 0:
            raise InvalidRequest(f"{name} {value:g} is not above 0.", hint="Nothing was deleted.")


def _expired_images(folder: Path, keep_days: float | None, max_bytes: int | None, now: float) -> list[Expired]:
    try:
        return expired_files(folder, keep_days=keep_days, max_bytes=max_bytes, now=now)
    except OSError as error:
        raise OutputNotWritable(
            f"The output folder {folder} cannot be listed: {error.strerror or error}.",
            hint="Make it readable, or name another with --output-dir or IMAGE_OUTPUT_DIR. Nothing was deleted.",
        ) from error


async def _orphaned_jobs(
    jobs_store: JobStore, gone: Collection[Path], keep_days: float | None, now: float
) -> list[str]:
    """Return the prompt_ids of the ended jobs that nothing is left of, now that the images `gone` are."""
    jobs = await jobs_store.recent(ALL)
    return [job.job_id for job in jobs if job.status.is_final and _is_orphaned(job, gone, keep_days, now)]


def _is_orphaned(job: Job, gone: Collection[Path], keep_days: float | None, now: float) -> bool:
    """Return True when the last of the job's images has just gone, and for an old job that has none left."""
    # os.path, as Path.exists raises where a folder may not be looked into
    if any(image.path not in gone and os.path.exists(image.path) for image in job.images):  # noqa: PTH110
        return False
    is_old = keep_days is not None and now - job.created > keep_days * DAY
    return is_old or any(image.path in gone for image in job.images)


def _report(result: PruneResult, jobs: int, failures: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        files = [
            {"path": str(f.path), "bytes": f.size_bytes, "age_days": round(f.age_days, 1), "reason": f.reason}
            for f in result.deleted
        ]
        facts = {"dry_run": dry_run, "deleted": files, "bytes": result.size_bytes, "jobs": jobs}
        print(json.dumps({**facts, "failures": failures}))
        return
    for file in result.deleted:
        line(file.path)
    for failure in failures:
        talk.print(f"[red]Error:[/] {escape(failure)}")
    numbers = f"files: {len(result.deleted)} ({result.size_bytes / 1e6:.1f} MB), jobs: {jobs}"
    talk.print(f"{'Would be deleted' if dry_run else 'Deleted'}: {numbers}.")
