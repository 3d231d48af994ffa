"""JobRunner: taking a job back."""

import asyncio
import gc
import warnings
from pathlib import Path

import anyio
import pytest

from mcp_image_gen_local.domain.errors import EngineUnreachable, JobOfAnother
from mcp_image_gen_local.jobs import JobRunner
from tests.jobs.steps import REQUEST, ended, generation, reached_journal
from tests.steered_engine import SteeredEngine


async def test_cancelling_withdraws_the_job_from_the_engine(runner: JobRunner, engine: SteeredEngine, tmp_path: Path):
    prompt_id = await generation(runner, engine)
    job = await runner.cancel(prompt_id)
    assert (job.status, job.error.code) == ("cancelled", "generation_cancelled")
    assert engine.withdrawn == [prompt_id]
    assert (await ended(runner, prompt_id)).status == "cancelled"
    assert list((tmp_path / "images").iterdir()) == []


async def test_cancelling_at_once_leaves_no_coroutine_behind(runner: JobRunner):
    """Before the job's task has run at all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        job = await runner.cancel(runner.start(REQUEST))
        gc.collect()
    assert job.status == "cancelled"
    assert [str(warning.message) for warning in caught] == []


async def test_cancelling_twice_withdraws_once_or_twice_and_ends_cancelled(runner: JobRunner, engine: SteeredEngine):
    prompt_id = await generation(runner, engine)
    jobs = await asyncio.gather(runner.cancel(prompt_id), runner.cancel(prompt_id))
    assert [job.status for job in jobs] == ["cancelled", "cancelled"]
    assert set(engine.withdrawn) == {prompt_id}


async def test_cancelling_an_ended_job_leaves_it_done(runner: JobRunner, engine: SteeredEngine):
    prompt_id = runner.start(REQUEST)
    engine.steps()
    done = await ended(runner, prompt_id)
    assert await runner.cancel(prompt_id) is done
    assert engine.withdrawn == []


async def test_a_job_is_cancelled_also_when_the_engine_cannot_be_told(runner: JobRunner, engine: SteeredEngine):
    engine.refusal = engine.failure = EngineUnreachable("It is off.")
    prompt_id = await generation(runner, engine)
    job = await runner.cancel(prompt_id, seconds=0)
    assert (job.status, job.progress.phase) == ("running", "cancelling")
    job = await runner.cancel(prompt_id, seconds=0.1)
    assert job.untold == "The engine could not be told: It is off."
    engine.steps(2)
    job = await ended(runner, prompt_id)
    assert (job.status, job.error.hint) == ("cancelled", "The engine could not be told: It is off.")


async def test_an_engine_that_fails_oddly_is_told_again(runner: JobRunner, engine: SteeredEngine):
    engine.refusal = AttributeError("oh")
    prompt_id = await generation(runner, engine)
    job = await runner.cancel(prompt_id, seconds=0.1)
    assert (job.status, job.untold) == ("running", "The engine could not be told: AttributeError('oh').")
    engine.refusal = None
    assert (await runner.cancel(prompt_id)).status == "cancelled"


async def test_an_engine_that_does_not_answer_is_not_said_to_be_told(
    runner: JobRunner, engine: SteeredEngine, monkeypatch: pytest.MonkeyPatch
):
    prompt_id = await generation(runner, engine)
    monkeypatch.setattr(engine, "cancel", lambda _: asyncio.Event().wait())
    assert (await runner.cancel(prompt_id, seconds=0.01)).untold == "The engine has not answered yet."


async def test_a_job_that_arrives_at_the_engine_after_the_cancel_is_taken_back_all_the_same(
    runner: JobRunner, engine: SteeredEngine
):
    engine.sending = anyio.Event()
    prompt_id = runner.start(REQUEST)
    await reached_journal(runner, prompt_id)
    cancelling = asyncio.ensure_future(runner.cancel(prompt_id))
    while not engine.withdrawn:
        await anyio.sleep(0.001)
    engine.sending.set()
    assert (await cancelling).status == "cancelled"
    assert prompt_id in engine.let_go


async def test_a_job_is_cancelling_until_it_has_ended(
    runner: JobRunner, engine: SteeredEngine, monkeypatch: pytest.MonkeyPatch
):
    """Also while nothing of it but its withdrawal is left."""
    engine.sending = anyio.Event()
    prompt_id = runner.start(REQUEST)
    await reached_journal(runner, prompt_id)
    cancel, told_again, go_on = engine.cancel, asyncio.Event(), asyncio.Event()

    async def cancel_slowly(prompt_id: str) -> bool:
        if engine.withdrawn:
            told_again.set()
            await go_on.wait()
        return await cancel(prompt_id)

    monkeypatch.setattr(engine, "cancel", cancel_slowly)
    cancelling = asyncio.ensure_future(runner.cancel(prompt_id))
    await told_again.wait()
    assert (await runner.find(prompt_id)).progress.phase == "cancelling"
    watching = asyncio.ensure_future(ended(runner, prompt_id))
    await anyio.wait_all_tasks_blocked()
    go_on.set()
    assert [(await cancelling).status, (await watching).status] == ["cancelled", "cancelled"]


async def test_nothing_is_kept_of_a_call_that_cancelled(runner: JobRunner, engine: SteeredEngine):
    prompt_id = await generation(runner, engine)
    await runner.cancel(prompt_id)
    await anyio.wait_all_tasks_blocked()
    entry = runner._roster[prompt_id]
    assert (entry.task, entry.withdrawal, entry.at_work) == (None, None, False)


async def test_a_cancel_is_verified_until_the_engine_lets_go(runner: JobRunner, engine: SteeredEngine):
    """It may be loading a model, deaf to interrupts."""
    engine.holds_on = 3
    prompt_id = await generation(runner, engine)
    job = await runner.cancel(prompt_id)
    assert (job.status, engine.withdrawn) == ("cancelled", [prompt_id] * 4)


async def test_a_job_that_is_being_cancelled_says_so_whatever_the_engine_tells(
    runner: JobRunner, engine: SteeredEngine
):
    engine.holds_on = 10**9
    prompt_id = await generation(runner, engine)
    await runner.cancel(prompt_id, seconds=0)
    engine.steps(1)
    with anyio.fail_after(5):
        async for job in runner.watch(prompt_id, seconds=60):  # noqa: B007
            if engine.go.locked():
                break
    assert job.progress.describe() == "cancelling"


async def test_an_image_that_was_finished_before_the_cancel_took_effect_is_kept(
    runner: JobRunner, engine: SteeredEngine
):
    engine.holds_on = 10**9
    prompt_id = await generation(runner, engine)
    await runner.cancel(prompt_id, seconds=0)
    engine.steps(2)
    job = await ended(runner, prompt_id)
    assert job.status == "done"
    assert job.images[0].path.is_file()


async def test_a_job_of_another_client_of_the_engine_is_not_cancelled(runner: JobRunner, engine: SteeredEngine):
    engine.known.add("theirs")
    with pytest.raises(JobOfAnother):
        await runner.cancel("theirs")
    assert engine.withdrawn == []
