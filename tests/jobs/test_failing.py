"""JobRunner: what a failure means for a job."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace

import pytest

from mcp_image_gen_local.domain.errors import EngineUnreachable, GenerationLost, OutOfMemory
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.jobs import JobRunner
from mcp_image_gen_local.jobs.entry import FETCH_SECONDS
from tests.jobs.steps import REQUEST, ended
from tests.steered_engine import SteeredEngine


@pytest.mark.parametrize(
    ("failure", "status"), [(OutOfMemory("No memory."), "failed"), (GenerationLost("It is gone."), "lost")]
)
async def test_an_engines_error_ends_the_job(runner: JobRunner, engine: SteeredEngine, failure, status: str):
    engine.failure = failure
    prompt_id = runner.start(REQUEST)
    engine.steps()
    job = await ended(runner, prompt_id)
    assert (job.status, job.error) == (status, failure)


@pytest.mark.parametrize(
    "failure", [ZeroDivisionError("oh"), TimeoutError("not ours"), ExceptionGroup("x", [OSError()])]
)
async def test_an_unexpected_exception_fails_the_job_and_is_logged(
    runner: JobRunner, engine: SteeredEngine, failure: Exception, caplog: pytest.LogCaptureFixture
):
    engine.failure = failure
    prompt_id = runner.start(REQUEST)
    engine.steps()
    job = await ended(runner, prompt_id)
    assert (job.status, job.error.code) == ("failed", "unexpected_error")
    assert repr(failure) in job.error.message
    assert prompt_id in caplog.text
    assert "Traceback" in caplog.text


async def test_a_job_beyond_its_time_is_withdrawn(make: Callable[..., JobRunner], engine: SteeredEngine):
    runner = make(timeout_seconds=0.05)
    prompt_id = runner.start(REQUEST)
    job = await ended(runner, prompt_id)
    assert (job.status, job.error.code) == ("failed", "generation_timeout")
    assert "did not end within 0.05 s" in job.error.message
    assert engine.withdrawn == [prompt_id]


async def test_a_job_that_another_process_queued_is_left_alone_when_its_time_is_over_here(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    """That process may allow it more."""
    engine.known.add("theirs")
    runner = make(timeout_seconds=0.05)
    await runner.find("theirs")
    job = await ended(runner, "theirs")
    assert (job.error.code, engine.withdrawn) == ("generation_timeout", [])
    assert "left alone" in job.error.message


async def test_an_error_that_several_jobs_meet_names_each_its_own_id(runner: JobRunner, engine: SteeredEngine):
    engine.failure = EngineUnreachable("It is off.")
    ids = [runner.start(REQUEST) for _ in range(3)]
    engine.steps(9)
    hints = [(await ended(runner, prompt_id)).error.hint for prompt_id in ids]
    assert [[prompt_id in hint for prompt_id in ids] for hint in hints] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


async def test_a_failed_job_does_not_hold_its_request_in_memory(runner: JobRunner, engine: SteeredEngine):
    """An init_image has many megabytes."""
    engine.failure = OutOfMemory("No memory.")
    prompt_id = runner.start(replace(REQUEST, init_image=b"x" * 1000))
    engine.steps()
    assert (await ended(runner, prompt_id)).error is engine.failure
    assert engine.failure.__traceback__ is None


async def test_images_that_are_generated_get_time_to_be_fetched_whatever_generating_may_take(
    runner: JobRunner, engine: SteeredEngine, monkeypatch: pytest.MonkeyPatch
):
    fetch, left = engine.fetch, []

    def fetch_late(prompt_id: str, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        left.append(runner._roster[prompt_id].bound.when() - asyncio.get_running_loop().time())
        return fetch(prompt_id, skip=skip)

    monkeypatch.setattr(engine, "fetch", fetch_late)
    prompt_id = runner.start(REQUEST)  # 60 s are for generating
    engine.steps()
    assert (await ended(runner, prompt_id)).status == "done"
    assert left[0] > FETCH_SECONDS - 60
