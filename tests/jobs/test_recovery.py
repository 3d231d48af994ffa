"""JobRunner: jobs that this process did not begin, after a crash or on another client's behalf."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from mcp_image_gen_local.domain.errors import EngineUnreachable, GenerationLost, OutOfMemory, PromptUnknown
from mcp_image_gen_local.domain.image import ImageRef, SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.jobs import JobRunner
from mcp_image_gen_local.jobs.leases import MAX_REMEMBERED
from mcp_image_gen_local.storage.inputs import refer_to
from tests.comfyui_images import plain
from tests.jobs.conftest import Clock
from tests.jobs.steps import REQUEST, done, ended, generation, ids, kill, left_behind, store_of, stored, until
from tests.scripted_engine import ScriptedEngine

Make = Callable[..., JobRunner]
EXPIRY = 20.0  #: seconds; longer than a lease


async def killed_at(
    point: str, holder: JobRunner, engine: ScriptedEngine, clock: Clock, request: GenerationRequest = REQUEST
) -> str:
    """Start a job, end its process at the point, and let the lease expire; return the job's id."""
    gate = engine.hold(point)
    job_id = holder.start(request)
    await engine.arrival(point)
    await kill(holder)
    gate.set()
    clock.ahead = EXPIRY
    return job_id


# -- a crash ------------------------------------------------------------------------------------------


async def test_a_crash_before_the_plan(make: Make, engine: ScriptedEngine, clock: Clock, tmp_path: Path):
    """Nothing was sent: the next process generates the job from its request, init_image included."""
    (tmp_path / "sketch.png").write_bytes(plain(16, 16, 5))
    request = replace(REQUEST, init_image=refer_to(tmp_path / "sketch.png"), denoise=0.5)
    job_id = await killed_at("plan", make(), engine, clock, request)
    other = make()
    before = await store_of(other).get(job_id)
    assert (await other.find(job_id)).status == "queued"
    engine.steps()
    job = await ended(other, job_id)
    assert (job.status, job.images[0].seed, engine.known) == ("done", 7, {job_id})
    assert (engine.planned, [image.data for image in engine.inputs]) == ([request, request], [plain(16, 16, 5)])
    assert (job.filename_ms, job.request, engine.looked_up) == (before.filename_ms, request.to_dict(), [])


@pytest.mark.parametrize("change", ["changed", "gone"])
async def test_an_input_that_is_not_what_it_was(make: Make, engine: ScriptedEngine, clock: Clock, tmp_path, change):
    sketch = tmp_path / "sketch.png"
    sketch.write_bytes(plain(16, 16, 5))
    request = replace(REQUEST, init_image=refer_to(sketch))
    job_id = await killed_at("plan", make(), engine, clock, request)
    sketch.write_bytes(b"another") if change == "changed" else sketch.unlink()
    other = make()
    await other.find(job_id)
    job = await ended(other, job_id)
    assert (job.status, job.error.code, engine.known) == ("failed", "invalid_request", set())
    assert ("changed after it was named" if change == "changed" else "cannot be read") in job.error.message
    assert (await make().find(job_id)).error.code == "invalid_request"


@pytest.mark.parametrize(
    "request_fields",
    [
        {"prompt": "a red apple", "colour": "red"},
        {"prompt": ""},
        {"prompt": "a red apple", "init_image": "6000 bytes, sha256 0123456789abcdef0123"},
    ],
)
async def test_a_request_of_another_version(make: Make, engine: ScriptedEngine, clock: Clock, request_fields: dict):
    """It cannot be generated again, so the job is lost."""
    runner = make()
    job = Job(job_id="old", engine="steered", url=engine.url, request=request_fields)
    await store_of(runner).create(job, image_count=1, owner="", seconds=0)
    found = await runner.find("old")
    assert (found.status, found.error.code, engine.planned) == ("lost", "generation_lost", [])
    assert found.error.hint == "Call generate_image again."
    assert (await store_of(runner).get("old")).status == "lost"


