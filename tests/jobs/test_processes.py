"""JobRunner: several processes, jobs of others, and what is remembered."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from mcp_image_gen_local.domain.errors import EngineUnreachable, OutOfMemory, PromptUnknown
from mcp_image_gen_local.jobs import JobRunner, entry
from mcp_image_gen_local.jobs.roster import MAX_REMEMBERED
from mcp_image_gen_local.storage.images import ImageStore
from tests.jobs.steps import (
    REQUEST,
    ended,
    generation,
    ids,
    left_behind,
    look_for_orphans,
    reached,
    reached_follow,
    reached_journal,
)
from tests.steered_engine import SteeredEngine


async def test_a_job_that_another_process_is_about_to_send_is_neither_lost_nor_counted(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    engine.sending = anyio.Event()
    one, other = make(), make()
    prompt_id = one.start(REQUEST)
    await reached_journal(other, prompt_id)
    assert (await other.find(prompt_id)).status == "queued"
    assert not any(entry.at_work for entry in other._roster)
    engine.sending.set()
    engine.steps()
    assert (await ended(one, prompt_id)).status == "done"
    assert (await other.find(prompt_id)).status == "done"


async def test_a_job_that_is_cancelled_elsewhere_while_it_is_sent_is_taken_back(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    engine.sending = anyio.Event()
    one, other = make(), make()
    prompt_id = one.start(REQUEST)
    await reached_journal(other, prompt_id)
    assert (await other.cancel(prompt_id)).status == "cancelled"
    assert prompt_id not in engine.let_go
    engine.sending.set()
    assert (await ended(one, prompt_id)).status == "cancelled"
    assert prompt_id in engine.let_go


async def test_a_job_that_is_cancelled_elsewhere_is_taken_back_from_an_engine_that_only_its_own_process_reaches(
    make: Callable[..., JobRunner], engine: SteeredEngine, tmp_path: Path
):
    one = make()
    other = JobRunner(SteeredEngine(), ImageStore(tmp_path / "images"), one._journal, timeout_seconds=60)
    prompt_id = await generation(one, engine)
    assert (await other.cancel(prompt_id)).status == "cancelled"
    assert (await ended(one, prompt_id)).status == "cancelled"
    assert engine.withdrawn == [prompt_id]
    await other.aclose()


async def test_a_job_that_is_cancelled_while_another_process_looks_for_it_stays_cancelled(
    make: Callable[..., JobRunner], engine: SteeredEngine, monkeypatch: pytest.MonkeyPatch
):
    one, slow, quick = make(), make(), make()
    prompt_id = await left_behind(one, engine)
    recall, asked, answer = engine.recall, asyncio.Event(), asyncio.Event()

    async def recall_slowly(prompt_id: str) -> None:
        monkeypatch.setattr(engine, "recall", recall)
        asked.set()
        await answer.wait()
        engine.known.discard(prompt_id)

    monkeypatch.setattr(engine, "recall", recall_slowly)
    looking = asyncio.ensure_future(slow.find(prompt_id))
    await asked.wait()
    assert (await quick.cancel(prompt_id)).status == "cancelled"
    answer.set()
    assert (await looking).status == "cancelled"
    assert (await quick._journal.get(prompt_id)).status == "cancelled"


async def test_trouble_of_a_process_that_only_asks_does_not_end_the_job(
    make: Callable[..., JobRunner], engine: SteeredEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(entry, "OWNER_SECONDS", 0.1)
    one, theirs = make(), SteeredEngine()
    prompt_id = await generation(one, engine)
    (tmp_path / "taken").write_text("a file")
    other = JobRunner(theirs, ImageStore(tmp_path / "taken"), one._journal, timeout_seconds=60)
    theirs.known.add(prompt_id)
    theirs.steps()
    await other.find(prompt_id)
    assert (await ended(other, prompt_id)).error.code == "output_not_writable"
    assert (await one._journal.get(prompt_id)).status == "running"
    engine.steps(2)
    assert (await ended(one, prompt_id)).status == "done"
    await other.aclose()


async def test_a_process_that_ends_while_it_takes_a_job_over_lets_go_of_it(
    make: Callable[..., JobRunner], engine: SteeredEngine, monkeypatch: pytest.MonkeyPatch
):
    one, other, third = make(), make(), make()
    prompt_id = await left_behind(one, engine)
    asked = asyncio.Event()

    async def recall(prompt_id: str) -> None:
        if prompt_id != "unknown":
            asked.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(engine, "recall", recall)
    await look_for_orphans(other)
    await asked.wait()
    await other.aclose()
    assert not third._journal.is_looked_after(await third._journal.get(prompt_id))


async def test_a_job_that_another_process_looks_after_is_not_recovered(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    one, other = make(), make()
    theirs = one.start(REQUEST)
    engine.steps(1)
    await reached(one, theirs, 1)
    await look_for_orphans(other)
    await anyio.wait_all_tasks_blocked()
    assert theirs not in ids(other)
    await one.aclose()
    async with asyncio.timeout(5):
        while theirs not in ids(other):
            await asyncio.sleep(0.01)
    engine.steps()
    assert (await ended(other, theirs)).status == "done"


# -- remembering --------------------------------------------------------------------------------------


async def test_ended_jobs_are_forgotten_oldest_first_and_read_from_the_journal_again(
    runner: JobRunner, engine: SteeredEngine
):
    engine.failure = OutOfMemory("No memory.")
    running = runner.start(REQUEST)
    await reached_follow(engine, running)
    engine.steps(3 * (MAX_REMEMBERED + 10))
    begun = [running]
    for _ in range(MAX_REMEMBERED + 9):
        begun.append(runner.start(REQUEST))
        await ended(runner, begun[-1])
    assert len(runner._roster) <= MAX_REMEMBERED + 2
    assert (await runner.find(begun[-1])).status == "failed"
    assert begun[0] not in ids(runner)
    assert (await runner.find(begun[0])).error.code == "out_of_memory"
    assert len(engine.followed) == MAX_REMEMBERED + 10


async def test_a_job_of_another_process_is_taken_over_and_saved(runner: JobRunner, engine: SteeredEngine):
    engine.known.add("theirs")
    engine.steps()
    assert (await runner.find("theirs")).status == "queued"
    job = await ended(runner, "theirs")
    assert (job.status, job.images[0].seed) == ("done", None)
    assert job.images[0].path.name.endswith("_random.png")


async def test_two_who_ask_at_once_take_a_job_over_once(runner: JobRunner, engine: SteeredEngine):
    engine.known.add("theirs")
    await asyncio.gather(*(runner.find("theirs") for _ in range(5)))
    engine.steps()
    assert (await ended(runner, "theirs")).status == "done"
    assert engine.followed == ["theirs"]


async def test_all_who_ask_at_once_for_a_job_that_its_engine_lost_hear_so(
    make: Callable[..., JobRunner], engine: SteeredEngine
):
    one, other = make(), make()
    prompt_id = await left_behind(one, engine)
    engine.known.clear()
    jobs = await asyncio.gather(*(other.find(prompt_id) for _ in range(5)))
    assert [job.status for job in jobs] == ["lost"] * 5


async def test_all_who_ask_at_once_while_the_engine_is_away_hear_so_each_with_an_error_of_their_own(
    runner: JobRunner, engine: SteeredEngine, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    async def recall(prompt_id: str) -> None:
        asked.append(prompt_id)
        await asyncio.sleep(0)
        raise EngineUnreachable("It is off.")

    monkeypatch.setattr(engine, "recall", recall)
    errors = await asyncio.gather(*(runner.find("theirs") for _ in range(5)), return_exceptions=True)
    assert [str(error) for error in errors] == ["It is off."] * 5
    assert len(set(map(id, errors))) == 5
    assert asked == ["theirs"]


async def test_closing_while_a_job_is_looked_for_leaves_no_task(
    runner: JobRunner, engine: SteeredEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "recall", lambda _: asyncio.Event().wait())
    looking = asyncio.ensure_future(runner.find("theirs"))
    await anyio.wait_all_tasks_blocked()
    await runner.aclose()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("find-")]


@pytest.mark.parametrize("prompt_id", ["nope", "", "../queue", "a" * 10_000])
async def test_a_job_that_nobody_knows_is_unknown(runner: JobRunner, prompt_id: str):
    with pytest.raises(PromptUnknown):
        await runner.find(prompt_id)


async def test_a_job_that_lost_its_engine_is_tried_again_when_asked_for(runner: JobRunner, engine: SteeredEngine):
    engine.failure = EngineUnreachable("It is off.")
    prompt_id = runner.start(REQUEST)
    engine.steps()
    assert (await ended(runner, prompt_id)).status == "failed"
    engine.failure = None
    engine.steps()
    assert (await runner.find(prompt_id)).status == "queued"
    assert (await ended(runner, prompt_id)).status == "done"


async def test_closing_leaves_the_engines_jobs_alone(runner: JobRunner, engine: SteeredEngine):
    prompt_id = await generation(runner, engine)
    with anyio.fail_after(5):
        await runner.aclose()
    assert engine.withdrawn == []
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("job-")]
    assert prompt_id in engine.known
