"""Leases: one process works on a job, all others read the store."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mcp_image_gen_local.domain.errors import EngineUnreachable, GenerationCancelled, ImageGenError
from mcp_image_gen_local.domain.job import Job
from mcp_image_gen_local.jobs import JobRunner
from tests.jobs.conftest import Clock
from tests.jobs.steps import (
    REQUEST,
    done,
    ended,
    generation,
    ids,
    kill,
    left_behind,
    reached,
    store_of,
    stored,
    suspend,
    until,
)
from tests.scripted_engine import ScriptedEngine

Make = Callable[..., JobRunner]
EXPIRY = 20.0  #: seconds; longer than a lease
NEVER = 3600.0  #: seconds


def spy(monkeypatch: pytest.MonkeyPatch, target: object, method: str) -> list[tuple[Any, ...]]:
    """Return the arguments of each call of the method, from now on."""
    original, calls = getattr(target, method), []

    async def noted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return await original(*args, **options)

    monkeypatch.setattr(target, method, noted)
    return calls


# -- the holder and those who watch -------------------------------------------------------------------


async def test_only_the_holder_asks_the_engine(make: Make, engine: ScriptedEngine):
    holder, other = make(), make()
    job_id = await generation(holder, engine)
    assert (await other.find(job_id)).status == "running"
    engine.steps(2)
    job = await ended(other, job_id)
    assert (job.status, job.images[0].path.is_file()) == ("done", True)
    assert (engine.followed, engine.looked_up) == ([job_id], [])


async def test_a_watcher_sees_step_and_preview(make: Make, engine: ScriptedEngine):
    engine.preview = b"a small image"
    holder, other = make(), make()
    job_id = await generation(holder, engine)
    for step in (1, 2):
        job = await reached(other, job_id, step)
        assert (job.status, job.progress.steps, job.progress.preview) == ("running", 3, engine.preview)
        engine.steps(1)
    assert (await ended(other, job_id)).status == "done"
    assert (await store_of(other).get(job_id)).progress is None


async def test_progress_is_stored_for_watchers_only(make: Make, engine: ScriptedEngine, monkeypatch):
    holder = make()
    written, renewed = spy(monkeypatch, store_of(holder), "write_progress"), spy(monkeypatch, store_of(holder), "renew")
    job_id = await generation(holder, engine)
    await until(lambda: len(renewed) >= 3)
    assert written == []
    assert (await store_of(holder).get(job_id)).progress is None


async def test_each_progress_is_stored_once(make: Make, engine: ScriptedEngine, monkeypatch):
    """At a heartbeat, however many steps there were since the last one."""
    holder, other = make(), make()
    written, renewed = spy(monkeypatch, store_of(holder), "write_progress"), spy(monkeypatch, store_of(holder), "renew")
    job_id = holder.start(REQUEST)
    engine.steps(2)
    await reached(holder, job_id, 2)
    watching = asyncio.ensure_future(ended(other, job_id))
    await until(lambda: len(written) >= 1)
    seen = len(renewed)
    await until(lambda: len(renewed) >= seen + 3)
    assert [job.progress.step for (job,) in written] == [2]
    engine.steps(1)
    assert (await watching).status == "done"


async def test_progress_is_not_stored_after_a_watcher(make: Make, engine: ScriptedEngine, clock: Clock, monkeypatch):
    holder, other = make(), make()
    renewed = spy(monkeypatch, store_of(holder), "renew")
    job_id = await generation(holder, engine)
    await reached(other, job_id, 1)
    clock.ahead = EXPIRY
    seen = len(renewed)
    await until(lambda: len(renewed) >= seen + 2)
    engine.steps(1)
    await reached(holder, job_id, 2)
    seen = len(renewed)
    await until(lambda: len(renewed) >= seen + 2)
    assert (await store_of(other).get(job_id)).progress.step == 1


async def test_a_heartbeat_keeps_the_lease(make: Make, engine: ScriptedEngine, clock: Clock, monkeypatch):
    holder, other = make(), make()
    renewed = spy(monkeypatch, store_of(holder), "renew")
    job_id = await generation(holder, engine)
    for _ in range(3):
        clock.ahead += 10
        seen = len(renewed)
        await until(lambda seen=seen: len(renewed) >= seen + 2)
        assert (await other.find(job_id)).status == "running"
    assert engine.followed == [job_id]


async def test_an_ended_job_is_not_renewed(make: Make, engine: ScriptedEngine, monkeypatch):
    """What follows its end may take long, while another job is generated."""
    busy = asyncio.Event()
    runner = make(after_done=lambda _: busy.wait())
    renewed = spy(monkeypatch, store_of(runner), "renew")
    first = await done(runner, engine)
    second = await generation(runner, engine)
    assert [each.job.job_id for each in runner._leases.all_active()] == [first.job_id, second]
    renewed.clear()
    await until(lambda: len(renewed) >= 3)
    assert renewed == [([second],)] * len(renewed)
    busy.set()


async def test_a_heartbeat_while_a_job_ends(make: Make, engine: ScriptedEngine, monkeypatch):
    """The row says that no process holds the job, and the process that ended it is not yet back from the store."""
    followed_up, gate = [], asyncio.Event()

    async def note(job: Job) -> None:
        followed_up.append(job.job_id)

    runner = make(after_done=note)
    renewed = spy(monkeypatch, store_of(runner), "renew")
    update = store_of(runner).update

    async def update_slowly(job: Job, **options: Any) -> Any:
        standing = await update(job, **options)
        if job.status.is_final:
            await gate.wait()
        return standing

    monkeypatch.setattr(store_of(runner), "update", update_slowly)
    job_id = runner.start(REQUEST)
    engine.steps()
    await stored(runner, job_id, lambda job: job.status.is_final)
    seen = len(renewed)
    await until(lambda: len(renewed) >= seen + 3)
    gate.set()
    assert (await ended(runner, job_id)).status == "done"
    await until(lambda: followed_up == [job_id])


# -- claims -------------------------------------------------------------------------------------------


async def test_a_lease_that_runs_is_respected(make: Make, engine: ScriptedEngine):
    holder, other = make(), make()
    job_id = await generation(holder, engine)
    await kill(holder)
    assert (await other.find(job_id)).status == "running"
    assert (engine.followed, engine.looked_up, ids(other)) == ([job_id], [], set())


async def test_one_of_many_claims_an_expired_lease(make: Make, engine: ScriptedEngine, clock: Clock):
    holder, others = make(), [make() for _ in range(6)]
    job_id = await generation(holder, engine)
    await kill(holder)
    clock.ahead = EXPIRY
    found = await asyncio.gather(*(other.find(job_id) for other in others))
    assert {job.job_id for job in found} == {job_id}
    assert sum(job_id in ids(other) for other in others) == 1
    watching = [asyncio.ensure_future(ended(other, job_id)) for other in others]
    engine.steps()
    assert [job.status for job in await asyncio.gather(*watching)] == ["done"] * 6
    assert engine.followed == [job_id] * 2


async def test_a_watcher_claims_what_its_holder_left(make: Make, engine: ScriptedEngine, clock: Clock):
    holder, other = make(), make()
    job_id = await generation(holder, engine)
    watching = asyncio.ensure_future(ended(other, job_id))
    await kill(holder)
    clock.ahead = EXPIRY
    engine.steps()
    assert (await watching).status == "done"
    assert engine.followed == [job_id] * 2


async def test_a_released_lease_is_free_at_once(make: Make, engine: ScriptedEngine):
    job_id = await left_behind(make(), engine)
    other = make()
    assert (await other.find(job_id)).status == "running"
    engine.steps()
    assert (await ended(other, job_id)).status == "done"
    assert engine.followed == [job_id] * 2


async def test_one_of_many_adopts_an_unknown_job(make: Make, engine: ScriptedEngine):
    """The store does not have it: another client queued it, or the store is new."""
    engine.known.add("theirs")
    others = [make() for _ in range(4)]
    await asyncio.gather(*(other.find("theirs") for other in others))
    watching = [asyncio.ensure_future(ended(other, "theirs")) for other in others]
    engine.steps()
    assert [job.status for job in await asyncio.gather(*watching)] == ["done"] * 4
    assert engine.followed == ["theirs"]


async def test_a_job_in_another_format_is_not_resent(make: Make, engine: ScriptedEngine, monkeypatch):
    """A row of this id that was there first belongs to another process."""
    runner = make()

    async def taken(job: Job, **_: object) -> None:
        return None

    monkeypatch.setattr(store_of(runner), "create", taken)
    job_id = runner.start(REQUEST)
    await until(lambda: not runner._leases.all_active())
    assert (engine.planned, ids(runner)) == ([], set())
    assert job_id not in engine.known


# -- a holder that was suspended ----------------------------------------------------------------------


@pytest.mark.parametrize("failure", [None, EngineUnreachable("It is off."), GenerationCancelled("No.")])
async def test_a_suspended_holder_stops(
    make: Make, engine: ScriptedEngine, clock: Clock, failure: ImageGenError | None
):
    """It neither writes nor ends the job for others; its own watchers read on in the store."""
    theirs = ScriptedEngine()
    holder, other = make(), make(engine=theirs)
    job_id = await generation(holder, engine)
    watching = asyncio.ensure_future(ended(holder, job_id))
    await suspend(holder)
    clock.ahead = EXPIRY
    theirs.known.add(job_id)
    await other.find(job_id)
    engine.failure = failure
    engine.steps(2)
    await until(lambda: not holder._leases.all_active())
    job = await store_of(other).get(job_id)
    assert (job.status, job.images, job.error, ids(holder)) == ("running", (), None, set())
    theirs.steps()
    assert (await ended(other, job_id)).status == "done"
    assert (await watching).status == "done"
    assert (await holder.find(job_id)).status == "done"
    assert (engine.followed, theirs.followed) == ([job_id], [job_id])


async def test_a_heartbeat_finds_that_a_lease_is_lost(make: Make, engine: ScriptedEngine, clock: Clock):
    theirs = ScriptedEngine()
    holder, other = make(heartbeat=0.3), make(engine=theirs)
    job_id = await generation(holder, engine)
    watching = asyncio.ensure_future(ended(holder, job_id))
    clock.ahead = EXPIRY
    theirs.known.add(job_id)
    await other.find(job_id)
    await until(lambda: not holder._leases.all_active())
    theirs.steps()
    assert (await watching).status == "done"
    assert (engine.cancelled, engine.followed) == ([], [job_id])


async def test_a_lost_job_is_not_progress_of_its_loser(make: Make, engine: ScriptedEngine, clock: Clock):
    theirs = ScriptedEngine()
    holder, other = make(heartbeat=NEVER), make(engine=theirs)
    job_id = await generation(holder, engine)
    active = holder._leases.active(job_id)
    clock.ahead = EXPIRY
    theirs.known.add(job_id)
    await other.find(job_id)
    await active.write_progress()
    assert (await store_of(other).get(job_id)).progress is None


async def test_a_cancel_in_a_process_that_lost(make: Make, engine: ScriptedEngine, clock: Clock):
    """The cancel request is a flag, so the new holder executes it."""
    theirs = ScriptedEngine()
    holder, other = make(heartbeat=NEVER), make(engine=theirs)
    job_id = await generation(holder, engine)
    engine.refusal = EngineUnreachable("It is off.")
    engine.failure = EngineUnreachable("It is off.")
    clock.ahead = EXPIRY
    theirs.known.add(job_id)
    await other.find(job_id)
    cancelling = asyncio.ensure_future(holder.cancel(job_id))
    await engine.arrival("cancel")
    engine.steps(2)
    assert (await cancelling).status == "cancelled"
    assert theirs.stopped == {job_id}
    assert (await ended(other, job_id)).status == "cancelled"


# -- cancel requests of other processes ---------------------------------------------------------------


async def test_the_holder_cancels_for_others(make: Make, engine: ScriptedEngine):
    """Also when only the holder's engine can reach the job."""
    theirs = ScriptedEngine()
    holder, other = make(), make(engine=theirs)
    job_id = await generation(holder, engine)
    assert (await other.cancel(job_id)).status == "cancelled"
    assert (await ended(holder, job_id)).status == "cancelled"
    assert (engine.cancelled, theirs.cancelled) == ([job_id], [])


