"""The job store: one suite over the file and the memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mcp_image_gen_local.domain.errors import OutOfMemory
from mcp_image_gen_local.domain.job import CallEnd, Job, JobStatus
from mcp_image_gen_local.storage.job_store import FAR_SECONDS, Beat, JobStore, Orphan, Standing, is_live
from mcp_image_gen_local.storage.memory_jobs import MemoryJobs
from mcp_image_gen_local.storage.sqlite_jobs import SQLiteJobs
from tests.storage.jobs import PLAN, PROGRESS, TICKET, image, job

NOW = 1_800_000_000.0  #: seconds since 1970
Store = Callable[[], JobStore]


class Clock:
    """A wall clock that a test sets."""

    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "memory"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    """Return a function that opens the user's jobs, as each process does."""
    memory, opened = MemoryJobs(clock=clock), list[JobStore]()

    def open_another() -> JobStore:
        opened.append(memory if request.param == "memory" else SQLiteJobs(tmp_path / "state", clock=clock))
        return opened[-1]

    yield open_another
    for each in opened:
        await each.aclose()


@pytest.fixture
def store(open_store: Store) -> JobStore:
    return open_store()


async def created(store: JobStore, job: Job, owner: str = "me", seconds: float = 15.0, image_count: int = 1) -> Job:
    """Store the job and return it."""
    stored = await store.create(job, image_count=image_count, owner=owner, seconds=seconds)
    assert stored
    return stored


def facts(job: Job | None) -> Job:
    """Return the job without what differs from process to process."""
    assert job
    return replace(job, started=0.0, ended=None if job.ended is None else 0.0)


# -- create, get, update ------------------------------------------------------------------------------


async def test_a_new_job_is_leased_and_named(store: JobStore):
    written = job()
    stored = await created(store, written, seconds=15)
    assert stored == replace(written, lease_until=NOW + 15, filename_ms=int(NOW * 1000))
    assert facts(await store.get(written.job_id)) == facts(stored)


async def test_a_job_is_stored_once(open_store: Store):
    """The second process learns that it was late, and changes nothing."""
    written, other = job(), open_store()
    first = await created(open_store(), written)
    late = replace(written, request={"prompt": "another"})
    assert await other.create(late, image_count=1, owner="they", seconds=99) is None
    assert facts(await other.get(written.job_id)) == facts(first)


async def test_a_job_returns_as_it_was_written(open_store: Store):
    stored = await created(open_store(), job())
    running = replace(stored, status=JobStatus.RUNNING, plan=PLAN, ticket=TICKET, notes=("a", "b"), images=(image(),))
    assert await open_store().update(running, owner="me") == Standing(is_held=True, cancel_requested=False)
    read = await open_store().get(stored.job_id)
    assert facts(read) == facts(running)
    assert abs(read.started - running.started) < 5
    assert abs(time.monotonic() - read.started - read.seconds) < 1


async def test_an_ended_job_keeps_its_seconds(open_store: Store):
    stored = await created(open_store(), job())
    final = replace(stored, status=JobStatus.DONE, images=(image(0), image(1)), ended=stored.started + 2.5, plan=PLAN)
    await open_store().update(final, owner="me")
    read = await open_store().get(stored.job_id)
    assert read.seconds == pytest.approx(2.5)
    assert facts(read) == facts(replace(final, lease_until=0.0))


async def test_a_plan_is_stored_without_its_payload(store: JobStore):
    stored = await created(store, job())
    await store.update(replace(stored, plan=replace(PLAN, payload={"graph": 1})), owner="me")
    assert (await store.get(stored.job_id)).plan == PLAN


async def test_an_error_keeps_kind_and_texts(store: JobStore):
    stored = await created(store, job())
    error = OutOfMemory("No \udcff.", hint="Less.")
    await store.update(replace(stored, status=JobStatus.FAILED, error=error, ended=time.monotonic()), owner="me")
    read = (await store.get(stored.job_id)).error
    assert (type(read), read.message, read.hint) == (OutOfMemory, "No \udcff.", "Less.")


async def test_a_foreign_job_has_no_request(store: JobStore):
    stored = await created(store, job(request=None, plan=PLAN))
    read = await store.get(stored.job_id)
    assert (read.request, read.is_foreign, read.plan) == (None, True, PLAN)