async def test_a_crash_before_the_submit(make: Make, engine: ScriptedEngine, clock: Clock):
    """The request may be on its way, so the engine is asked more than once before the job is sent again."""
    job_id = await killed_at("submit", make(), engine, clock)
    other = make()
    assert (await other.find(job_id)).status == "queued"
    engine.steps()
    job = await ended(other, job_id)
    assert (job.status, job.images[0].seed, job.requeues) == ("done", 7, 1)
    assert job.notes == ("a note", "The engine did not have the job; it was queued again with the same seed.")
    assert (engine.looked_up, engine.known) == ([job_id] * 3, {job_id})


async def test_a_crash_while_the_job_arrives(make: Make, engine: ScriptedEngine, clock: Clock):
    """The first answers of the engine are older than the job."""
    job_id = await killed_at("submit", make(), engine, clock)
    engine.known.add(job_id)
    engine.hides = 2
    other = make()
    assert (await other.find(job_id)).status == "queued"
    engine.steps()
    assert (await ended(other, job_id)).status == "done"
    assert engine.looked_up == [job_id] * 3


async def test_a_crash_before_the_ticket(make: Make, engine: ScriptedEngine, clock: Clock):
    """The engine has the job under our id; it is not sent again."""
    job_id = await killed_at("submitted", make(), engine, clock)
    other = make()
    assert (await store_of(other).get(job_id)).ticket is None
    found = await other.find(job_id)
    assert (found.plan.seed, found.plan.model) == (7, "steered.safetensors")
    job = await stored(other, job_id, lambda job: job.ticket)
    assert (job.ticket.host, job.ticket.id) == (engine.url, job_id)
    engine.steps()
    assert (await ended(other, job_id)).status == "done"
    assert len(engine.planned) == 1


async def test_a_crash_while_generating(make: Make, engine: ScriptedEngine, clock: Clock):
    """The ticket that the engine gave is the one that finds the job."""
    holder, other = make(), make()
    job_id = await generation(holder, engine)
    await kill(holder)
    clock.ahead = EXPIRY
    await other.find(job_id)
    engine.steps()
    job = await ended(other, job_id)
    assert (job.status, job.images[0].seed, job.ticket.data) == ("done", 7, {"seed": 7})
    assert engine.looked_up == [job_id]


async def test_a_crash_between_two_images(make: Make, engine: ScriptedEngine, clock: Clock):
    """What is on disk is not fetched again, and nothing is saved twice."""
    engine.images = [plain(16, 16), plain(16, 16, 1)]
    holder, other = make(), make()
    gate = engine.hold("image1")
    job_id = holder.start(replace(REQUEST, batch_size=2))
    engine.steps()
    first = await stored(holder, job_id, lambda job: job.images)
    await kill(holder)
    gate.set()
    clock.ahead = EXPIRY
    await other.find(job_id)
    engine.steps()
    job = await ended(other, job_id)
    assert (job.status, [image.index for image in job.images]) == ("done", [0, 1])
    assert job.images[0] == first.images[0]
    assert len(list(job.images[0].path.parent.iterdir())) == 2


# -- jobs that ended ----------------------------------------------------------------------------------


async def test_a_finished_job_needs_no_engine(make: Make, engine: ScriptedEngine):
    job = await done(make(), engine)
    other = make()
    found = await other.find(job.job_id)
    assert (found.status, found.images) == ("done", job.images)
    assert (engine.looked_up, other._leases.all_active()) == ([], [])
    assert await other.find(job.job_id) is found


async def test_a_deleted_image_is_fetched_again(make: Make, engine: ScriptedEngine):
    """Only that one; the job had a cancel request once, which does not count any more."""
    engine.images = [plain(16, 16), plain(16, 16, 1)]
    job = await done(make(), engine, replace(REQUEST, batch_size=2))
    other = make(heartbeat=0.02)
    await store_of(other).request_cancel(job.job_id)
    kept, deleted = job.images[0].path, job.images[1].path
    deleted.unlink()
    before = kept.stat().st_mtime_ns
    gate = engine.hold("fetch")
    found = await other.find(job.job_id)
    assert (found.status, found.ended, len(found.images), found.cancel_requested) == ("queued", None, 1, False)
    engine.steps()
    await engine.arrival("fetch")
    lease = (await store_of(other).get(job.job_id)).lease_until
    await stored(other, job.job_id, lambda job: job.lease_until > lease)
    gate.set()
    again = await ended(other, job.job_id)
    assert (again.status, deleted.is_file(), kept.stat().st_mtime_ns) == ("done", True, before)
    assert [image.index for image in again.images] == [0, 1]
    assert engine.cancelled == []


