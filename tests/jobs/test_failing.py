"""JobRunner: what a failure means for a job."""

import asyncio
import re
from collections.abc import Callable

import pytest

from mcp_image_gen_local.domain.errors import (
    EngineUnreachable,
    GenerationLost,
    ImageGenError,
    InvalidRequest,
    OutOfMemory,
    QueueFull,
)
from mcp_image_gen_local.domain.job import Job
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.jobs import JobRunner
from tests.comfyui_images import plain
from tests.jobs.steps import REQUEST, done, ended, generation, left_behind, store_of, until
from tests.scripted_engine import ScriptedEngine

Make = Callable[..., JobRunner]


REMOVED = GenerationLost("It is gone.", was_removed=True)


@pytest.mark.parametrize(("failure", "status"), [(OutOfMemory("No memory."), "failed"), (REMOVED, "lost")])
async def test_an_error_of_the_engine(runner: JobRunner, engine: ScriptedEngine, failure: ImageGenError, status: str):
    engine.failure = failure
    job = await done(runner, engine)
    assert (job.status, job.error.code, job.error.message, job.error.hint) == (status, failure.code, str(failure), "")
    assert job.error is not failure  # a raised one holds the frames that it went through
    assert (await store_of(runner).get(job.job_id)).error.code == failure.code


@pytest.mark.parametrize("failure", [ZeroDivisionError("oh"), TimeoutError("no"), ExceptionGroup("x", [OSError()])])
async def test_an_unexpected_exception(runner: JobRunner, engine: ScriptedEngine, failure: Exception, caplog):
    """The job fails and the log has the details."""
    engine.failure = failure
    job = await done(runner, engine)
    assert (job.status, job.error.code) == ("failed", "unexpected_error")
    assert job.error.message == f"An unexpected error: {failure!r}."
    assert job.error.hint.startswith("Report it with the log. (Later, get_generation_status(")
    assert f"job {job.job_id}" in caplog.text
    assert "Traceback" in caplog.text


async def test_an_endless_exception_is_cut(runner: JobRunner, engine: ScriptedEngine):
    engine.failure = ValueError("o" * 1000)
    assert len((await done(runner, engine)).error.message) == len("An unexpected error: .") + 300


async def test_an_engine_without_an_image(make: Make, engine: ScriptedEngine):
    """The job failed, and every process can read its row."""
    engine.images = []
    job = await done(make(), engine)
    assert (job.status, job.error.code, job.images) == ("failed", "generation_failed", ())
    assert job.error.message == "The engine finished the job without an image."
    read = await make().find(job.job_id)
    assert (read.status, read.error.code) == ("failed", "generation_failed")


async def test_an_image_that_is_gone(runner: JobRunner, engine: ScriptedEngine):
    """The others are saved, and the job says what is missing."""
    engine.images = [plain(16, 16), None, plain(16, 16, 1)]
    job = await done(runner, engine, GenerationRequest(prompt="a red apple", seed=7, batch_size=3))
    assert (job.status, [image.index for image in job.images]) == ("done", [0, 2])
    assert job.notes == ("a note", "An image is gone.", "Only 2 of 3 images are available.")
    stored = await store_of(runner).get(job.job_id)
    assert [image.path for image in stored.images] == [image.path for image in job.images]


async def test_all_images_are_gone(runner: JobRunner, engine: ScriptedEngine):
    engine.images = [None]
    job = await done(runner, engine)
    assert (job.status, job.error.code, job.images) == ("failed", "image_gone", ())


async def test_an_error_while_planning(runner: JobRunner, engine: ScriptedEngine, monkeypatch):
    """Nothing was sent, so a status call has nothing to fetch."""

    async def refuse(*_: object) -> None:
        raise EngineUnreachable("It is off.", hint="Start it.")

    monkeypatch.setattr(engine, "plan", refuse)
    job = await ended(runner, runner.start(REQUEST))
    assert (job.status, job.error.hint) == ("failed", "Start it.")
    assert (await runner.find(job.job_id)).error.hint == "Start it."
    assert engine.looked_up == []