async def test_an_unknown_job_is_none(store: JobStore):
    assert await store.get("nope") is None
    assert await store.watch("nope", seconds=5) is None
    assert await store.claim("nope", owner="me", seconds=5) is None
    await store.request_cancel("nope")
    await store.write_progress(job(job_id="nope", progress=PROGRESS), owner="me")
    await store.forget(["nope"])
    await store.release(["nope"], owner="me")
    assert await store.renew(["nope"], owner="me", seconds=5) == Beat()
    assert await store.recent(9) == []


async def test_only_the_holder_updates(open_store: Store):
    """A process that lost its lease may not overwrite the images of the one that has it."""
    mine, theirs = open_store(), open_store()
    stored = await created(mine, job())
    done = replace(stored, images=(image(),))
    await mine.update(done, owner="me")
    late = replace(stored, status=JobStatus.FAILED, images=(), plan=None, ended=1.0, cancel_requested=True)
    assert await theirs.update(late, owner="they") == Standing(is_held=False)
    assert facts(await mine.get(stored.job_id)) == facts(done)


async def test_an_ended_job_has_no_holder(store: JobStore):
    stored = await created(store, job())
    final = replace(stored, status=JobStatus.FAILED, ended=stored.started)
    await store.update(final, owner="me")
    read = await store.get(stored.job_id)
    assert (read.lease_until, store.is_leased(read)) == (0.0, False)
    again = replace(stored, status=JobStatus.RUNNING)
    assert await store.update(again, owner="me") == Standing(is_held=False)
    assert (await store.get(stored.job_id)).status == "failed"


async def test_a_deleted_job_is_stored_again(store: JobStore, clock: Clock):
    """Its next write brings it back, held until the next heartbeat at least."""
    stored = await created(store, job(plan=PLAN))
    await store.forget([stored.job_id])
    clock.now += 3600
    assert await store.update(replace(stored, images=(image(),)), owner="me") == Standing()
    read = await store.get(stored.job_id)
    assert (read.images, read.request, read.filename_ms) == ((image(),), stored.request, stored.filename_ms)
    assert store.is_leased(read)
    assert await store.claim(stored.job_id, owner="they", seconds=5) is None
    assert await store.update(stored, owner="me") == Standing()


async def test_a_deleted_job_that_ends_is_free(store: JobStore):
    stored = await created(store, job())
    await store.forget([stored.job_id])
    final = replace(stored, status=JobStatus.DONE, images=(image(),), ended=stored.started)
    assert await store.update(final, owner="me") == Standing()
    read = await store.get(stored.job_id)
    assert (read.status, store.is_leased(read)) == ("done", False)
    assert await store.claim(stored.job_id, owner="they", seconds=5) is not None


# -- leases -------------------------------------------------------------------------------------------


async def test_a_held_job_is_not_claimed(store: JobStore, clock: Clock):
    stored = await created(store, job(), seconds=15)
    assert store.is_leased(stored)
    clock.now += 14.9
    assert await store.claim(stored.job_id, owner="they", seconds=5) is None
    assert await store.update(stored, owner="me") == Standing()


async def test_an_expired_lease_is_claimed(store: JobStore, clock: Clock):
    stored = await created(store, job(), seconds=15)
    clock.now += 15
    assert not store.is_leased(stored)
    claimed = await store.claim(stored.job_id, owner="they", seconds=5)
    assert facts(claimed) == facts(replace(stored, lease_until=clock.now + 5))
    assert await store.update(stored, owner="me") == Standing(is_held=False)
    assert await store.update(claimed, owner="they") == Standing()


async def test_one_of_many_claims(open_store: Store, clock: Clock):
    stored = await created(open_store(), job(), seconds=15)
    clock.now += 60
    stores = [open_store() for _ in range(8)]
    claims = await asyncio.gather(
        *(each.claim(stored.job_id, owner=f"p{n}", seconds=15) for n, each in enumerate(stores))
    )
    assert sum(claim is not None for claim in claims) == 1


async def test_a_holder_may_claim_again(store: JobStore):
    stored = await created(store, job())
    assert (await store.claim(stored.job_id, owner="me", seconds=99)).lease_until == NOW + 99


async def test_a_heartbeat_extends_leases(store: JobStore, clock: Clock):
    first, second = await created(store, job()), await created(store, job())
    clock.now += 10
    assert await store.renew([first.job_id, second.job_id], owner="me", seconds=15) == Beat()
    for each in (first, second):
        assert (await store.get(each.job_id)).lease_until == clock.now + 15
        assert await store.claim(each.job_id, owner="they", seconds=5) is None