async def test_a_deleted_image_that_the_engine_lost(make: Make, engine: ScriptedEngine):
    job = await done(make(), engine)
    path = job.images[0].path
    path.unlink()
    engine.known.clear()
    found = await make().find(job.job_id)
    assert (found.status, found.error.code) == ("lost", "image_gone")
    assert found.error.message == (
        f"The image is no longer at {path}, and steered (http://scripted) does not have it either."
    )
    assert found.error.hint == "Call generate_image again (seed=7 generates the same image)."
    assert engine.looked_up == [job.job_id]


async def test_a_lost_job_is_asked_about_again(make: Make, engine: ScriptedEngine):
    """It may only have been slow to arrive; but each time the engine is asked once."""
    engine.failure = GenerationLost("It is gone.", was_removed=True)
    job = await done(make(), engine)
    engine.failure = None
    engine.known.clear()
    other = make()
    assert (await other.find(job.job_id)).status == "lost"
    assert (await other.find(job.job_id)).status == "lost"
    assert engine.looked_up == [job.job_id] * 2
    engine.known.add(job.job_id)
    assert (await other.find(job.job_id)).status == "queued"
    engine.steps()
    assert (await ended(other, job.job_id)).status == "done"
    assert (await make().find(job.job_id)).status == "done"


@pytest.mark.parametrize("failure", [OutOfMemory("No memory.")])
async def test_a_failed_job_stays_failed(make: Make, engine: ScriptedEngine, failure):
    engine.failure = failure
    job = await done(make(), engine)
    assert (await make().find(job.job_id)).error.code == failure.code
    assert engine.looked_up == []


async def test_an_engine_that_is_away(make: Make, engine: ScriptedEngine, monkeypatch):
    """All who ask at once get an error of their own, the engine is asked once, and the job stays free."""
    job_id = await left_behind(make(), engine)
    asked: list[str] = []

    async def lookup(ticket: object) -> None:
        asked.append("lookup")
        await asyncio.sleep(0)
        raise EngineUnreachable("It is off.")

    monkeypatch.setattr(engine, "lookup", lookup)
    runner = make()
    errors = await asyncio.gather(*(runner.find(job_id) for _ in range(5)), return_exceptions=True)
    assert [str(error) for error in errors] == ["It is off."] * 5
    assert (len(set(map(id, errors))), asked) == (5, ["lookup"])
    job = await store_of(runner).get(job_id)
    assert (job.status, store_of(runner).is_leased(job), ids(runner)) == ("running", False, set())


async def test_all_who_ask_at_once_learn_of_a_loss(make: Make, engine: ScriptedEngine):
    """And the job is sent again once."""
    job_id = await left_behind(make(), engine)
    engine.known.clear()
    other = make()
    jobs = await asyncio.gather(*(other.find(job_id) for _ in range(5)))
    assert [job.status for job in jobs] == ["queued"] * 5
    engine.steps()
    assert (await ended(other, job_id)).status == "done"
    assert (len(engine.looked_up), len(engine.planned)) == (3, 2)


async def test_a_process_that_ends_while_it_claims(make: Make, engine: ScriptedEngine):
    """It releases the lease, and leaves no task behind."""
    job_id = await left_behind(make(), engine)
    other, third = make(), make()
    engine.hold("lookup")
    looking = asyncio.ensure_future(other.find(job_id))
    await engine.arrival("lookup")
    job = await store_of(third).get(job_id)
    assert store_of(third).is_leased(job)
    await other.aclose()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert not store_of(third).is_leased(await store_of(third).get(job_id))
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("find-")]