async def test_a_cancel_request_is_a_flag(make: Make, engine: ScriptedEngine):
    holder, other = make(heartbeat=NEVER), make()
    job_id = await generation(holder, engine)
    job = await other.cancel(job_id, seconds=0)
    assert (job.status, job.cancel_requested, engine.cancelled) == ("running", True, [])
    engine.steps(2)
    assert (await ended(other, job_id)).status == "done"


@pytest.mark.parametrize("point", ["plan", "submit", "submitted"])
async def test_a_cancel_before_the_heartbeat(make: Make, engine: ScriptedEngine, point: str):
    """The holder reads the flag with each write, so that a job that was not sent is never sent."""
    holder, other = make(heartbeat=NEVER), make()
    gate = engine.hold(point)
    job_id = holder.start(REQUEST)
    await engine.arrival(point)
    assert (await other.cancel(job_id, seconds=0)).status == "queued"
    gate.set()
    assert (await ended(holder, job_id)).status == "cancelled"
    assert (await store_of(other).get(job_id)).status == "cancelled"
    assert engine.known == ({job_id} if point != "plan" else set())
    assert engine.stopped == engine.known


async def test_a_cancelled_engine_job_is_asked_about(make: Make, engine: ScriptedEngine):
    """The engine ends the job before the holder has read the flag: it ended by a cancel request."""
    holder, other = make(heartbeat=NEVER), make()
    job_id = await generation(holder, engine)
    await other.cancel(job_id, seconds=0)
    engine.stopped.add(job_id)
    engine.steps(1)
    job = await ended(holder, job_id)
    assert (job.status, job.cancel_requested) == ("cancelled", True)
    assert job.error.message == f"The job {job_id} was cancelled."