async def test_a_heartbeat_finds_lost_jobs(store: JobStore, clock: Clock):
    kept, lost = await created(store, job()), await created(store, job())
    clock.now += 20
    claimed = await store.claim(lost.job_id, owner="they", seconds=15)
    beat = await store.renew([kept.job_id, lost.job_id, "unknown"], owner="me", seconds=99)
    assert beat == Beat(lost=frozenset({lost.job_id}))
    assert (await store.get(lost.job_id)).lease_until == claimed.lease_until


async def test_a_heartbeat_of_no_job(store: JobStore):
    assert await store.renew([], owner="me", seconds=5) == Beat()


async def test_a_late_heartbeat_keeps_a_free_job(store: JobStore, clock: Clock):
    """A holder that was suspended continues when no other process wanted the job."""
    stored = await created(store, job())
    clock.now += 1000
    assert await store.renew([stored.job_id], owner="me", seconds=15) == Beat()
    assert await store.claim(stored.job_id, owner="they", seconds=5) is None


async def test_a_released_job_is_free(store: JobStore):
    first, second = await created(store, job()), await created(store, job())
    await store.release([first.job_id, second.job_id], owner="they")
    assert store.is_leased(await store.get(first.job_id))
    await store.release([first.job_id, second.job_id], owner="me")
    for each in (first, second):
        read = await store.get(each.job_id)
        assert (read.lease_until, store.is_leased(read)) == (0.0, False)
        assert await store.claim(each.job_id, owner="they", seconds=5)


@pytest.mark.parametrize("jump", [-10_000.0, 10_000.0])
async def test_a_clock_that_jumps_holds_no_job(store: JobStore, clock: Clock, jump: float):
    """A lease that ends in an hour or more is that of a clock that was set back."""
    stored = await created(store, job())
    clock.now += jump
    assert not store.is_leased(stored)
    assert await store.claim(stored.job_id, owner="they", seconds=5)


async def test_a_small_jump_back_is_no_matter(store: JobStore, clock: Clock):
    stored = await created(store, job())
    clock.now -= 60
    assert store.is_leased(stored)
    assert await store.claim(stored.job_id, owner="they", seconds=5) is None


def test_a_lease_has_two_ends():
    assert [is_live(until, 100.0) for until in (0.0, 99.0, 100.0, 100.1)] == [False, False, False, True]
    assert [is_live(100.0 + FAR_SECONDS + late, 100.0) for late in (0.0, 0.1)] == [True, False]


# -- requests of others -------------------------------------------------------------------------------


async def test_a_cancel_request_is_a_flag(open_store: Store):
    """The holder reads it with a write and with a heartbeat; a write does not clear it."""
    mine, theirs = open_store(), open_store()
    stored, other = await created(mine, job()), await created(mine, job())
    await theirs.request_cancel(stored.job_id)
    assert await mine.renew([stored.job_id, other.job_id], owner="me", seconds=5) == Beat(
        cancel_requested=frozenset({stored.job_id})
    )
    assert await mine.update(stored, owner="me") == Standing(cancel_requested=True)
    read = await theirs.get(stored.job_id)
    assert (read.status, read.cancel_requested) == ("queued", True)
    assert not (await theirs.get(other.job_id)).cancel_requested


async def test_a_cancel_request_outlives_a_holder(store: JobStore, clock: Clock):
    stored = await created(store, job())
    await store.request_cancel(stored.job_id)
    clock.now += 20
    assert (await store.claim(stored.job_id, owner="they", seconds=5)).cancel_requested


async def test_a_cancel_request_ends_with_its_job(store: JobStore):
    """Who claims an ended job, to fetch an image again, is not asked to cancel that."""
    stored = await created(store, job())
    await store.request_cancel(stored.job_id)
    await store.update(replace(stored, status=JobStatus.DONE, images=(image(),), ended=stored.started), owner="me")
    assert (await store.get(stored.job_id)).cancel_requested
    assert not (await store.claim(stored.job_id, owner="they", seconds=5)).cancel_requested
    assert await store.renew([stored.job_id], owner="they", seconds=5) == Beat()


async def test_a_watcher_asks_for_progress(open_store: Store, clock: Clock):
    mine, theirs = open_store(), open_store()
    stored, other = await created(mine, job()), await created(mine, job())
    assert facts(await theirs.watch(stored.job_id, seconds=5)) == facts(stored)
    both = [stored.job_id, other.job_id]
    assert await mine.renew(both, owner="me", seconds=99) == Beat(watched=frozenset({stored.job_id}))
    clock.now += 4.9
    assert (await mine.renew(both, owner="me", seconds=99)).watched == {stored.job_id}
    clock.now += 0.1
    assert await mine.renew(both, owner="me", seconds=99) == Beat()