def before_claim(monkeypatch: pytest.MonkeyPatch, runner: JobRunner, happens: Callable) -> None:
    """Let something happen in another process just before this one claims a job."""
    claim = store_of(runner).claim

    async def late(job_id: str, **options: object) -> Job | None:
        await happens(job_id)
        return await claim(job_id, **options)

    monkeypatch.setattr(store_of(runner), "claim", late)


async def test_a_claim_that_comes_late(make: Make, engine: ScriptedEngine, monkeypatch):
    """Another process was quicker: the job is as that one stored it."""
    job_id = await left_behind(make(), engine)
    other, third = make(), make()

    async def claim_first(job_id: str) -> None:
        if (job := await original(job_id, owner="they", seconds=15)) is not None:
            await store_of(third).update(replace(job, notes=("of another process",)), owner="they")

    original = store_of(third).claim
    before_claim(monkeypatch, other, claim_first)
    found = await other.find(job_id)
    assert (found.notes, engine.looked_up, ids(other)) == (("of another process",), [], set())


async def test_a_job_that_ends_before_its_claim(make: Make, engine: ScriptedEngine, monkeypatch, tmp_path: Path):
    """There is nothing left to do: the lease is released."""
    job_id = await left_behind(make(), engine)
    other, third = make(), make()
    (tmp_path / "a.png").touch()
    image = SavedImage(path=tmp_path / "a.png", seed=7, width=1, height=1, size_bytes=1, mime_type="image/png")
    original = store_of(third).claim

    async def finish(job_id: str) -> None:
        job = await original(job_id, owner="they", seconds=15)
        final = replace(job, status=JobStatus.DONE, images=(image,), ended=job.started + 1)
        await store_of(third).update(final, owner="they")

    before_claim(monkeypatch, other, finish)
    found = await other.find(job_id)
    assert (found.status, found.images, engine.looked_up) == ("done", (image,), [])
    assert not store_of(third).is_leased(await store_of(third).get(job_id))
    assert await other.find(job_id) is found


async def test_a_done_job_without_a_plan(make: Make, engine: ScriptedEngine, tmp_path: Path):
    """Its file was deleted: the engine's own knowledge is plan enough."""
    runner = make()
    image = SavedImage(path=tmp_path / "a.png", seed=7, width=1, height=1, size_bytes=1, mime_type="image/png")
    job = Job(job_id="old", engine="steered", url=engine.url, request={"prompt": "x"}, status=JobStatus.DONE)
    await store_of(runner).create(replace(job, images=(image,), ended=job.started), image_count=1, owner="", seconds=0)
    engine.known.add("old")
    engine.steps()
    assert (await runner.find("old")).plan.model == "steered"
    again = await ended(runner, "old")
    assert (again.status, again.images[0].path.is_file()) == ("done", True)


# -- jobs of others -----------------------------------------------------------------------------------


async def test_a_foreign_job_is_saved(runner: JobRunner, engine: ScriptedEngine):
    engine.known.add("theirs")
    engine.steps()
    found = await runner.find("theirs")
    assert (found.status, found.is_foreign, found.plan.model) == ("queued", True, "steered")
    job = await ended(runner, "theirs")
    assert (job.status, job.images[0].seed, job.notes) == ("done", None, ("a guess",))
    assert job.images[0].path.name.endswith("_random.png")
    stored = await store_of(runner).get("theirs")
    assert (stored.status, stored.request, stored.ticket.id) == ("done", None, "theirs")
    assert (await done(runner, engine)).status == "done"


async def test_a_job_that_another_process_adopts(make: Make, engine: ScriptedEngine):
    """While this one asks the engine: its row is what the store says."""
    runner = make()
    engine.known.add("theirs")
    gate = engine.hold("lookup")
    looking = asyncio.ensure_future(runner.find("theirs"))
    await engine.arrival("lookup")
    job = Job(job_id="theirs", engine="steered", url=engine.url, notes=("of another process",))
    await store_of(runner).create(job, image_count=1, owner="they", seconds=15)
    gate.set()
    found = await looking
    assert (found.notes, ids(runner), engine.followed) == (("of another process",), set(), [])


