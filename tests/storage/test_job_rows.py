"""Jobs as rows: whatever a job holds, the row gives it back."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_image_gen_local.domain.errors import (
    EngineUnreachable,
    GenerationCancelled,
    ImageGenError,
    ImageGone,
    OutOfMemory,
)
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan, Progress, Ticket
from mcp_image_gen_local.storage import job_rows as rows
from tests.storage.jobs import PLAN, PROGRESS, TICKET, image, job

texts = st.text(st.characters(), max_size=20)  # unpaired surrogates too
counts = st.integers(1, 2**31)
optional_counts = st.none() | counts
seeds = st.none() | st.integers(0, 2**64 - 1)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(texts.filter(lambda name: name != "settings"), values, max_size=4)
sentences = st.lists(texts, max_size=3).map(tuple)
plans = st.builds(
    Plan,
    model=texts,
    seed=seeds,
    width=optional_counts,
    height=optional_counts,
    steps=optional_counts,
    batch_size=counts,
    extra=mappings,
    notes=sentences,
)
images = st.builds(
    SavedImage,
    path=texts.map(lambda name: Path("/images") / name.replace("/", "").replace("\0", "")),
    seed=seeds,
    width=counts,
    height=counts,
    size_bytes=counts,
    mime_type=texts,
    index=st.integers(0, 15),
    uniform=st.booleans(),
)
errors = st.builds(
    lambda kind, message, hint: kind(message, hint=hint),
    st.sampled_from([ImageGenError, EngineUnreachable, GenerationCancelled, ImageGone, OutOfMemory]),
    texts,
    texts,
)
progress = st.builds(
    Progress,
    status=st.sampled_from([JobStatus.QUEUED, JobStatus.RUNNING]),
    phase=texts,
    step=optional_counts,
    steps=optional_counts,
    queue_position=optional_counts,
    preview=st.none() | st.binary(max_size=20),
)
jobs = st.builds(
    Job,
    job_id=texts,
    engine=texts,
    url=texts,
    status=st.sampled_from([status for status in JobStatus if status is not JobStatus.DONE]),
    request=st.none() | mappings,
    plan=st.none() | plans,
    ticket=st.none() | st.builds(Ticket, host=texts, id=texts, data=mappings),
    images=st.lists(images, max_size=3).map(tuple),
    notes=sentences,
    error=st.none() | errors,
    cancel_requested=st.booleans(),
    cancel_error=texts,
    created=st.floats(0, 1e10),
    lease_until=st.floats(0, 1e11),
    filename_ms=st.integers(0, 10**14),
)


def facts(job: Job) -> Job:
    """Return the job without what differs from process to process."""
    return replace(job, started=0.0, ended=None, error=None)


def read(job: Job) -> Job:
    """Return the job as another process reads it."""
    return rows.job_of({**rows.row_of(job), **rows.progress_of(job)})


@pytest.mark.timeout(30)  # also where all others have less
@settings(derandomize=True, max_examples=60, deadline=None)
@given(jobs, st.none() | progress)
def test_a_row_gives_the_job_back(job: Job, newest: Progress | None):
    job = replace(job, progress=newest)
    again = read(job)
    assert facts(again) == facts(job)
    if job.error:
        assert (type(again.error), again.error.to_dict()) == (type(job.error), job.error.to_dict())
    else:
        assert again.error is None


def test_every_value_of_a_row_is_storable():
    row = {**rows.row_of(job(plan=PLAN, ticket=TICKET)), **rows.progress_of(job(progress=PROGRESS))}
    assert {type(value) for value in row.values()} <= {str, int, float, bool, bytes, type(None), JobStatus}


def test_a_running_job_has_no_end():
    running = job(created=time.time() - 60)
    assert rows.row_of(running)["seconds"] is None
    again = read(running)
    assert again.ended is None
    assert 60 <= again.seconds < 65


def test_a_job_from_the_future_has_just_begun():
    """The clock was set back."""
    assert 0 <= read(job(created=time.time() + 3600)).seconds < 5


def test_an_ended_job_keeps_its_time():
    ended = job(status=JobStatus.FAILED, started=100.0, ended=102.5)
    assert rows.row_of(ended)["seconds"] == 2.5
    assert math.isclose(read(ended).seconds, 2.5)


def test_the_first_second_is_a_time():
    assert read(job(created=0.0)).created == 0.0


@pytest.mark.parametrize("created", [-1.0, 1e11, math.inf, math.nan])
def test_an_impossible_time_is_refused(created: float):
    row = {**rows.row_of(job()), **rows.progress_of(job()), "created": created}
    with pytest.raises((ValueError, OverflowError)):
        rows.job_of(row)


def test_a_done_job_has_an_image():
    done = job(status=JobStatus.DONE, images=(image(),), ended=1.0, started=0.0)
    assert read(done).status is JobStatus.DONE
    with pytest.raises(ValueError, match="done, 0 images"):
        rows.job_of({**rows.row_of(done), **rows.progress_of(done), "images": "[]"})


def test_progress_is_stored_beside_its_preview():
    row = rows.progress_of(job(progress=PROGRESS))
    assert row["preview"] == PROGRESS.preview
    assert json.loads(row["progress"]) == {
        "status": "running",
        "phase": "generating",
        "step": 2,
        "steps": 4,
        "queue_position": 1,
    }
    empty = rows.progress_of(job())
    assert (empty["progress"], empty["preview"]) == (None, None)


def test_an_old_plan_is_read():
    """Before version 4 of the file all values stood in one place."""
    old = {"seed": 7, "model": "m", "settings": {"seed": 8, "width": 64, "steps": 4, "cfg": 1.0}, "notes": ["a"]}
    again = rows.job_of({**rows.row_of(job()), **rows.progress_of(job()), "plan": json.dumps(old)})
    assert again.plan == Plan(model="m", seed=7, width=64, steps=4, extra={"cfg": 1.0}, notes=("a",))


def test_an_odd_value_is_stored_as_text():
    """An engine of another package may put anything into a plan."""
    assert read(job(plan=replace(PLAN, extra={"path": Path("/x")}))).plan.extra == {"path": str(Path("/x"))}