async def test_progress_is_there_for_watchers(open_store: Store):
    mine, theirs = open_store(), open_store()
    stored = await created(mine, job())
    await mine.write_progress(replace(stored, status=JobStatus.RUNNING, progress=PROGRESS), owner="me")
    read = await theirs.watch(stored.job_id, seconds=5)
    assert (read.status, read.progress) == ("running", PROGRESS)
    await mine.write_progress(
        replace(stored, status=JobStatus.RUNNING, progress=replace(PROGRESS, preview=None)), owner="me"
    )
    assert (await theirs.get(stored.job_id)).progress == replace(PROGRESS, preview=None)


async def test_only_the_holder_writes_progress(store: JobStore):
    stored = await created(store, job())
    await store.write_progress(replace(stored, status=JobStatus.RUNNING, progress=PROGRESS), owner="they")
    assert facts(await store.get(stored.job_id)) == facts(stored)


async def test_progress_ends_with_its_job(store: JobStore):
    stored = await created(store, job())
    await store.write_progress(replace(stored, progress=PROGRESS), owner="me")
    await store.update(replace(stored, status=JobStatus.RUNNING), owner="me")
    assert (await store.get(stored.job_id)).progress == PROGRESS
    final = replace(stored, status=JobStatus.DONE, images=(image(),), ended=stored.started, progress=PROGRESS)
    await store.update(final, owner="me")
    assert (await store.get(stored.job_id)).progress is None
    await store.write_progress(replace(stored, progress=PROGRESS), owner="me")
    read = await store.get(stored.job_id)
    assert (read.progress, read.status) == (None, "done")


# -- lists --------------------------------------------------------------------------------------------


async def test_recent_jobs_come_newest_first(store: JobStore):
    ids = [(await created(store, job(status=status))).job_id for status in (JobStatus.DONE, JobStatus.FAILED) * 2]
    assert [each.job_id for each in await store.recent(3)] == [ids[3], ids[2], ids[1]]
    assert [each.job_id for each in await store.recent(9)] == ids[::-1]
    assert [each.job_id for each in await store.recent(9, [JobStatus.FAILED])] == [ids[3], ids[1]]
    assert [each.job_id for each in await store.recent(1, [JobStatus.DONE, JobStatus.LOST])] == [ids[2]]
    assert await store.recent(9, [JobStatus.LOST]) == []


async def test_unfinished_jobs_are_of_one_engine(store: JobStore):
    ours = [await created(store, job(status=status)) for status in (JobStatus.RUNNING, JobStatus.QUEUED)]
    await created(store, job(url="http://other"))
    await created(store, job(engine="builtin"))
    for status in (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.LOST):
        await created(store, job(status=status))
    found = await store.unfinished("comfyui", "http://gpu")
    assert [each.job_id for each in found] == [each.job_id for each in ours]


async def test_forgotten_jobs_are_gone(store: JobStore):
    first, second, third = [await created(store, job()) for _ in range(3)]
    await store.forget([first.job_id, third.job_id])
    assert [each.job_id for each in await store.recent(9)] == [second.job_id]
    assert await store.get(first.job_id) is None


async def test_a_store_that_works_has_no_warning(store: JobStore):
    await created(store, job())
    assert (store.problem, store.take_warning()) == ("", "")


# -- names of files -----------------------------------------------------------------------------------


async def test_no_two_images_share_a_name(open_store: Store, clock: Clock):
    """Though the clock stands or goes back, and several processes store jobs."""
    stores = [open_store(), open_store()]
    names: list[int] = []
    for turn, (at, count) in enumerate([(5.0, 3), (5.0, 1), (4.999, 2), (5.0, 1), (1.0, 4), (1.003, 1), (5.008, 1)]):
        clock.now = at
        stored = await created(stores[turn % 2], job(), image_count=count)
        names += range(stored.filename_ms, stored.filename_ms + count)
        assert stored.filename_ms == (await stores[0].get(stored.job_id)).filename_ms
    assert len(set(names)) == len(names) == 13
    assert names[:3] == [5000, 5001, 5002]
    assert names[7:11] == [1000, 1001, 1002, 1003]


