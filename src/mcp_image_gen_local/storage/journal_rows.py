"""Jobs as rows of the journal, and back. Pure."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mcp_image_gen_local.domain.errors import error_from_dict
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan

LATEST = 1e11  #: seconds since 1970, the year 5138
INSERT = """
    INSERT INTO jobs (prompt_id, engine, url, status, asked, plan, images, notes, error, created, seconds,
                      touched, stamp, pictures)
    VALUES (:prompt_id, :engine, :url, :status, :asked, :plan, :images, :notes, :error, :created, :seconds,
            :touched, :stamp, :pictures)
    ON CONFLICT (prompt_id) DO NOTHING
"""


def row_of(job: Job) -> dict[str, Any]:
    """Return the values of a new row, but for its stamp."""
    asked = None if job.asked is None else _json(job.asked)
    return {
        **changes_of(job),
        "engine": job.engine,
        "url": job.url,
        "asked": asked,
        "created": job.created,
        "touched": job.touched,
    }


def changes_of(job: Job) -> dict[str, Any]:
    """Return what may change in a job's row, and `final`."""
    plan = job.plan and {
        "seed": job.plan.seed,
        "model": job.plan.model,
        "settings": job.plan.settings,
        "notes": job.plan.notes,
    }
    return {
        "prompt_id": job.prompt_id,
        "status": job.status,
        "plan": _json(plan) if plan else None,
        "images": _json([{**asdict(image), "path": str(image.path)} for image in job.images]),
        "notes": _json(job.notes),
        "error": _json(job.error.to_dict()) if job.error else None,
        "seconds": job.seconds if job.status.is_final else None,
        "final": job.status.is_final,
    }


def job_of(row: Mapping[str, Any]) -> Job:
    """Return the job of a row; its monotonic times are such that `seconds` is right.

    Raises:
        Exception: of whatever kind, when the row is not as `row_of` writes it.
    """
    plan = json.loads(row["plan"]) if row["plan"] else None
    seconds = row["seconds"]
    age = max(0.0, time.time() - row["created"]) if seconds is None else seconds  # the clock may have been set back
    now = time.monotonic()
    status, images = JobStatus(row["status"]), json.loads(row["images"])
    if not 0 <= row["created"] < LATEST or (status is JobStatus.DONE and not images):
        message = f"created {row['created']}, {status}, {len(images)} images"
        raise ValueError(message)
    return Job(
        prompt_id=row["prompt_id"],
        engine=row["engine"],
        url=row["url"],
        status=status,
        asked=dict(json.loads(row["asked"])) if row["asked"] else None,
        plan=Plan(**{**plan, "notes": tuple(plan["notes"])}) if plan else None,
        images=tuple(SavedImage(**{**image, "path": Path(image["path"])}) for image in images),
        notes=tuple(json.loads(row["notes"])),
        error=error_from_dict(json.loads(row["error"])) if row["error"] else None,
        created=row["created"],
        touched=row["touched"],
        stamp=row["stamp"],
        started=now - age,
        ended=None if seconds is None else now,
    )


def _json(value: object) -> str:
    return json.dumps(value, default=str)  # in ASCII: half a character in a foreign text could not be stored
