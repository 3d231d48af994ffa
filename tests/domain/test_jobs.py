"""Jobs, plans and progress as values."""

import time
from pathlib import Path

import pytest

from mcp_image_gen_local.domain.image import ImageRef, SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan, Progress
from mcp_image_gen_local.domain.model import ModelInfo


def test_final_states():
    assert [status.value for status in JobStatus if not status.is_final] == ["queued", "running"]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "generating"),
        ({"step": 2, "steps": 4}, "generating, step 2/4"),
        ({"step": 0, "steps": 4}, "generating, step 0/4"),
        ({"queue_position": 3, "step": 2, "steps": 4}, "generating, position 3"),
    ],
)
def test_progress_is_described(facts: dict[str, int], text: str):
    assert Progress(status=JobStatus.RUNNING, phase="generating", **facts).describe() == text


def test_a_plan_tells_what_the_metadata_needs():
    plan = Plan(model="m", seed=3, width=64, height=32, steps=4, batch_size=2, extra={"cfg": 1.0}, payload="graph")
    facts = {"model": "m", "seed": 3, "width": 64, "height": 32, "steps": 4, "batch_size": 2, "cfg": 1.0}
    assert plan.provenance() == facts
    assert Plan(model="m", seed=None).batch_size == 1


def test_time_of_a_job():
    begun = time.monotonic()
    assert Job(job_id="1", engine="e", started=begun, ended=begun + 2.5).seconds == 2.5
    assert 100 <= Job(job_id="1", engine="e", started=begun - 100).seconds < 160
    made = Job(job_id="1", engine="e", created=0.0).created_at
    assert made.timestamp() == 0
    assert made.utcoffset() is not None


def test_a_job_without_a_request_is_foreign():
    assert Job(job_id="1", engine="e").is_foreign
    assert not Job(job_id="1", engine="e", request={"prompt": "a"}).is_foreign


def test_a_new_job_is_queued_and_nobodys():
    job = Job(job_id="1", engine="e")
    assert (job.status, job.images, job.notes, job.error) == (JobStatus.QUEUED, (), (), None)
    assert (job.lease_until, job.filename_ms, job.cancel_requested, job.cancel_error) == (0.0, 0, False, "")
    assert (job.url, job.ended) == ("", None)


def test_what_an_answer_says_of_an_image():
    image = SavedImage(path=Path("/a.png"), seed=None, width=1, height=2, size_bytes=3, mime_type="image/png")
    assert image.to_dict() == {"path": "/a.png", "seed": None, "width": 1, "height": 2}
    assert (image.index, image.uniform) == (0, False)
    assert ImageRef(uri="/a", sha256="0").to_dict() == {"uri": "/a", "sha256": "0"}


def test_a_model_names_what_is_missing():
    facts = {"name": "m", "role": "r", "family": "f", "ready": True, "steps": 1, "cfg": 1.0, "width": 8, "height": 8}
    assert ModelInfo(**facts).to_dict() == facts
    assert ModelInfo(**facts, missing=("ae",)).to_dict() == {**facts, "missing": ("ae",)}
    foreign = {"kind": "video", "unsupported": "It is a video model."}
    assert ModelInfo(**facts, **foreign).to_dict() == {**facts, **foreign}