async def test_a_name_is_the_next_free_one(store: JobStore, clock: Clock):
    clock.now = 5.0
    taken = [(await created(store, job(), image_count=2)).filename_ms for _ in range(3)]
    assert taken == [5000, 5002, 5004]
    clock.now = 4.998
    assert (await created(store, job(), image_count=2)).filename_ms == 4998
    clock.now = 4.997
    assert (await created(store, job(), image_count=2)).filename_ms == 5006


async def test_many_processes_name_files_at_once(open_store: Store):
    stores = [open_store() for _ in range(4)]
    jobs = [job() for _ in range(40)]
    stored = await asyncio.gather(
        *(each.create(one, image_count=2, owner="me", seconds=5) for one, each in zip(jobs, stores * 10, strict=True))
    )
    names = [name for each in stored for name in (each.filename_ms, each.filename_ms + 1)]
    assert len(set(names)) == 80
    assert {each.job_id for each in await stores[0].recent(100)} == {each.job_id for each in jobs}


# -- jobs whose call got no answer ----------------------------------------------------------------------------------


async def left(
    store: JobStore, *, at: float = NOW, caller: str = "", end: CallEnd = CallEnd.TIMED_OUT, **fields
) -> Job:
    """Return a stored job whose call ended without an answer."""
    given = await created(store, job(**fields))
    assert await store.leave(Orphan(job_id=given.job_id, at=at, end=end), caller=caller)
    return given


async def take(store: JobStore, of: Job, **changes: object) -> Orphan | None:
    """Take a job that was left with the request of this one."""
    given = {"engine": of.engine, "url": of.url, "caller": "", "seconds": 600.0, **changes}
    return await store.take(given.pop("request", of.request), **given)


@pytest.mark.parametrize("end", [CallEnd.TIMED_OUT, CallEnd.GONE])
async def test_a_job_that_was_left_is_taken_once(open_store: Store, end: CallEnd):
    one, other = open_store(), open_store()
    wanted = await left(one, end=end)
    taken = await asyncio.gather(*(take(store, wanted) for store in (one, other)))
    assert [each for each in taken if each] == [Orphan(job_id=wanted.job_id, at=NOW, end=end)]
    assert (await one.get(wanted.job_id)).status == "queued"


@pytest.mark.parametrize(
    "changes",
    [{"engine": "builtin"}, {"url": "http://other"}, {"caller": "another"}, {"request": {"prompt": "a hen"}}],
)
async def test_a_job_is_left_to_one_kind_of_call(store: JobStore, changes: dict[str, object]):
    wanted = await left(store)
    assert await take(store, wanted, **changes) is None
    assert (await take(store, wanted)).job_id == wanted.job_id


async def test_a_job_is_left_for_some_time(store: JobStore, clock: Clock):
    wanted = await left(store)
    clock.now += 601
    assert await take(store, wanted) is None
    assert (await take(store, wanted, seconds=602.0)).job_id == wanted.job_id


async def test_the_newest_job_that_was_left(store: JobStore):
    await left(store, at=NOW - 5)
    newest = await left(store, at=NOW)
    await left(store, at=NOW - 9)
    assert (await take(store, newest)).job_id == newest.job_id


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.LOST])
async def test_a_job_that_ended_badly_is_left_alone(store: JobStore, status: JobStatus):
    wanted = await left(store)
    await store.update(replace(wanted, status=status, ended=wanted.started), owner="me")
    assert await take(store, wanted) is None


async def test_a_job_that_is_done_can_be_taken(store: JobStore):
    wanted = await left(store)
    await store.update(replace(wanted, status=JobStatus.DONE, images=(image(),), ended=wanted.started), owner="me")
    assert (await take(store, wanted)).job_id == wanted.job_id


async def test_a_job_that_is_to_be_cancelled_is_not_taken(store: JobStore):
    wanted = await left(store)
    await store.request_cancel(wanted.job_id)
    assert await take(store, wanted) is None


async def test_a_job_that_was_handed_over_is_not_taken(store: JobStore):
    wanted = await left(store)
    await store.hand_over(wanted.job_id)
    await store.hand_over("nobody's")
    assert await take(store, wanted) is None


async def test_an_unknown_job_cannot_be_left(store: JobStore):
    assert not await store.leave(Orphan(job_id="nobody's", at=NOW, end=CallEnd.GONE), caller="")


async def test_a_job_remembers_that_it_was_sent_again(store: JobStore):
    given = await created(store, job())
    await store.update(replace(given, requeues=1), owner="me")
    assert (await store.get(given.job_id)).requeues == 1
