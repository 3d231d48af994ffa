"""generate_image, through a client of either era."""

import asyncio
import json
from pathlib import Path

import anyio
import pytest
from PIL import Image

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.domain.request import GenerationRequest
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

UNFINISHED = ("queued", "running")


async def test_an_answer_has_image_path_and_seed(connect, tmp_path: Path):
    """A call returns the image its path and its seed.

    One line of JSON, a sentence, an inline PNG, and a link that is for the user alone.
    """
    caller = await connect(IMAGE_GEN_LINK="true")
    answer = await caller.generate("a lighthouse at dusk", seed=42)
    facts = answer.facts
    assert list(facts) == [
        "status", "path", "seed", "width", "height", "model", "engine", "seconds", "prompt_id",
    ]  # fmt: skip
    assert (facts["status"], facts["seed"], facts["width"], facts["height"]) == ("done", 42, 64, 64)
    assert facts["engine"] == "comfyui"
    path = Path(facts["path"])
    assert path.parent == tmp_path / "images"
    assert path.name.endswith("_42.png")
    assert answer.image().tobytes() == Image.open(path).tobytes()
    assert [str(link.uri) for link in answer.links] == [path.as_uri()]
    assert answer.links[0].annotations.audience == ["user"]
    assert answer.result.structured_content is None


async def test_the_default_is_flux_schnell(caller: Caller, comfyui: ComfyUIServer):
    """The default is FLUX.1-schnell at its own settings.

    Nothing but a prompt: 1024x1024, 4 steps, cfg 1, euler, simple.
    """
    await caller.call("generate_image", prompt="a lighthouse")
    graph = comfyui.prompts[0]["prompt"]
    by_class = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert by_class["UNETLoader"]["unet_name"] == "flux1-schnell.safetensors"
    assert (by_class["EmptySD3LatentImage"]["width"], by_class["EmptySD3LatentImage"]["height"]) == (1024, 1024)
    sampler = by_class["KSampler"]
    assert [sampler[k] for k in ("steps", "cfg", "sampler_name", "scheduler")] == [4, 1.0, "euler", "simple"]


async def test_the_same_seed_generates_the_same_image_again(caller: Caller):
    """Also straight after the first time, when ComfyUI would serve a cached file name."""
    first, second = await caller.generate(seed=7), await caller.generate(seed=7)
    assert first.image().tobytes() == second.image().tobytes()
    assert first.facts["path"] != second.facts["path"]


async def test_a_random_seed_is_reported(caller: Caller, comfyui: ComfyUIServer):
    """Without a seed a random one is generated and told."""
    first, second = await caller.generate(), await caller.generate()
    seeds = [first.facts["seed"], second.facts["seed"]]
    assert seeds[0] != seeds[1]
    assert [next(n["inputs"]["seed"] for n in p["prompt"].values() if "seed" in n["inputs"]) for p in comfyui.prompts] \
        == seeds  # fmt: skip


async def test_every_image_of_a_batch_is_returned(caller: Caller):
    """Every image of a batch is saved shown and told."""
    answer = await caller.generate(batch_size=3, seed=9)
    paths = [Path(image["path"]) for image in answer.facts["images"]]
    assert len({path.read_bytes() for path in paths}) == 3
    assert [image["seed"] for image in answer.facts["images"]] == [9, 10, 11]
    assert (len(answer.images), len(answer.links)) == (3, 0)
    assert answer.facts["path"] == str(paths[0])


