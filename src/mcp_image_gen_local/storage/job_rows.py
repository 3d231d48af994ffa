"""Jobs as rows of the store, and back."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mcp_image_gen_local.domain.errors import error_from_dict
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan, Progress, Ticket

LATEST = 1e11  #: seconds since 1970, the year 5138
TOO_LARGE = 2**64  #: for any number of a job
#: The types of what is worked with; a number may be written as int or float where float is asked for.
ROW: Mapping[str, type] = {
    **dict.fromkeys(("job_id", "engine", "url", "status", "cancel_error"), str),
    **dict.fromkeys(("created", "lease_until", "seconds"), float),
    "filename_ms": int,
    "preview": bytes,
}
IMAGE: Mapping[str, type] = {
    **dict.fromkeys(("path", "mime_type"), str),
    **dict.fromkeys(("seed", "width", "height", "size_bytes", "index"), int),
    "uniform": bool,
}
PLAN: Mapping[str, type] = {
    "model": str,
    **dict.fromkeys(("seed", "width", "height", "steps", "batch_size"), int),
    "extra": dict,
}
OPTIONAL = frozenset({"seconds", "preview", "seed", "width", "height", "steps"})  #: None is a value of these too
INSERT = """
    INSERT INTO jobs (job_id, engine, url, status, request, plan, ticket, images, notes, error, created, seconds,
                      cancel_error, owner, lease_until, cancel_requested, filename_ms, image_count, requeues)
    VALUES (:job_id, :engine, :url, :status, :request, :plan, :ticket, :images, :notes, :error, :created, :seconds,
            :cancel_error, :owner, :lease_until, :cancel_requested, :filename_ms, :image_count, :requeues)
    ON CONFLICT (job_id) DO NOTHING
"""
#: Progress is stored by a statement of its own and ends with the job, as does the lease.
UPDATE = """
    UPDATE jobs
    SET status = :status, plan = :plan, ticket = :ticket, images = :images, notes = :notes, error = :error,
        seconds = :seconds, cancel_error = :cancel_error, requeues = :requeues,
        owner = iif(:final, '', owner), lease_until = iif(:final, 0, lease_until),
        progress = iif(:final, NULL, progress), preview = iif(:final, NULL, preview)
    WHERE job_id = :job_id
"""


def row_of(job: Job) -> dict[str, Any]:
    """Return the values of a new row."""
    return {
        **changes_of(job),
        "engine": job.engine,
        "url": job.url,
        "request": None if job.request is None else request_of(job.request),
        "created": job.created,
        "lease_until": job.lease_until,
        "cancel_requested": job.cancel_requested,
        "filename_ms": job.filename_ms,
    }


def request_of(request: Mapping[str, Any]) -> str:
    """Return the request as a row holds it."""
    return _json(request)


def changes_of(job: Job) -> dict[str, Any]:
    """Return what may change in a job's row, and `final`."""
    return {
        "job_id": job.job_id,
        "status": job.status,
        "plan": _json(_plan_to_dict(job.plan)) if job.plan else None,
        "ticket": _json(asdict(job.ticket)) if job.ticket else None,
        "images": _json([{**asdict(image), "path": str(image.path)} for image in job.images]),
        "notes": _json(job.notes),
        "error": _json(job.error.to_dict()) if job.error else None,
        "seconds": job.seconds if job.status.is_final else None,
        "cancel_error": job.cancel_error,
        "requeues": job.requeues,
        "final": job.status.is_final,
    }


def progress_of(job: Job) -> dict[str, Any]:
    """Return the values of a row that holds the job's progress."""
    progress = job.progress
    facts = progress and {name: value for name, value in vars(progress).items() if name != "preview"}
    preview = progress.preview if progress else None
    return {"job_id": job.job_id, "status": job.status, "progress": facts and _json(facts), "preview": preview}


def job_of(row: Mapping[str, Any]) -> Job:
    """Return the job of a row; its monotonic times are such that `seconds` is right.

    Raises:
        Exception: of whatever kind, when the row is not as `row_of` writes it.
    """
    _check_types(row, ROW)
    seconds = row["seconds"]
    age = max(0.0, time.time() - row["created"]) if seconds is None else seconds  # the clock may have been set back
    now = time.monotonic()
    status, images = JobStatus(row["status"]), [_image(facts) for facts in json.loads(row["images"])]
    if not 0 <= row["created"] < LATEST or (status is JobStatus.DONE and not images):
        message = f"created {row['created']}, {status}, {len(images)} images"
        raise ValueError(message)
    return Job(
        job_id=row["job_id"],
        engine=row["engine"],
        url=row["url"],
        status=status,
        request=dict(json.loads(row["request"])) if row["request"] else None,
        progress=_progress(row) if row["progress"] else None,
        plan=_plan(json.loads(row["plan"])) if row["plan"] else None,
        ticket=Ticket(**json.loads(row["ticket"])) if row["ticket"] else None,
        images=tuple(images),
        notes=tuple(map(str, json.loads(row["notes"]))),
        error=error_from_dict(json.loads(row["error"])) if row["error"] else None,
        cancel_requested=bool(row["cancel_requested"]),
        cancel_error=row["cancel_error"],
        requeues=row["requeues"],
        created=row["created"],
        lease_until=row["lease_until"],
        filename_ms=row["filename_ms"],
        started=now - age,
        ended=None if seconds is None else now,
    )


def _check_types(facts: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Raise TypeError or ValueError for a value that the file, or somebody who wrote into it, has of another type."""
    for name, kind in kinds.items():
        value = facts[name]
        if value is None and name in OPTIONAL:
            continue
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            message = f"{name} is a {type(value).__name__}"
            raise TypeError(message)
        if isinstance(value, int | float) and not -TOO_LARGE < value < TOO_LARGE:  # NaN neither
            message = f"{name} is {value}"
            raise ValueError(message)


def _image(facts: dict[str, Any]) -> SavedImage:
    image = SavedImage(**facts)
    _check_types(vars(image), IMAGE)
    path = Path(image.path)
    if not path.root:
        message = "an image's path is relative"
        raise ValueError(message)
    return replace(image, path=path)


def _progress(row: Mapping[str, Any]) -> Progress:
    facts = json.loads(row["progress"])
    return Progress(**{**facts, "status": JobStatus(facts["status"]), "preview": row["preview"]})


def _plan_to_dict(plan: Plan) -> dict[str, Any]:
    return {name: value for name, value in vars(plan).items() if name != "payload"}


def _plan(facts: dict[str, Any]) -> Plan:
    if "settings" in facts:  # written before version 4 of the file: all values in one place
        values = dict(facts.pop("settings"))
        values.pop("seed", None)
        sizes = {name: values.pop(name, None) for name in ("width", "height", "steps")}
        facts = {**facts, **sizes, "batch_size": values.pop("batch_size", 1), "extra": values}
    plan = Plan(**{**facts, "notes": tuple(map(str, facts["notes"]))})
    _check_types(vars(plan), PLAN)
    return plan


def _json(value: object) -> str:
    return json.dumps(value, default=str)  # in ASCII: an unpaired surrogate in a foreign text could not be stored