async def test_several_jobs_meet_one_error(runner: JobRunner, engine: ScriptedEngine):
    """Each job's hint names its own id."""
    engine.failure = EngineUnreachable("It is off.", hint="Start it.")
    ids = [runner.start(REQUEST) for _ in range(3)]
    engine.steps(9)
    for job_id in ids:
        hint = (await ended(runner, job_id)).error.hint
        assert hint == f'Start it. (Later, get_generation_status(prompt_id="{job_id}") fetches it.)'


async def test_a_job_that_lost_its_engine_continues(runner: JobRunner, engine: ScriptedEngine):
    """When it is asked for again."""
    engine.failure = EngineUnreachable("It is off.")
    job = await done(runner, engine)
    engine.failure = None
    engine.steps()
    again = await runner.find(job.job_id)
    assert (again.status, again.error, again.ended) == ("queued", None, None)
    assert (await ended(runner, job.job_id)).status == "done"


async def test_a_full_disk_is_no_loss(runner: JobRunner, engine: ScriptedEngine, tmp_path):
    """The image is fetched again when there is room."""
    job_id = await generation(runner, engine)
    folder = tmp_path / "images"
    folder.rename(tmp_path / "away")
    folder.touch()
    engine.steps(2)
    assert (await ended(runner, job_id)).error.code == "output_not_writable"
    folder.unlink()
    engine.steps()
    await runner.find(job_id)
    assert (await ended(runner, job_id)).images[0].path.is_file()


# -- time-outs ----------------------------------------------------------------------------------------


async def test_a_job_beyond_its_time_is_cancelled(make: Make, engine: ScriptedEngine):
    runner = make(timeout=0.05)
    job = await ended(runner, runner.start(REQUEST))
    assert (job.status, job.error.code) == ("failed", "generation_timeout")
    assert job.error.message == f"The job {job.job_id} did not end within 0.05 s and was cancelled."
    assert job.error.hint == "Raise IMAGE_GEN_JOB_TIMEOUT_SECONDS, or use fewer steps or a smaller image."
    assert engine.cancelled == [job.job_id]
    assert (await store_of(runner).get(job.job_id)).error.code == "generation_timeout"


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (None, "The engine will stop after the current step or model load."),
        (EngineUnreachable("It is off."), "The cancel request failed: It is off."),
    ],
)
async def test_a_time_out_that_is_not_confirmed(make: Make, engine: ScriptedEngine, refusal, sentence: str):
    engine.holds_on, engine.refusal = 10, refusal
    runner = make(timeout=0.05)
    job = await ended(runner, runner.start(REQUEST))
    assert job.error.hint.startswith(f"{sentence} Raise IMAGE_GEN_JOB_TIMEOUT_SECONDS")


async def test_a_foreign_job_beyond_its_time(make: Make, engine: ScriptedEngine):
    """It is not cancelled: its own client may allow it more. Its row stays unfinished and free."""
    engine.known.add("theirs")
    runner, other = make(timeout=0.05), make()
    await runner.find("theirs")
    job = await ended(runner, "theirs")
    assert (job.status, job.error.code, engine.cancelled) == ("failed", "generation_timeout", [])
    assert job.error.message == (
        "Job theirs is still running after 0.05 s. It was queued by another client, so it was not cancelled."
    )
    assert job.error.hint == "Check its status later."
    stored = await store_of(other).get("theirs")
    assert (stored.status, store_of(other).is_leased(stored)) == ("queued", False)
    await other.find("theirs")
    engine.steps()
    assert (await ended(other, "theirs")).status == "done"


async def test_finished_images_get_their_own_time(make: Make, engine: ScriptedEngine):
    """However little of the time for generating is left."""
    runner = make(timeout=0.5, fetch=30.0)
    gate = engine.hold("fetch")
    job_id = runner.start(REQUEST)
    engine.steps()
    await engine.arrival("fetch")
    left = runner._leases.active(job_id)._bound.when() - asyncio.get_running_loop().time()
    assert 29 < left <= 30
    gate.set()
    assert (await ended(runner, job_id)).status == "done"


async def test_a_long_time_is_not_shortened(make: Make, engine: ScriptedEngine):
    runner = make(timeout=60, fetch=1.0)
    gate = engine.hold("fetch")
    job_id = runner.start(REQUEST)
    engine.steps()
    await engine.arrival("fetch")
    assert runner._leases.active(job_id)._bound.when() - asyncio.get_running_loop().time() > 50
    gate.set()
    assert (await ended(runner, job_id)).status == "done"