async def test_progress_always_rises(caller: Caller):
    """Progress reports every sampling step and always rises."""
    await caller.generate(steps=6)
    steps = [(value, text.split(" (")[0]) for value, _, text in caller.progress if "step" in text]
    assert steps == [(float(10 + 85 * n // 6), f"generating, step {n}/6") for n in range(1, 7)]
    assert {total for _, total, _ in caller.progress} == {100.0}
    values = [value for value, _, _ in caller.progress]
    assert values == sorted(set(values))


async def test_progress_tells_the_place_in_the_queue(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    first = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    second = asyncio.ensure_future(caller.generate())
    with anyio.fail_after(5):
        while not any("waiting in the queue, position 1" in text for _, _, text in caller.progress):
            await anyio.sleep(0.01)
    comfyui.release("step:1")
    assert [(await first).facts["status"], (await second).facts["status"]] == ["done", "done"]


async def test_a_slow_job_is_returned_by_its_handle(connect, comfyui: ComfyUIServer):
    """A job that takes long is answered with a handle and returned later.

    The answer names the next call to make; that call brings the image.
    """
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=1)
    comfyui.hold("step:2")
    answer = await caller.generate(seed=3)
    prompt_id = answer.facts["prompt_id"]
    assert answer.facts["status"] in UNFINISHED
    assert f'get_generation_status(prompt_id="{prompt_id}")' in answer.story
    await comfyui.reached("step:2")
    later = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert (later.facts["status"], later.facts["progress"]) == ("running", "generating, step 2/4")
    comfyui.release("step:2")
    while later.facts["status"] in UNFINISHED:
        later = await caller.call("get_generation_status", prompt_id=prompt_id)
    assert (later.facts["status"], later.facts["seed"]) == ("done", 3)
    assert later.image().size == (64, 64)


async def test_a_cancelled_call_cancels_its_job(caller: Caller, comfyui: ComfyUIServer):
    """A cancelled call cancels its job from ComfyUI."""
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    prompt_id = comfyui.prompts[0]["prompt_id"]
    call.cancel()
    await anyio.to_thread.run_sync(comfyui.wait_until, lambda s: s.interrupted == [prompt_id])
    comfyui.release("step:1")
    await anyio.to_thread.run_sync(comfyui.wait_until, lambda s: s.queue_remaining == 0)
    assert comfyui.files.outputs == {}


async def test_parallel_calls_each_get_their_own_image(caller: Caller):
    answers = await asyncio.gather(*(caller.generate(f"image {n}", seed=n) for n in range(8)))
    assert [a.facts["seed"] for a in answers] == list(range(8))
    assert len({a.image().tobytes() for a in answers}) == 8


async def test_a_negative_prompt_without_effect_is_told(caller: Caller):
    answer = await caller.generate(negative_prompt="blurry")
    assert "negative_prompt had no effect: at cfg 1 flux1-schnell cannot use one." in answer.story


async def test_a_negative_prompt_has_an_effect(caller: Caller, comfyui: ComfyUIServer):
    """A negative prompt reaches a model that can use it."""
    answer = await caller.generate(negative_prompt="blurry", model="sd15", steps=2)
    texts = [n["inputs"]["text"] for n in comfyui.prompts[0]["prompt"].values() if "text" in n["inputs"]]
    assert sorted(texts) == ["a red apple", "blurry"]
    assert "no effect" not in answer.story


async def test_a_size_off_the_grid_is_rounded_and_told(caller: Caller):
    answer = await caller.generate(width=100, height=71)
    assert (answer.facts["width"], answer.facts["height"]) == (96, 64)
    assert "100x71 was rounded to 96x64" in answer.story


async def test_provenance_is_in_the_file_alone(caller: Caller):
    """The saved file reports how it was generated and the preview does not."""
    answer = await caller.generate("a secret garden", seed=5)
    with Image.open(answer.facts["path"]) as saved:
        told = json.loads(saved.text["mcp-image-gen"])
    assert (told["prompt"], told["seed"], told["prompt_id"]) == ("a secret garden", 5, answer.facts["prompt_id"])
    assert answer.image().info == {}


async def test_half_a_character_in_the_prompt_is_refused(caller: Caller, comfyui: ComfyUIServer):
    """As a file name of another encoding brings it; JSON could not carry it to ComfyUI."""
    with pytest.raises(InvalidRequest, match="unpaired surrogate"):
        caller.app.runner.start(GenerationRequest(prompt="caf\udce9"))
    assert comfyui.prompts == []
