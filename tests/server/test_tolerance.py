"""What arguments in other words mean."""

import json
import re
from typing import Any

import pytest

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.server.tolerance import Understood, understand
from mcp_image_gen_local.server.tolerance_table import spellings, table
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

KINDS = {
    "prompt": "string", "negative_prompt": "string", "width": "integer", "height": "integer", "aspect_ratio": "string",
    "steps": "integer", "seed": "integer", "cfg": "number", "guidance": "number", "model": "string",
    "batch_size": "integer", "sampler": "string", "scheduler": "string", "init_image": "string", "denoise": "number",
}  # fmt: skip
SCHEMA = {"properties": {name: {"type": kind} for name, kind in KINDS.items()}, "required": ["prompt"]}
STATUS = {"properties": {"prompt_id": {"type": "string"}}, "required": ["prompt_id"]}
JOB = "6fa459ea-ee8a-4ca4-894e-db77e160355e"


def read(**given: Any) -> Understood:
    return understand("generate_image", SCHEMA, {"prompt": "a", **given})


def meant(**given: Any) -> dict[str, Any]:
    """Return what the arguments mean beside the prompt."""
    return {name: value for name, value in read(**given).arguments.items() if name != "prompt"}


@pytest.fixture
def era() -> str:
    return "modern"


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ({"cfg_scale": 3.5}, {"cfg": 3.5}),
        ({"guidance_scale": "7"}, {"cfg": 7.0}),
        ({"num_inference_steps": 20}, {"steps": 20}),
        ({"negative": "blur"}, {"negative_prompt": "blur"}),
        ({"negativePrompt": "blur"}, {"negative_prompt": "blur"}),
        ({"n": "2"}, {"batch_size": 2}),
        ({"num_images": 3}, {"batch_size": 3}),
        ({"Width": 512, "HEIGHT": 256}, {"width": 512, "height": 256}),
        ({"image": "/a.png", "strength": 0.5}, {"init_image": "/a.png", "denoise": 0.5}),
        ({"init_images": ["/a.png"], "denoising_strength": "75%"}, {"init_image": "/a.png", "denoise": 0.75}),
        ({"image": {"type": "resource_link", "uri": "file:///a.png"}}, {"init_image": "file:///a.png"}),
        ({"ckpt_name": "x.safetensors"}, {"model": "x.safetensors"}),
        ({"sampler_name": "euler", "steps": 4}, {"sampler": "euler", "steps": 4}),
        ({"override_settings": {"sd_model_checkpoint": "x"}}, {"model": "x"}),
        ({"widht": 512}, {"width": 512}),
        ({"batchsize": 2}, {"batch_size": 2}),
        ({"params": {"steps": 4, "extra": {"cfg": 1}}}, {"steps": 4, "cfg": 1.0}),
        ({"params": '{"steps": 4}'}, {"steps": 4}),
    ],
)
def test_other_names_are_understood_and_told(given, understood):
    assert meant(**given) == understood


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"cfg_scale": 3.5, "n": 2}, "Read cfg_scale as cfg, n as batch_size."),
        ({"steps": "4.6"}, "Steps: 4.6 was rounded to 5."),
        ({"seed": [7, 8]}, "Seed: the first of 2 values was taken."),
        ({"sampler": "Euler a"}, "Read sampler 'Euler a' as sampler euler_ancestral."),
        ({"size": "512x768"}, "Read size as width 512 and height 768."),
        ({"width": 512, "size": "512x768"}, "Read size as width 512 and height 768."),
        ({"quality": "hd"}, "Left out: quality (the engine's steps decide it)."),
        ({"foo": 1}, "Left out: foo (not an argument of this tool)."),
        ({"seed": True}, "Left out: seed (true is not a number)."),
        ({"width": "640x480"}, "Read width as width 640 and height 480."),
        ({"denoise": 0.5}, "Left out: denoise (it needs init_image)."),
        ({"steps": 4, "num_steps": 5}, "Left out: num_steps (steps is given)."),
        ({f"foo{n}": 1 for n in range(100)}, None),
    ],
)
def test_what_changed_is_one_sentence(given, note):
    [told] = read(**given).notes
    assert told == note or (note is None and told.endswith("and 92 more.") and len(told) < 500)


@pytest.mark.parametrize(
    "given",
    [
        {"toolCallId": "call_1"},
        {"sessionId": "s", "action": "sendMessage", "chatInput": "hi", "toolCallId": "call_1"},
        {"wait_for_previous": True, "task_progress": "- [ ] one", "random_string": "x", "reasoning": "why not"},
        {"_meta": {}, "__arg1": "x", "conversationId": 3, "user_id": "me", "thread_id": 1, "requestId": "r"},
        {"enhance_prompt": False, "loras": [], "tiling": None, "mask": "", "foo": None, "bar": {}},
        {"seed": 7.0, "steps": "4", "width": " 512 ", "cfg": "1", "batch_size": 1, "denoise": 1},
        {"sampler": "euler", "scheduler": "simple", "model": "sdxl"},
    ],
)
def test_a_clients_own_arguments_are_no_news(given):
    assert read(**given).notes == ()


