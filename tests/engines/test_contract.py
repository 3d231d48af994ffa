"""The contract that every engine keeps, through an MCP client; `subjects.py` makes each engine ready for it."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mcp_image_gen_local.domain.errors import GenerationLost
from mcp_image_gen_local.domain.job import Ticket
from mcp_image_gen_local.domain.request import Feature
from mcp_image_gen_local.engine_kit.registry import engine_names
from mcp_image_gen_local.imaging import decode_image
from tests.answers import Answer
from tests.conftest import Caller
from tests.engines.subjects import SUBJECTS, Subject

ENDED = {"generation_failed", "generation_lost", "engine_unreachable"}
GARBAGE = {"engine_answer_unusable", "generation_failed"}
STEP = re.compile(r"step (\d+)/(\d+)")
STRANGER = Ticket(host="nowhere", id="6fa459ea-ee8a-4ca4-894e-db77e160355e")
#: a value for each feature; a new feature adds a line
VALUES: dict[Feature, object] = {
    Feature.NEGATIVE_PROMPT: "dark",
    Feature.STEPS: 2,
    Feature.CFG: 2.5,
    Feature.GUIDANCE: 3.0,
    Feature.SAMPLER: "euler",
    Feature.SCHEDULER: "simple",
    Feature.INIT_IMAGE: "start.png",
}


@pytest.fixture
def era() -> str:
    """One era: what is looked at here is the engine."""
    return "modern"


@pytest.fixture(params=SUBJECTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def subject(name: str, request: pytest.FixtureRequest) -> Subject:
    return SUBJECTS[name](request)


@pytest.fixture
async def caller(connect: Callable[..., Any], name: str, subject: Subject) -> Caller:
    """A client of the engine; the subject is ready before it."""
    return await connect(IMAGE_GEN_ENGINE=name)


@pytest.fixture
async def hasty(connect: Callable[..., Any], name: str, subject: Subject) -> Caller:
    """A client whose calls return a handle at once."""
    return await connect(IMAGE_GEN_ENGINE=name, IMAGE_GEN_WAIT_SECONDS=0)


@pytest.fixture
def generate(subject: Subject) -> Callable[..., Any]:
    """Return a function that generates a quick image."""

    async def call(caller: Caller, **arguments: Any) -> Answer:
        size = {"width": subject.side, "height": subject.side}
        return await caller.call("generate_image", **{"prompt": "a red apple", "steps": 2, **size, **arguments})

    return call


def pixels(path: str) -> bytes:
    return decode_image(Path(path).read_bytes()).convert("RGB").tobytes()


async def status(caller: Caller, prompt_id: str) -> str:
    return str((await caller.call("get_generation_status", prompt_id=prompt_id)).facts["status"])


def test_every_engine_has_a_subject(example_installed: None):
    assert set(engine_names()) == set(SUBJECTS)


def test_every_feature_has_a_value():
    assert set(VALUES) == set(Feature)


async def test_nothing_is_contacted_before_a_call(caller: Caller, subject: Subject):
    await caller.client.list_tools()
    await caller.call("get_output_directory")
    assert subject.contacts() == 0


async def test_a_seed_gives_its_image(caller: Caller, generate):
    first, again, other = [(await generate(caller, seed=seed)).facts["path"] for seed in (7, 7, 8)]
    assert pixels(first) == pixels(again) != pixels(other)


async def test_a_seed_of_its_own_is_reported(caller: Caller, generate):
    facts = (await generate(caller)).facts
    assert 0 <= facts["seed"] < 2**64
    assert pixels((await generate(caller, seed=facts["seed"])).facts["path"]) == pixels(facts["path"])


async def test_each_image_of_a_batch_has_its_seed(caller: Caller, generate):
    images = (await generate(caller, seed=2**64 - 1, batch_size=2)).facts["images"]
    assert [image["seed"] for image in images] == [2**64 - 1, 0]
    for image in images:
        assert pixels((await generate(caller, seed=image["seed"])).facts["path"]) == pixels(image["path"])


async def test_the_real_size_is_reported(caller: Caller, generate, subject: Subject):
    facts = (await generate(caller, width=2 * subject.side)).facts
    assert (facts["width"], facts["height"]) == decode_image(Path(facts["path"]).read_bytes()).size
    assert (facts["width"], facts["height"]) == (2 * subject.side, subject.side)


async def test_progress_only_grows(caller: Caller, generate):
    await generate(caller, batch_size=2)
    values = [value for value, _, _ in caller.progress]
    assert values == sorted(values)
    assert len(set(values)) == len(values)
    steps = [tuple(map(int, found.groups())) for _, _, text in caller.progress if (found := STEP.search(text))]
    assert steps == sorted(steps)
    assert {total for _, total in steps} <= {4}  # of both images; an engine too quick to be watched reports none


@pytest.mark.parametrize("feature", Feature)
async def test_no_option_is_ignored(caller: Caller, generate, feature: Feature, tmp_path: Path, subject: Subject):
    """It has an effect, or is left out with a sentence, or is refused by name before anything is sent."""
    (tmp_path / "images").mkdir(exist_ok=True)
    start = tmp_path / "images" / "start.png"
    Image.new("RGB", (64, 64), "teal").save(start)
    value = str(start) if feature is Feature.INIT_IMAGE else VALUES[feature]
    is_supported = feature in (await caller.app.engine.capabilities(None)).features
    contacts = subject.contacts()
    answer = await generate(caller, **{feature.value: value})
    if is_supported:
        assert f"does not support {feature}" not in answer.story
        assert answer.facts["status"] == "done"
    elif feature.is_content:
        assert answer.code == "request_not_supported"
        assert feature.value in answer.error
        assert subject.is_server or subject.contacts() == contacts
    else:
        assert feature.value in answer.story.partition("does not support")[2].partition("left out")[0]


async def test_too_large_a_batch_is_refused(caller: Caller, generate):
    assert (await generate(caller, batch_size=10_000)).code == "invalid_request"


async def test_a_running_job_is_cancelled(hasty: Caller, generate, subject: Subject):
    subject.hold()
    prompt_id = (await generate(hasty)).facts["prompt_id"]
    await subject.reached()
    await hasty.call("cancel_generation", prompt_id=prompt_id)
    async for job in hasty.app.runner.watch(prompt_id, seconds=10):
        ended = job.status
    assert ended == "cancelled"


async def test_a_queued_job_is_cancelled_alone(hasty: Caller, generate, subject: Subject):
    subject.hold()
    first = (await generate(hasty, seed=1)).facts["prompt_id"]
    await subject.reached()
    second = (await generate(hasty, seed=2)).facts["prompt_id"]
    await hasty.call("cancel_generation", prompt_id=second)
    subject.release()
    ended = {}
    for prompt_id in (first, second):
        async for job in hasty.app.runner.watch(prompt_id, seconds=10):
            ended[prompt_id] = job.status
    assert list(ended.values()) == ["done", "cancelled"]


async def test_an_engine_that_is_down_is_reported(caller: Caller, generate, subject: Subject):
    if not subject.is_server:
        pytest.skip("it runs in this process")
    await subject.die()
    assert (await generate(caller)).code == "engine_unreachable"
    await subject.revive()
    assert (await generate(caller)).facts["status"] == "done"


async def test_an_engine_that_dies_fails_the_job(caller: Caller, generate, subject: Subject):
    subject.hold()
    call = asyncio.ensure_future(generate(caller))
    await subject.reached()
    await subject.die()
    assert (await call).code in ENDED
    await subject.revive()
    assert (await generate(caller)).facts["status"] == "done"


async def test_garbage_fails_the_job(caller: Caller, generate, subject: Subject):
    subject.answer_garbage()
    assert (await generate(caller)).code in GARBAGE
    await subject.revive()
    assert (await generate(caller)).facts["status"] == "done"


async def test_ten_calls_at_once(caller: Caller, generate):
    answers = await asyncio.gather(*(generate(caller, seed=seed) for seed in range(10)))
    assert [answer.facts["seed"] for answer in answers] == list(range(10))
    assert len({pixels(answer.facts["path"]) for answer in answers}) == 10


async def test_models_are_listed_and_checked(caller: Caller, generate):
    first = (await caller.call("list_available_models")).facts["models"][0]["names"][0]
    assert (await generate(caller, model=first)).facts["model"] == first
    assert await caller.app.engine.check()


async def test_a_strangers_job_is_unknown(caller: Caller):
    """Of a job that it never had, an engine says so, and a cancel of it is done."""
    engine = caller.app.engine
    assert await engine.lookup(STRANGER) is None
    assert await engine.cancel(STRANGER)
    with pytest.raises(GenerationLost):
        async for _ in engine.follow(STRANGER):
            pass
