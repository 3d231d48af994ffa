"""Jobs for the tests of the stores."""

import uuid
from pathlib import Path
from typing import Any

from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan, Progress, Ticket
from mcp_image_gen_local.domain.request import GenerationRequest

PLAN = Plan(
    model="flux.safetensors",
    seed=2**64 - 1,
    width=64,
    height=32,
    steps=4,
    batch_size=2,
    extra={"prompt": "a fox", "cfg": 1.0},
    notes=("a note",),
)
TICKET = Ticket(host="http://gpu", id="their-id", data={"number": 3})
PROGRESS = Progress(
    status=JobStatus.RUNNING, phase="generating", step=2, steps=4, queue_position=1, preview=b"\x89PNG\0"
)


def job(**fields: Any) -> Job:
    """Return a new job; a done one has an image."""
    request = GenerationRequest(prompt="ein Fuchs 🦊", seed=2**64 - 1).to_dict()
    if fields.get("status") is JobStatus.DONE:
        fields.setdefault("images", (image(),))
    given = {"job_id": str(uuid.uuid4()), "engine": "comfyui", "url": "http://gpu", "request": request}
    return Job(**{**given, **fields})


def image(index: int = 0) -> SavedImage:
    """Return an image of a job; the second is of one colour."""
    return SavedImage(
        path=Path(f"/images/{index}.png").absolute(),
        seed=7,
        width=64,
        height=32,
        size_bytes=10,
        mime_type="image/png",
        index=index,
        uniform=index == 1,
    )