@pytest.mark.parametrize(
    "value", [None, "", " ", "null", "None", "undefined", "NaN", "n/a", [], {}, float("nan"), '"null"']
)
@pytest.mark.parametrize("name", [name for name in KINDS if name != "prompt"])
def test_not_given_in_any_dress(name: str, value: Any):
    understood = read(**{name: value})
    assert (understood.arguments, understood.notes) == ({"prompt": "a"}, ())


@pytest.mark.parametrize(
    "given",
    [
        *({name: zero} for name in ("width", "height", "steps", "batch_size") for zero in (0, "0", 0.0, -1)),
        *({"seed": seed} for seed in (-1, "-1", -1.0, "random", "Random", -5)),
        *({"cfg": -1}, {"guidance": -1}, {"denoise": 0}, {"size": "auto"}, {"aspect_ratio": 0}),
    ],
)
def test_zero_and_minus_one_mean_not_given(given):
    assert (meant(**given), read(**given).notes) == ({}, ())


@pytest.mark.parametrize(("name", "value"), [("seed", 0), ("cfg", 0), ("guidance", 0.0), ("prompt", "null")])
def test_what_is_a_value_stays_one(name, value):
    assert read(**{name: value}).arguments[name] == value


@pytest.mark.parametrize(
    ("value", "number"),
    [("1024", 1024), ("1024px", 1024), ("1,024", 1024), ("1 024", 1024), (1024.0, 1024), ("1024.0", 1024),
     ([1024], 1024), ("1e3", 1000), ({"value": 5}, 5), ("\uff15", 5), ("+7", 7), ("'7'", 7)],
)  # fmt: skip
def test_numbers_as_text(value, number):
    assert meant(width=value) == {"width": number}


def test_a_seed_keeps_all_its_digits():
    assert meant(seed="18446744073709551615") == meant(seed=2**64 - 1) == {"seed": 2**64 - 1}


@pytest.mark.parametrize(
    ("size", "understood"),
    [
        ("1024x768", {"width": 1024, "height": 768}),
        ("1024*768", {"width": 1024, "height": 768}),
        ("1024 \u00d7 768 px", {"width": 1024, "height": 768}),
        ("1024 by 768", {"width": 1024, "height": 768}),
        ([1024, 768], {"width": 1024, "height": 768}),
        ({"width": 1024, "height": 768}, {"width": 1024, "height": 768}),
        ("512", {"width": 512, "height": 512}),
        (512, {"width": 512, "height": 512}),
        ("64x48", {"width": 64, "height": 48}),
        ("16:9", {"aspect_ratio": "16:9"}),
        ("landscape", {"aspect_ratio": "3:2"}),
        ("square_hd", {"aspect_ratio": "1:1"}),
        ("portrait_4_3", {"aspect_ratio": "3:4"}),
        ("landscape_16_9", {"aspect_ratio": "16:9"}),
        ("4K", {"width": 3840, "height": 2160}),
    ],
)
@pytest.mark.parametrize("name", ["size", "resolution", "image_size"])
def test_sizes(name, size, understood):
    assert meant(**{name: size}) == understood


@pytest.mark.parametrize(
    ("ratio", "understood"),
    [("16:9", "16:9"), ("16/9", "16:9"), ("16x9", "16:9"), ("1.5", "1.5:1"), (1.5, "1.5:1"), ("Portrait", "2:3"),
     ("landscape (16:9)", "16:9"), ("9:16 vertical", "9:16")],
)  # fmt: skip
def test_aspect_ratios(ratio, understood):
    assert meant(aspect_ratio=ratio) == {"aspect_ratio": understood}


def test_width_and_height_win_over_a_ratio():
    understood = read(width=512, height=512, aspect_ratio="16:9")
    assert understood.arguments == {"prompt": "a", "width": 512, "height": 512}
    assert understood.notes == ("Left out: aspect_ratio (width and height are given).",)