async def test_a_watcher_sees_a_cancel_in_progress(make: Make, engine: ScriptedEngine):
    holder, other = make(), make()
    engine.holds_on = 10**9
    job_id = await generation(holder, engine)
    await other.cancel(job_id, seconds=0)
    async with asyncio.timeout(20):
        async for job in other.watch(job_id, seconds=60):
            if job.progress and job.progress.phase == "cancelling":
                break
    assert (job.status, job.progress.status, job.progress.step) == ("running", "running", None)
    engine.holds_on = 0
    assert (await ended(other, job_id)).status == "cancelled"


async def test_a_cancel_and_an_engine_that_is_away(make: Make, engine: ScriptedEngine):
    """The holder has not read the flag when the engine fails: the user wanted the job to end."""
    holder, other = make(heartbeat=NEVER), make()
    job_id = await generation(holder, engine)
    await other.cancel(job_id, seconds=0)
    engine.failure = EngineUnreachable("It is off.")
    engine.steps(2)
    job = await ended(holder, job_id)
    assert (job.status, job.error.hint) == ("cancelled", "The cancel request failed: It is off.")


async def test_a_cancel_while_nobody_holds_the_job(make: Make, engine: ScriptedEngine):
    job_id = await left_behind(make(), engine)
    other = make()
    assert (await other.cancel(job_id)).status == "cancelled"
    assert engine.cancelled == [job_id]