async def test_many_who_ask_adopt_a_job_once(runner: JobRunner, engine: ScriptedEngine):
    engine.known.add("theirs")
    await asyncio.gather(*(runner.find("theirs") for _ in range(5)))
    engine.steps()
    assert (await ended(runner, "theirs")).status == "done"
    assert (engine.followed, engine.looked_up) == (["theirs"], ["theirs"])


@pytest.mark.parametrize("job_id", ["", "../queue", "a" * 65, "a b", "x\n", "a" * 10_000])
async def test_an_impossible_id_is_never_looked_up(runner: JobRunner, engine: ScriptedEngine, job_id: str):
    with pytest.raises(PromptUnknown) as caught:
        await runner.find(job_id)
    assert caught.value.message.startswith(f"Unknown prompt_id {job_id[:64]!r}: not found in this server's history")
    assert engine.looked_up == []


@pytest.mark.parametrize("job_id", ["nope", "a" * 64, "A-b_9"])
async def test_an_unknown_id(runner: JobRunner, engine: ScriptedEngine, job_id: str):
    with pytest.raises(PromptUnknown, match="not found in this server's history or at http://scripted") as caught:
        await runner.find(job_id)
    assert caught.value.hint.startswith("Check the prompt_id.")
    assert (engine.looked_up, ids(runner)) == ([job_id], set())


async def test_a_job_of_another_engine(make: Make, engine: ScriptedEngine):
    """A process with that engine can be asked, and while one holds it, so can this one."""
    theirs = ScriptedEngine()
    theirs.url = "http://elsewhere"
    holder, other = make(engine=theirs), make()
    job_id = await generation(holder, theirs)
    assert (await other.find(job_id)).status == "running"
    await holder.aclose()
    with pytest.raises(PromptUnknown) as caught:
        await other.find(job_id)
    assert str(caught.value) == (
        f"The job {job_id} was sent to the engine steered at http://elsewhere; this server uses steered at "
        "http://scripted. Ask a server that is configured for steered at http://elsewhere."
    )
    assert engine.looked_up == []
    assert (await store_of(other).get(job_id)).status == "running"


# -- the search for jobs that no process holds --------------------------------------------------------


async def ask(runner: JobRunner) -> None:
    """Begin a search, as any question does."""
    with pytest.raises(PromptUnknown):
        await runner.find("unknown")


async def two_left_behind(runner: JobRunner, engine: ScriptedEngine) -> list[str]:
    """Close the runner when the engine has two jobs of it."""
    job_ids = [runner.start(REQUEST) for _ in range(2)]
    for job_id in job_ids:
        await stored(runner, job_id, lambda job: job.ticket)
    await runner.aclose()
    return job_ids


async def test_any_question_recovers_free_jobs(make: Make, engine: ScriptedEngine):
    job_ids = await two_left_behind(make(), engine)
    other = make()
    await ask(other)
    engine.steps(6)
    for job_id in job_ids:
        assert (await stored(other, job_id, lambda job: job.status.is_final)).images[0].path.is_file()


async def test_a_new_job_recovers_free_jobs(make: Make, engine: ScriptedEngine):
    left = await left_behind(make(), engine)
    other = make()
    engine.steps(6)
    await ended(other, other.start(REQUEST))
    assert (await stored(other, left, lambda job: job.status.is_final)).status == "done"


async def test_a_held_job_is_recovered_when_free(make: Make, engine: ScriptedEngine, clock: Clock):
    """The search waits for a lease to expire, and looks again."""
    holder, other = make(), make(lease=0.1)
    job_id = await generation(holder, engine)
    await ask(other)
    await until(lambda: other._recovery._search and not other._recovery._search.done())
    assert ids(other) == set()
    await holder.aclose()
    await until(lambda: job_id in ids(other))
    engine.steps()
    assert (await ended(other, job_id)).status == "done"