@pytest.mark.parametrize(
    ("given", "sampler", "scheduler"),
    [
        ({"sampler": "Euler a"}, "euler_ancestral", None),
        ({"sampler": "DPM++ 2M Karras"}, "dpmpp_2m", "karras"),
        ({"sampler": "DPM++ 2M SDE Karras"}, "dpmpp_2m_sde", "karras"),
        ({"sampler": "DPM++ 3M SDE Exponential"}, "dpmpp_3m_sde", "exponential"),
        ({"sampler": "DPM++ 2M SGM Uniform"}, "dpmpp_2m", "sgm_uniform"),
        ({"sampler": "DPM++ SDE Karras", "scheduler": "simple"}, "dpmpp_sde", "simple"),
        ({"sampler": "DPM2 a Karras"}, "dpm_2_ancestral", "karras"),
        ({"sampler": "EULER", "scheduler": "Simple"}, "euler", "simple"),
        ({"sampler": "Heun++"}, "heunpp2", None),
        ({"sampler": "UniPC"}, "uni_pc", None),
        ({"sampler": "DDIM"}, "ddim", None),
        ({"sampler": "Euler", "scheduler": "Automatic"}, "euler", None),
        ({"sampler": "Euler", "scheduler": "SGM Uniform"}, "euler", "sgm_uniform"),
        ({"scheduler": "EulerAncestralDiscreteScheduler"}, "euler_ancestral", None),
        ({"scheduler": "DPMSolverMultistepScheduler"}, "dpmpp_2m", None),
        ({"sampler": "karras"}, None, "karras"),
        ({"sampler": "dpmpp_2m_cfg_pp"}, "dpmpp_2m_cfg_pp", None),
        ({"sampler": "My Custom-Sampler"}, "my_custom_sampler", None),
    ],
)
def test_samplers(given, sampler, scheduler):
    assert (meant(**given).get("sampler"), meant(**given).get("scheduler")) == (sampler, scheduler)


@pytest.mark.parametrize(
    "text",
    [JOB, f" {JOB}\n", f'"{JOB}"', f"`{JOB.upper()}`", f"prompt_id: {JOB}", f"job://{JOB}", f"image://{JOB}/0",
     f"The job {JOB} is running.", [JOB], {"prompt_id": JOB}],
)  # fmt: skip
@pytest.mark.parametrize("name", ["prompt_id", "id", "job_id", "promptId"])
def test_ids(name, text):
    assert understand("get_generation_status", STATUS, {name: text}).arguments == {"prompt_id": JOB}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"steps": "many"}, "steps='many' is not a number"),
        ({"num_steps": "x" * 100_000}, "is not a number"),
        ({"width": {"a": 1}}, "width={'a': 1} is not a single value"),
        ({"cfg": [True]}, "cfg=[True] is not a number"),
        ({"seed": "9" * 5_000}, "is not a number"),
        ({"cfg": 10**400}, "is too large a number"),
        ({"cfg": [[]]}, "cfg=[[]] is not a single value"),
        ({"model": [[[[[[["x"]]]]]]]}, "is not a single value"),
        ({"cfg": [10**5000]}, "a list that is too long to show is too large a number"),
        ({"steps": float("inf")}, "is not a finite number"),
        ({"size": "huge"}, "size='huge' is neither a size"),
        ({"model": True}, "model=True is not a text"),
        ({"k" * 100_000: 1, "steps": []}, None),
    ],
)
def test_only_what_cannot_be_read_is_an_error(given, problem):
    if problem is None:
        assert len(" ".join(read(**given).notes)) < 500
        return
    with pytest.raises(InvalidRequest, match=re.escape(problem)) as raised:
        read(**given)
    assert len(str(raised.value)) < 500


def test_a_missing_prompt_is_told():
    with pytest.raises(InvalidRequest, match="prompt is missing"):
        understand("generate_image", SCHEMA, {"steps": 4})


def test_deep_arguments_end():
    deep: Any = {"prompt": "a"}
    for _ in range(500):
        deep = {"args": deep}
    with pytest.raises(InvalidRequest):
        understand("generate_image", SCHEMA, deep)


def test_each_name_of_the_table_means_one_thing():
    names = [spelled for name, others in table()["synonyms"].items() for spelled in (name, *others)]
    assert sorted({name for name in names if names.count(name) > 1}) == ["prompt"]  # agents name prompt_id so
    assert not set(names) & set(table()["absent"]) - {"prompt_id"}
    assert spellings("samplers")["eulera"] == "euler_ancestral"


# -- through the door ---------------------------------------------------------------------------------------------


async def test_a_call_in_other_words(caller: Caller, comfyui: ComfyUIServer):
    answer = await caller.call(
        "generate_image", toolCallId="1", text="a red apple", size="64x48", sampler_name="Euler a", n="2", quality="hd"
    )
    assert (answer.facts["width"], answer.facts["height"], len(answer.images)) == (64, 48, 2)
    assert answer.story.endswith(
        "Read text as prompt, sampler_name as sampler, n as batch_size, size as width 64 and height 48, "
        "sampler 'Euler a' as sampler euler_ancestral. Left out: quality (the engine's steps decide it)."
    )


async def test_an_error_tells_what_was_read_otherwise(caller: Caller):
    error = (await caller.generate(cfg_scale=101)).error
    assert error.startswith("cfg=101")
    assert error.endswith("Read cfg_scale as cfg.")


async def test_tools_without_arguments_take_any(caller: Caller):
    answer = await caller.call("list_available_models", wait_for_previous=True, random_string="x")
    assert "Left out" not in answer.story
    assert json.loads(answer.text.splitlines()[0])["engine"] == "comfyui"
