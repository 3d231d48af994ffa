"""get_generation_status: where a job stands, whoever submitted it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.answers import Answer
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.engines.others import generate, graph, post, submit

BOTH_ERAS = pytest.mark.parametrize("era", ["modern", "handshake"])


@pytest.fixture
def era() -> str:
    """One era, where a test does not ask for both."""
    return "modern"


@pytest.fixture
async def hasty(connect) -> Caller:
    """A client whose calls do not wait for the image."""
    return await connect(IMAGE_GEN_WAIT_SECONDS=0)


async def until(caller: Caller, prompt_id: str, claim: Callable[[dict[str, Any]], bool]) -> Answer:
    """Ask for the status until `claim` holds of its facts, and return that answer."""
    async with asyncio.timeout(20):
        while True:
            answer = await caller.call("get_generation_status", prompt_id=prompt_id)
            if claim(answer.facts):
                return answer


async def until_status(caller: Caller, prompt_id: str, wanted: str) -> Answer:
    return await until(caller, prompt_id, lambda facts: facts["status"] == wanted)


# -- jobs of this server ------------------------------------------------------------------------------------------


@BOTH_ERAS
async def test_a_waiting_job_is_queued_and_tells_its_place(hasty: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    await submit(comfyui, graph())
    await comfyui.reached("step:1")
    await submit(comfyui, graph(seed=2))
    prompt_id = (await hasty.generate(seed=3)).facts["prompt_id"]
    answer = await until(hasty, prompt_id, lambda facts: "queue_position" in facts)
    assert {k: answer.facts[k] for k in ("status", "prompt_id", "seed", "progress", "queue_position")} == {
        "status": "queued",
        "prompt_id": prompt_id,
        "seed": 3,
        "progress": "waiting in the queue, position 2",
        "queue_position": 2,
    }
    assert f'get_generation_status(prompt_id="{prompt_id}")' in answer.story


@BOTH_ERAS
async def test_a_running_job_tells_its_step(hasty: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:3")
    prompt_id = (await hasty.generate()).facts["prompt_id"]
    await comfyui.reached("step:3")
    facts = (await until(hasty, prompt_id, lambda facts: facts.get("step") == 3)).facts
    assert (facts["status"], facts["step"], facts["steps"]) == ("running", 3, 4)
    assert facts["progress"] == "generating, step 3/4"


async def test_a_finished_job_is_returned_each_time(hasty: Caller, comfyui: ComfyUIServer):
    """A finished job is returned as often as it is asked for."""
    prompt_id = (await hasty.generate(seed=6)).facts["prompt_id"]
    first = await until_status(hasty, prompt_id, "done")
    second = await hasty.call("get_generation_status", prompt_id=prompt_id)
    assert first.facts == second.facts
    assert first.image().tobytes() == second.image().tobytes()
    assert len(comfyui.prompts) == 1


@BOTH_ERAS
async def test_a_failed_job_tells_its_reason(hasty: Caller, comfyui: ComfyUIServer):
    """The status of a failure is an answer, not a failure of the question."""
    comfyui.fail("out_of_memory")
    prompt_id = (await hasty.generate()).facts["prompt_id"]
    answer = await until_status(hasty, prompt_id, "failed")
    error = answer.facts["error"]
    assert error["code"] == "out_of_memory"
    assert answer.story == f"{error['message']} {error['hint']}"


async def test_a_cancelled_job_is_told_as_cancelled(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    prompt_id = comfyui.prompts[0]["prompt_id"]
    call.cancel()
    await comfyui.until(lambda server: server.interrupted)
    comfyui.release("step:1")
    answer = await until_status(caller, prompt_id, "cancelled")
    assert answer.facts["error"]["message"] == f"The job {prompt_id} was cancelled."


async def test_a_lost_job_is_told_as_lost(hasty: Caller, comfyui: ComfyUIServer):
    comfyui.hold("pending")
    prompt_id = (await hasty.generate()).facts["prompt_id"]
    await comfyui.until(lambda server: server.queue_remaining == 1)
    await post(comfyui, "/queue", {"clear": True})
    answer = await until_status(hasty, prompt_id, "lost")
    assert answer.facts["error"]["hint"].startswith("Call generate_image again")


async def test_a_cancelled_status_call_cancels_nothing(caller: Caller, comfyui: ComfyUIServer):
    """Asking for the status does not cancel the job when the question is cancelled."""
    comfyui.hold("step:1")
    theirs = await submit(comfyui, graph())
    question = asyncio.ensure_future(caller.call("get_generation_status", prompt_id=theirs))
    await comfyui.until(lambda server: any(theirs in seen.path or seen.path == "/queue" for seen in server.requests))
    question.cancel()
    await asyncio.wait({question})
    comfyui.release("step:1")
    assert (await caller.call("get_generation_status", prompt_id=theirs)).facts["status"] == "done"
    assert (comfyui.interrupted, comfyui.deleted) == ([], [])


# -- unknown jobs -------------------------------------------------------------------------------------------------


@BOTH_ERAS
async def test_an_unknown_id_is_answered_as_unknown(caller: Caller, comfyui: ComfyUIServer):
    prompt_id = "6fa459ea-ee8a-4ca4-894e-db77e160355e"
    answer = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert (answer.facts["status"], answer.facts["error"]["code"]) == ("unknown", "prompt_unknown")
    assert answer.story == (
        f"Unknown prompt_id {prompt_id!r}: not found in this server's history or at {comfyui.url}. "
        "Check the prompt_id. The answer of generate_image holds it."
    )


@pytest.mark.parametrize(
    "prompt_id",
    ["", " ", "../queue", "..", "a/b", "a%2Fb", "a?b", "a#b", "x" * 65, "x" * 9999, "é", "\0", "\uff11"],
)
async def test_nonsense_is_unknown_and_never_reaches_comfyui(caller: Caller, comfyui: ComfyUIServer, prompt_id):
    answer = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert answer.facts["status"] == "unknown"
    assert len(answer.facts["error"]["message"]) < 500
    assert comfyui.requests == []


# -- jobs of others -----------------------------------------------------------------------------------------------


@BOTH_ERAS
async def test_an_earlier_servers_job_has_its_seed(connect, comfyui: ComfyUIServer):
    """A job of an earlier server is found at ComfyUI with the seed of its graph."""
    comfyui.hold("step:2")
    before = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await before.generate("a fox", seed=2**64 - 1)).facts["prompt_id"]
    await comfyui.reached("step:2")
    await before.client.close()
    after = await connect()
    comfyui.release("step:2")
    answer = await after.call("get_generation_status", prompt_id=prompt_id)
    facts = answer.facts
    assert (facts["status"], facts["prompt_id"], facts["seed"]) == ("done", prompt_id, 2**64 - 1)
    assert facts["model"] == "flux1-schnell.safetensors"
    assert Path(facts["path"]).name.endswith(f"_{2**64 - 1}.png")
    assert answer.image().size == (64, 64)
    assert len(comfyui.prompts) == 1


async def test_a_running_foreign_job_is_saved(caller: Caller, comfyui: ComfyUIServer):
    """A running job of another client is waited for and saved."""
    comfyui.hold("step:1")
    theirs = await submit(comfyui, graph(seed=11))
    await comfyui.reached("step:1")
    question = asyncio.ensure_future(caller.call("get_generation_status", prompt_id=theirs))
    await comfyui.until(lambda server: any(seen.path == "/queue" for seen in server.requests))
    comfyui.release("step:1")
    facts = (await question).facts
    assert (facts["status"], facts["seed"], facts["model"]) == ("done", 11, "sd_xl_base_1.0.safetensors")


async def test_a_job_whose_graph_has_no_seed(caller: Caller, comfyui: ComfyUIServer):
    """A job whose graph reports no seed and no model is saved without."""
    answer = await caller.call("get_generation_status", prompt_id=await generate(comfyui, graph("two_outputs")))
    assert (answer.facts["status"], answer.facts["seed"], answer.facts["model"]) == ("done", None, "unknown")
    assert "Seed" not in answer.story
    assert Path(answer.facts["path"]).name.endswith("_random.png")


async def test_a_failed_foreign_job_reports_its_reason(caller: Caller, comfyui: ComfyUIServer):
    """A failed job of another client reports its reason."""
    comfyui.fail("out_of_memory")
    theirs = await generate(comfyui, graph())
    facts = (await caller.call("get_generation_status", prompt_id=theirs)).facts
    assert (facts["status"], facts["error"]["code"]) == ("failed", "out_of_memory")


async def test_several_questions_at_once_save_one_image(caller: Caller, comfyui: ComfyUIServer, tmp_path: Path):
    theirs = await generate(comfyui, graph())
    answers = await asyncio.gather(*(caller.call("get_generation_status", prompt_id=theirs) for _ in range(4)))
    assert len({answer.facts["path"] for answer in answers}) == 1
    assert len(list((tmp_path / "images").iterdir())) == 1


async def test_an_image_is_fetched_once_comfyui_is_back(caller: Caller, comfyui: ComfyUIServer):
    """An image that could not be fetched is fetched once ComfyUI is back."""
    comfyui.fail("truncated_view")
    error = (await caller.generate(seed=9)).error
    prompt_id = comfyui.prompts[0]["prompt_id"]
    assert prompt_id in error
    comfyui.heal("truncated_view")
    facts = (await caller.call("get_generation_status", prompt_id=prompt_id)).facts
    assert (facts["status"], facts["seed"]) == ("done", 9)