# -- limits -------------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_a_call(make: Make, engine: ScriptedEngine):
    runner = make(max_queue=2)
    ids = [runner.start(REQUEST) for _ in range(2)]
    with pytest.raises(QueueFull, match=re.escape("2 jobs are queued or running; IMAGE_GEN_MAX_QUEUE allows 2.")):
        runner.start(REQUEST)
    engine.steps(6)
    assert [(await ended(runner, job_id)).status for job_id in ids] == ["done", "done"]
    assert len(engine.planned) == 2


async def test_jobs_of_others_fill_the_queue(make: Make, engine: ScriptedEngine):
    """The job is refused before it is stored."""
    runner, engine.others = make(max_queue=3), 3
    job = await ended(runner, runner.start(REQUEST))
    assert (job.status, job.error.code) == ("failed", "queue_full")
    assert job.error.message == "3 jobs are queued or running; IMAGE_GEN_MAX_QUEUE allows 3."
    assert job.error.hint == "Wait until one has ended, then call again. Nothing was queued."
    assert (await store_of(runner).get(job.job_id), engine.planned) == (None, [])


async def test_jobs_on_their_way_fill_the_queue(make: Make, engine: ScriptedEngine):
    """The engine does not count them yet."""
    runner, engine.others = make(max_queue=3), 1
    gate = engine.hold("submit")
    ids = [runner.start(REQUEST) for _ in range(3)]
    refused = await ended(runner, ids[2])
    assert refused.error.message == "3 jobs are queued or running; IMAGE_GEN_MAX_QUEUE allows 3."
    gate.set()
    engine.steps(6)
    assert [(await ended(runner, job_id)).status for job_id in ids[:2]] == ["done", "done"]
    assert (await done(runner, engine)).status == "done"


async def test_a_submitted_job_is_counted_once(make: Make, engine: ScriptedEngine):
    """By the engine, and no longer as one on its way."""
    runner = make(max_queue=2)
    first = await generation(runner, engine)
    engine.others = 1
    second = runner.start(REQUEST)
    engine.steps(5)
    assert [(await ended(runner, job_id)).status for job_id in (first, second)] == ["done", "done"]


# -- the end of a job, and of a process ---------------------------------------------------------------


async def test_what_follows_a_job_sees_its_images(make: Make, engine: ScriptedEngine):
    seen: list[Job] = []

    async def note(job: Job) -> None:
        seen.append(job)

    runner = make(after_done=note)
    job = await done(runner, engine)
    await until(lambda: seen)
    assert [each.images for each in seen] == [job.images]
    engine.failure = OutOfMemory("No memory.")
    await done(runner, engine)
    await runner.aclose()
    assert len(seen) == 1


async def test_closing_waits_for_what_follows(make: Make, engine: ScriptedEngine):
    """But not for long."""
    gate, ends = asyncio.Event(), []

    async def clean_up(job: Job) -> None:
        await gate.wait()
        ends.append(job.job_id)

    runner = make(after_done=clean_up)
    job = await done(runner, engine)
    closing = asyncio.ensure_future(runner.aclose())
    assert await asyncio.wait({closing}, timeout=0.05) == (set(), {closing})
    gate.set()
    await closing
    assert ends == [job.job_id]
    gate.clear()
    slow = make(after_done=clean_up, closing=0.01)
    await done(slow, engine)
    async with asyncio.timeout(2):
        await slow.aclose()
    assert len(ends) == 1


async def test_closing_leaves_the_engine_alone(runner: JobRunner, engine: ScriptedEngine):
    job_id = await left_behind(runner, engine)
    assert engine.cancelled == []
    assert job_id in engine.known
    names = {task.get_name().rsplit("-")[0] for task in asyncio.all_tasks()}
    assert not names & {"job", "cancel", "find", "heartbeat", "recovery"}
    assert not store_of(runner).is_leased(await store_of(runner).get(job_id))


async def test_a_changed_input_ends_its_job(runner: JobRunner, engine: ScriptedEngine, monkeypatch):
    async def refuse(*_: object) -> None:
        raise InvalidRequest("It changed.")

    monkeypatch.setattr(engine, "plan", refuse)
    job = await ended(runner, runner.start(REQUEST))
    assert (job.status, job.error.code, job.plan) == ("failed", "invalid_request", None)
