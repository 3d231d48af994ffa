"""Beginning with an image: uploaded to ComfyUI, scaled, and generated over."""

from pathlib import Path

import pytest
from PIL import Image

from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller


def inputs_of(comfyui: ComfyUIServer, class_type: str) -> dict:
    """Return the inputs of the only node of this class in the newest prompt."""
    (found,) = [n["inputs"] for n in comfyui.prompts[-1]["prompt"].values() if n["class_type"] == class_type]
    return dict(found)


def distance(one: Image.Image, other: Image.Image) -> int:
    return sum(abs(a - b) for a, b in zip(one.getpixel((0, 0)), other.getpixel((0, 0)), strict=True))


@pytest.fixture
async def start(caller: Caller) -> str:
    """The path of an image that was generated before."""
    return str((await caller.generate(seed=1)).facts["path"])


async def test_an_image_is_generated_over(caller: Caller, comfyui: ComfyUIServer, start: str):
    """An image generated before is uploaded and generated over."""
    answer = await caller.generate(seed=2, init_image=start, denoise=0.5)
    assert (answer.facts["status"], answer.facts["width"], answer.facts["height"]) == ("done", 64, 64)
    assert inputs_of(comfyui, "KSampler")["denoise"] == 0.5
    name = inputs_of(comfyui, "LoadImage")["image"]
    assert comfyui.files.inputs[name] == Path(start).read_bytes()
    assert "EmptySD3LatentImage" not in str(comfyui.prompts[-1]["prompt"])


async def test_denoise_decides_how_much_of_it_is_left(caller: Caller, start: str):
    given = Image.open(start).convert("RGB").resize((1, 1))
    near, far = [
        (await caller.generate(seed=2, init_image=start, denoise=d)).image().convert("RGB").resize((1, 1))
        for d in (0.1, 0.9)
    ]
    away = [
        sum(abs(a - b) for a, b in zip(p.getpixel((0, 0)), given.getpixel((0, 0)), strict=True)) for p in (near, far)
    ]
    assert away[0] < away[1]


async def test_a_start_image_is_scaled_in_its_shape(caller: Caller, comfyui: ComfyUIServer, tmp_path: Path):
    """It is scaled to the model's pixels in its own shape."""
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "wide.jpg"
    Image.new("RGB", (3000, 1000), "teal").save(path)
    answer = await caller.call("generate_image", prompt="sea", init_image=str(path), steps=1)
    assert (answer.facts["width"], answer.facts["height"]) == (1776, 592)
    scale = inputs_of(comfyui, "ImageScale")
    assert [scale[k] for k in ("width", "height", "crop")] == [1776, 592, "center"]


async def test_a_batch_begins_with_the_same_image(caller: Caller, comfyui: ComfyUIServer, start: str):
    answer = await caller.generate(init_image=start, batch_size=2)
    assert len(answer.images) == 2
    assert inputs_of(comfyui, "RepeatLatentBatch")["amount"] == 1  # each image has a sampler of its own


async def test_the_same_image_twice_is_one_upload(caller: Caller, comfyui: ComfyUIServer, start: str):
    for seed in (1, 2):
        await caller.generate(init_image=start, seed=seed)
    assert len(comfyui.files.inputs) == 1


async def test_what_is_no_image_is_refused_before_it_is_sent(caller: Caller, comfyui: ComfyUIServer, tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("no image")
    answer = await caller.generate(init_image=str(tmp_path / "images" / "a.png"))
    assert "a.png' is no image that can be read" in answer.error
    assert comfyui.files.inputs == {}


async def test_denoise_alone_is_left_out(caller: Caller):
    answer = await caller.generate(denoise=0.5)
    assert answer.story.endswith("Left out: denoise (it needs init_image).")