async def test_the_next_holder_cancels(make: Make, engine: ScriptedEngine, clock: Clock):
    """The holder was killed before it read the flag."""
    holder, other, third = make(heartbeat=NEVER), make(), make()
    job_id = await generation(holder, engine)
    await other.cancel(job_id, seconds=0)
    await kill(holder)
    assert (await other.find(job_id)).status == "running"
    clock.ahead = EXPIRY
    await third.find(job_id)
    assert (await ended(third, job_id)).status == "cancelled"
    assert (engine.cancelled, engine.stopped) == ([job_id], {job_id})


async def test_a_job_cancelled_before_its_plan(make: Make, engine: ScriptedEngine, clock: Clock):
    """Its process was killed before anything was sent: the next one has nothing to cancel."""
    holder, other = make(), make()
    engine.hold("plan")
    job_id = holder.start(REQUEST)
    await engine.arrival("plan")
    await kill(holder)
    await store_of(other).request_cancel(job_id)
    clock.ahead = EXPIRY
    job = await other.find(job_id)
    assert (job.status, job.error.code, len(engine.planned)) == ("cancelled", "generation_cancelled", 1)
    assert (await store_of(other).get(job_id)).status == "cancelled"


async def test_a_cancel_while_the_row_is_written(make: Make, engine: ScriptedEngine, monkeypatch):
    """The row is in the store, and the process that wrote it does not know yet."""
    runner, is_written = make(), asyncio.Event()
    create = store_of(runner).create

    async def create_slowly(*args: Any, **options: Any) -> Job | None:
        job = await create(*args, **options)
        is_written.set()
        await asyncio.sleep(NEVER)
        return job

    monkeypatch.setattr(store_of(runner), "create", create_slowly)
    job_id = runner.start(REQUEST)
    await is_written.wait()
    assert (await runner.cancel(job_id)).status == "cancelled"
    assert (await store_of(runner).get(job_id)).status == "cancelled"


async def test_a_cancel_while_a_lookup_is_on_its_way(make: Make, engine: ScriptedEngine):
    """Two processes want a job that nobody holds: one claims it, and cancels it for the other."""
    job_id = await left_behind(make(), engine)
    slow, quick = make(), make()
    gate = engine.hold("lookup")
    looking = asyncio.ensure_future(slow.find(job_id))
    await engine.arrival("lookup")
    cancelling = asyncio.ensure_future(quick.cancel(job_id))
    await stored(quick, job_id, lambda job: job.cancel_requested)
    gate.set()
    await looking
    assert (await cancelling).status == "cancelled"
    assert (await ended(slow, job_id)).status == "cancelled"
    assert engine.looked_up == [job_id]
