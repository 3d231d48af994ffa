"""The built-in engine, through an MCP client: every argument has its effect."""

import asyncio
import base64
import io
from pathlib import Path

import anyio
import numpy as np
import pytest
from PIL import Image

from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

STEPS = 4  #: enough to tell pictures apart


async def draw(icons: Caller, prompt: str = "a red apple", **arguments):
    return await icons.call("generate_image", **{"prompt": prompt, "steps": STEPS, "seed": 1, **arguments})


def pixels(answer) -> np.ndarray:
    return np.asarray(answer.picture().convert("RGB"), dtype=np.int16)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean difference of two pictures, 0..255."""
    return float(np.abs(one - other).mean())


async def test_a_prompt_becomes_a_picture_of_it(icons: Caller, tmp_path: Path):
    """An apple: red in the middle, white in the corners."""
    answer = await draw(icons, steps=20)
    assert (answer.facts["status"], answer.facts["engine"], answer.facts["model"]) == ("done", "builtin", "builtin")
    assert (answer.facts["width"], answer.facts["height"]) == (128, 128)
    picture = pixels(answer)
    red, green, blue = picture[48:96, 48:96].reshape(-1, 3).mean(0)
    assert red > 150
    assert max(green, blue) < 110
    assert picture[[0, 0, -1, -1], [0, -1, 0, -1]].mean() > 235
    assert Path(answer.facts["path"]).parent == tmp_path / "pictures"


async def test_every_answer_says_what_drew_it_and_what_would_draw_better(icons: Caller):
    story = (await draw(icons)).story
    assert "Drawn by the small built-in model" in story
    assert "IMAGE_GEN_ENGINE=comfyui" in story


async def test_the_same_seed_draws_the_same_picture_and_another_one_another(icons: Caller):
    first, again, other = await draw(icons), await draw(icons), await draw(icons, seed=2)
    assert (pixels(first) == pixels(again)).all()
    assert difference(pixels(first), pixels(other)) > 1


async def test_a_picture_of_a_batch_is_what_its_seed_draws_alone(icons: Caller):
    alone, batch = await draw(icons), await draw(icons, batch_size=2)
    assert (pixels(alone) == pixels(batch)).all()
    assert len(batch.facts["images"]) == len(batch.images) == 2
    assert batch.images[0].data != batch.images[1].data


@pytest.mark.parametrize("change", [{"cfg": 1.0}, {"steps": 8}, {"negative_prompt": "red"}, {"prompt": "cat face"}],
                         ids=lambda change: next(iter(change)))  # fmt: skip
async def test_every_setting_has_an_effect(icons: Caller, change: dict):
    assert difference(pixels(await draw(icons)), pixels(await draw(icons, **change))) > 1


async def test_a_negative_prompt_without_guidance_is_told(icons: Caller):
    assert "negative_prompt had no effect: at cfg 1" in (await draw(icons, cfg=1, negative_prompt="red")).story


async def test_denoise_leads_from_the_given_picture_to_the_prompt(icons: Caller):
    """0 keeps it, 1 ignores it, and what lies between lies between."""
    start = (await draw(icons, "tree", steps=20)).facts["path"]
    given, plain = np.asarray(Image.open(start).convert("RGB"), dtype=np.int16), pixels(await draw(icons))
    kept, mixed, ignored = [pixels(await draw(icons, init_image=start, denoise=denoise)) for denoise in (0.0, 0.5, 1.0)]
    assert difference(kept, given) < 12
    assert difference(kept, given) < difference(mixed, given) < difference(ignored, given)
    assert difference(ignored, plain) < 1


async def test_progress_and_a_preview_come_with_every_step(icons: Caller):
    prompt_id = icons.app.runner.start(_request())
    steps, previews = [], []
    async for job in icons.app.runner.watch(prompt_id, seconds=20):
        if job.progress and job.progress.step and job.progress.preview:
            steps.append(job.progress.step)
            previews.append(Image.open(io.BytesIO(job.progress.preview)).size)
    assert sorted(set(steps)) == list(range(1, STEPS + 1))
    assert set(previews) == {(128, 128)}
    await draw(icons)
    assert [text.split(" (")[0] for _, _, text in icons.progress if "step" in text] == [
        f"drawing, step {n}/{STEPS}" for n in range(1, STEPS + 1)
    ]


async def test_a_running_job_shows_the_picture_so_far(connect):
    icons = await connect(IMAGE_GEN_ENGINE="builtin", IMAGE_GEN_WAIT_SECONDS=0)
    answer = await draw(icons, steps=200, batch_size=16)
    with anyio.fail_after(20):
        while not answer.images:
            answer = await icons.call("get_generation_status", prompt_id=answer.facts["prompt_id"])
    assert answer.facts["status"] == "running"
    assert Image.open(io.BytesIO(base64.b64decode(answer.images[0].data))).size == (128, 128)
    await icons.app.runner.cancel(answer.facts["prompt_id"])


async def test_cancelling_stops_between_two_steps(icons: Caller, tmp_path: Path):
    call = asyncio.ensure_future(draw(icons, steps=200, batch_size=16))
    with anyio.fail_after(20):
        while not any("step" in text for _, _, text in icons.progress):
            await anyio.sleep(0.01)
    call.cancel()
    with anyio.fail_after(5):  # the whole would take a minute
        assert (await draw(icons)).facts["status"] == "done"
    assert len(list((tmp_path / "pictures").iterdir())) == 1


async def test_parallel_calls_wait_for_their_turn_and_each_get_their_own(icons: Caller):
    answers = await asyncio.gather(*(draw(icons, seed=seed, steps=2) for seed in range(4)))
    assert len({answer.images[0].data for answer in answers}) == 4
    assert any("waiting in the queue, position" in text for _, _, text in icons.progress)


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (1024, 1024)])
async def test_other_sizes_are_resampled_and_told(icons: Caller, size: tuple[int, int]):
    answer = await draw(icons, width=size[0], height=size[1])
    assert (answer.facts["width"], answer.facts["height"]) == size
    assert f"Drawn at 128x128 and resampled to {size[0]}x{size[1]}." in answer.story


async def test_the_engine_is_never_chosen_in_place_of_one_that_is_down(connect, comfyui: ComfyUIServer):
    comfyui.stop()
    answer = await (await connect()).generate()
    assert answer.error == f"ComfyUI not reachable at {comfyui.url}. Start with: python main.py --listen"


async def test_its_one_model_is_listed_with_its_defaults(icons: Caller):
    facts = (await icons.call("list_available_models")).facts
    assert [(m["name"], m["ready"], m["width"]) for m in facts["models"]] == [("builtin", True, 128)]


def _request():
    from mcp_image_gen_local.domain.request import GenerationRequest

    return GenerationRequest(prompt="a red apple", steps=STEPS, seed=1)


async def test_a_seed_draws_the_same_picture_on_every_machine(icons: Caller):
    """The recording was drawn elsewhere; other processors may round the last digit otherwise."""
    recorded = Path(__file__).parents[2] / "recordings" / "builtin_red_apple_seed_1.png"
    drawn = pixels(await draw(icons, steps=20))
    with Image.open(recorded) as picture:
        assert difference(drawn, np.asarray(picture.convert("RGB"), dtype=np.int16)) < 1