async def test_a_search_ends_when_nothing_is_left(make: Make, engine: ScriptedEngine):
    """And the next one is due later."""
    other = make()
    await ask(other)
    await until(lambda: other._recovery._search.done())
    job_id = await left_behind(make(), engine)
    await ask(other)
    await anyio.wait_all_tasks_blocked()
    assert job_id not in ids(other)
    soon = make(recovery=0.0)
    await ask(soon)
    await until(lambda: soon._recovery._search.done())
    await ask(soon)
    await until(lambda: job_id in ids(soon))


async def test_a_search_leaves_own_jobs_alone(make: Make, engine: ScriptedEngine):
    """And does not wait for them."""
    runner = make(recovery=0.0)
    job_id = await generation(runner, engine)
    await until(lambda: runner._recovery._search.done())
    await ask(runner)
    await until(lambda: runner._recovery._search.done())
    assert (engine.followed, [active.job.job_id for active in runner._leases.all_active()]) == ([job_id], [job_id])


async def test_a_search_leaves_given_up_jobs_alone(make: Make, engine: ScriptedEngine):
    """A foreign job beyond its time here is unfinished in the store, and free for others."""
    engine.known.add("theirs")
    runner = make(timeout=0.05, recovery=0.0)
    await runner.find("theirs")
    await ended(runner, "theirs")
    await until(lambda: not runner._leases.all_active() and runner._recovery._search.done())
    await ask(runner)
    await until(lambda: runner._recovery._search.done())
    assert engine.followed == ["theirs"]


async def test_a_search_without_the_engine(make: Make, engine: ScriptedEngine, monkeypatch, caplog):
    """It is repeated with the next question, not a minute later."""
    caplog.set_level("INFO")
    job_id = await left_behind(make(), engine)
    other, lookup = make(), engine.lookup

    async def refuse(ticket: object) -> None:
        raise EngineUnreachable("It is off.")

    monkeypatch.setattr(engine, "lookup", refuse)
    other._recovery.search()
    await until(lambda: other._recovery._search.done())
    assert ids(other) == set()
    assert f"job {job_id} is not recovered yet: It is off." in caplog.text
    monkeypatch.setattr(engine, "lookup", lookup)
    await ask(other)
    engine.steps()
    assert (await stored(other, job_id, lambda job: job.status.is_final)).status == "done"


async def test_an_odd_job_does_not_stop_a_search(make: Make, engine: ScriptedEngine, monkeypatch, caplog):
    odd, even = await two_left_behind(make(), engine)
    other, lookup = make(), engine.lookup

    async def fail(ticket: object) -> object:
        if ticket.id == odd:
            raise ZeroDivisionError("oh")
        return await lookup(ticket)

    monkeypatch.setattr(engine, "lookup", fail)
    engine.steps()
    other._recovery.search()
    assert (await stored(other, even, lambda job: job.status.is_final)).status == "done"
    assert f"job {odd} cannot be recovered" in caplog.text
    await until(lambda: other._recovery._search.done())


# -- remembering --------------------------------------------------------------------------------------


async def test_old_jobs_are_read_from_the_store(runner: JobRunner, engine: ScriptedEngine):
    """A process remembers the newest; the oldest are forgotten first."""
    engine.failure = OutOfMemory("No memory.")
    first = await done(runner, engine)
    await until(lambda: not runner._leases.all_active())
    for number in range(MAX_REMEMBERED):
        runner._leases.remember(replace(first, job_id=f"x{number}"))
    assert len(ids(runner)) == MAX_REMEMBERED
    assert first.job_id not in ids(runner)
    runner._leases.remember(replace(first, job_id="x0"))
    runner._leases.remember(replace(first, job_id="newest"))
    assert {"x0", "newest"} <= ids(runner)
    assert "x1" not in ids(runner)
    assert (await runner.find(first.job_id)).error.code == "out_of_memory"
    assert engine.followed == [first.job_id]


def test_a_reference_names_its_content(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert refer_to(tmp_path / "a.png") == ImageRef(uri=str(tmp_path / "a.png"), sha256=digest)
