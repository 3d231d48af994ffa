"""A real ComfyUI at COMFYUI_URL generates: run with `COMFYUI_URL=http://127.0.0.1:8188 pytest tests/live`.

64x64 and few steps, so that a CPU with random weights is enough. A model that is not there is skipped by name.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from fastmcp import Client
from PIL import Image

from mcp_image_gen_local.app import App
from mcp_image_gen_local.engines.comfyui import follow
from mcp_image_gen_local.server import build_server
from mcp_image_gen_local.settings import load_settings
from tests.answers import Answer
from tests.conftest import Caller

URL = os.environ.get("COMFYUI_URL", "")  # now: a fixture takes it out of the tests' environment

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not URL, reason="COMFYUI_URL is not set"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("live"),
]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch, _short_timings: None) -> None:
    """Poll as for users: a real ComfyUI on a busy machine takes its time."""
    monkeypatch.setattr(follow, "POLL_SECONDS", 1.0)
    monkeypatch.setattr(follow, "RECHECK_SECONDS", 0.2)
    monkeypatch.setattr(follow, "UNREACHABLE_SECONDS", 30.0)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Caller]:
    """A connected client of the server on the real ComfyUI."""
    settings = load_settings(COMFYUI_URL=URL, IMAGE_OUTPUT_DIR=tmp_path, IMAGE_GEN_WAIT_SECONDS=240)
    app = App(settings)
    caller = Caller(client=None, app=app, era="modern")  # type: ignore[arg-type]

    async def note(progress: float, total: float | None, message: str | None) -> None:
        caller.progress.append((progress, total, message or ""))

    async with Client(build_server(settings, app), progress_handler=note) as caller.client:
        yield caller


async def model(live: Caller, family: str, role: str) -> str:
    """Return a ready model of that family, or skip."""
    models = (await live.app.engine.models()).models
    ready = [m.name for m in models if m.ready and (m.family, m.role) == (family, role)]
    if not ready:
        pytest.skip(f"this ComfyUI has no {family} as a {role}")
    return ready[0]


def pixels(answer: Answer) -> bytes:
    with Image.open(answer.facts["path"]) as image:
        return image.convert("RGB").tobytes()


async def ask(path: str) -> Any:
    """Return what the real ComfyUI answers."""
    async with httpx2.AsyncClient(base_url=URL, trust_env=False) as client:
        return (await client.get(path)).json()


@pytest.mark.parametrize("role", ["diffusion_model", "checkpoint"])
async def test_flux_schnell_from_one_file_and_several(live: Caller, role: str):
    """FLUX.1-schnell generates from separate files and from one."""
    name = await model(live, "flux1-schnell", role)
    answer = await live.generate(seed=1, model=name)
    assert (answer.facts["status"], answer.facts["model"]) == ("done", name)
    assert (answer.facts["width"], answer.facts["height"]) == (64, 64)
    assert answer.image().size == (64, 64)
    steps = dict.fromkeys(text.split(" (")[0] for _, _, text in live.progress if "step" in text)
    assert list(steps) == [f"generating, step {n}/4" for n in range(1, 5)]


async def test_the_default_model_generates(live: Caller):
    assert (await live.generate(seed=2)).facts["status"] == "done"


async def test_sd15_with_a_negative_prompt(live: Caller):
    """SD 1.5 generates with a negative prompt that has an effect."""
    name = await model(live, "sd15", "checkpoint")
    plain = await live.generate(seed=3, model=name, steps=2)
    other = await live.generate(seed=3, model=name, steps=2, negative_prompt="blurry, dark")
    assert pixels(plain) != pixels(other)
    assert "no effect" not in other.story


async def test_a_batch_of_two_gives_two_images(live: Caller):
    answer = await live.generate(seed=4, batch_size=2)
    paths = {image["path"] for image in answer.facts["images"]}
    assert len(paths) == len(answer.images) == 2
    assert answer.image(0).tobytes() != answer.image(1).tobytes()


async def test_a_batchs_image_comes_again_alone(live: Caller):
    """Each image of a batch has a seed of its own, which gives its pixels without the others."""
    answer = await live.generate(seed=40, batch_size=3)
    last = answer.facts["images"][2]
    with Image.open(last["path"]) as image:
        assert image.convert("RGB").tobytes() == pixels(await live.generate(seed=last["seed"]))


async def test_the_same_seed_generates_identical_pixels(live: Caller):
    first, again, other = [await live.generate(seed=seed) for seed in (5, 5, 6)]
    assert pixels(first) == pixels(again) != pixels(other)


async def test_a_cancelled_call_frees_the_queue(live: Caller):
    """A cancelled call frees the queue and the next one generates."""
    call = asyncio.ensure_future(live.generate(seed=7, steps=200))
    with anyio.fail_after(120):
        while not any("step" in text for _, _, text in live.progress):
            await anyio.sleep(0.02)
    call.cancel()
    with anyio.fail_after(60):
        while any((await ask("/queue")).values()):
            await anyio.sleep(0.05)
    [entry] = (await ask("/history?max_items=1")).values()
    assert "execution_interrupted" in [name for name, _ in entry["status"]["messages"]]
    assert (await live.generate(seed=8)).facts["status"] == "done"


async def test_the_tool_cancels_a_job_whatever_it_is_at(live: Caller):
    """Right after it was sent it waits or loads a model, and is deaf to interrupts for as long as that takes."""
    live.app.settings = live.app.settings.model_copy(update={"wait_seconds": 0})
    prompt_id = (await live.generate(seed=11, steps=100)).facts["prompt_id"]
    facts = (await live.call("cancel_generation", prompt_id=prompt_id)).facts
    assert (facts["status"], facts.get("progress")) in (("cancelled", None), ("running", "cancelling"))
    live.app.settings = live.app.settings.model_copy(update={"wait_seconds": 120})
    answer = await live.call("get_generation_status", prompt_id=prompt_id)
    assert answer.facts["status"] == "cancelled"
    assert not any((await ask("/queue")).values())


async def test_a_preview_where_comfyui_makes_them(live: Caller):
    """A running job shows the image so far where ComfyUI makes previews."""
    argv = " ".join((await ask("/system_stats"))["system"]["argv"])
    if "--preview-method" not in argv:
        pytest.skip("this ComfyUI makes no previews: start it with --preview-method auto")
    live.app.settings = live.app.settings.model_copy(update={"wait_seconds": 0})
    prompt_id = (await live.generate(seed=12, steps=60)).facts["prompt_id"]
    with anyio.fail_after(120):
        while not (answer := await live.call("get_generation_status", prompt_id=prompt_id)).images:
            assert answer.facts["status"] != "done"
            await anyio.sleep(0.05)
    assert answer.images[0].mime_type == "image/jpeg"
    assert answer.image().width >= 8
    await live.call("cancel_generation", prompt_id=prompt_id)


async def test_a_slow_job_is_returned_by_its_status(live: Caller):
    """A job that takes long is returned by get generation status."""
    live.app.settings = live.app.settings.model_copy(update={"wait_seconds": 0})
    prompt_id = (await live.generate(seed=9)).facts["prompt_id"]
    live.app.settings = live.app.settings.model_copy(update={"wait_seconds": 240})
    answer = await live.call("get_generation_status", prompt_id=prompt_id)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 9)
    assert answer.image().size == (64, 64)


async def test_a_finished_job_in_another_process(live: Caller, tmp_path: Path):
    """A finished job is found again by another process."""
    first = await live.generate(seed=10)
    app = App(live.app.settings)
    async with Client(build_server(app.settings, app)) as client:
        result = await client.call_tool_mcp("get_generation_status", {"prompt_id": first.facts["prompt_id"]})
    assert pixels(Answer(result)) == pixels(first)
    assert Answer(result).facts["seed"] == 10


async def test_a_missing_model_names_the_present_ones(live: Caller):
    """A model that is not there is named with those that are."""
    error = (await live.generate(model="no-such-model")).error
    assert "ComfyUI has no model 'no-such-model'." in error
    assert "Installed: " in error


async def test_an_unknown_sampler_names_the_known(live: Caller):
    """An unknown sampler is named with those that are known."""
    assert "sampler='eulr' is unknown to ComfyUI. Use one of: euler" in (await live.generate(sampler="eulr")).error


async def test_an_unknown_job_is_told(live: Caller):
    answer = await live.call("get_generation_status", prompt_id="00000000-0000-4000-8000-000000000000")
    assert answer.facts["status"] == "unknown"


@pytest.mark.parametrize(("family", "role"), [("flux1-schnell", "checkpoint"), ("sd15", "checkpoint")])
async def test_an_image_generated_before_is_generated_over(live: Caller, family: str, role: str):
    """The same seed, more and less of the first image: three different ones."""
    settings = {"model": await model(live, family, role), "steps": 4, "seed": 1}
    first = await live.generate(**settings)
    generated = [
        await live.generate(**settings, init_image=first.facts["path"], denoise=denoise) for denoise in (0.25, 0.75)
    ]
    assert [(a.facts["width"], a.facts["height"]) for a in generated] == [(64, 64)] * 2
    assert len({pixels(answer) for answer in (first, *generated)}) == 3
