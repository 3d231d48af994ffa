"""From a request and a model to the values of a graph."""

import pytest

from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.engines.comfyui.families import FAMILIES, FLUX_DEV, FLUX_SCHNELL, SD15, SDXL, UNKNOWN
from mcp_image_gen_local.engines.comfyui.models import ResolvedModel
from mcp_image_gen_local.engines.comfyui.planning import round_to, values_for


def plan(family=FLUX_SCHNELL, **request):
    choice = ResolvedModel(file="file.safetensors", role="checkpoint", family=family)
    return values_for(GenerationRequest(prompt="a fox", **request), choice, seed=7)


@pytest.mark.parametrize("family", [*FAMILIES, UNKNOWN], ids=lambda family: family.id)
def test_what_is_not_asked_for_comes_from_the_family(family):
    values, _ = plan(family)
    assert values == {
        "checkpoint": "file.safetensors",
        "prompt": "a fox",
        "negative_prompt": "",
        "seed": 7,
        "steps": family.steps,
        "cfg": family.cfg,
        "sampler": family.sampler,
        "scheduler": family.scheduler,
        "width": family.width,
        "height": family.height,
        "batch_size": 1,
        **({} if family.guidance is None else {"guidance": family.guidance}),
    }


def test_what_is_asked_for_wins():
    asked = {"steps": 9, "cfg": 0.0, "sampler": "ddim", "scheduler": "normal", "width": 640, "height": 320,
             "negative_prompt": "blurry"}  # fmt: skip
    values, _ = plan(SDXL, **asked)
    assert {name: values[name] for name in asked} == asked


def test_a_plain_request_needs_no_note():
    assert plan()[1] == ()
    assert plan(SDXL, model="sdxl", negative_prompt="blurry", width=1000)[1] == ()


@pytest.mark.parametrize(
    ("family", "asked", "got"),
    [
        (FLUX_SCHNELL, (1000, 1000), (1008, 1008)),
        (FLUX_SCHNELL, (16, 4095), (16, 4096)),
        (SD15, (516, 515), (520, 512)),
    ],
)
def test_a_size_is_rounded_to_the_grid(family, asked, got):
    """A size off the grid is rounded to the nearest and told."""
    values, notes = plan(family, model="x", width=asked[0], height=asked[1])
    assert (values["width"], values["height"]) == got
    assert notes == (
        f"{asked[0]}x{asked[1]} was rounded to {got[0]}x{got[1]}: {family.id} generates in multiples of {family.grid}.",
    )


@pytest.mark.parametrize(("size", "grid", "rounded"), [(1, 16, 16), (23, 16, 16), (24, 16, 32), (64, 8, 64)])
def test_rounding_never_gives_nothing(size, grid, rounded):
    """Rounding goes to the nearest multiple and never to nothing."""
    assert round_to(size, grid) == rounded


def test_an_unchosen_model_is_reported():
    """Another model than FLUX.1-schnell is reported if nobody chose it."""
    note = "flux1-schnell is not ready at ComfyUI, so file.safetensors generated this."
    assert plan(SDXL)[1] == (note,)
    assert plan(SDXL, model="sdxl")[1] == ()


def test_an_unknown_family_is_told():
    assert plan(UNKNOWN, model="file")[1] == (
        "The family of file.safetensors is not known; it ran with the defaults of SD 1.5.",
    )


def test_a_negative_prompt_without_effect_is_told():
    assert plan(negative_prompt="blurry")[1] == (
        "negative_prompt had no effect: at cfg 1 flux1-schnell cannot use one.",
    )
    assert plan(SDXL, model="sdxl", negative_prompt="blurry", cfg=1)[1] == (
        "negative_prompt had no effect: at cfg 1 sdxl cannot use one.",
    )


def test_a_useless_cfg_is_reported():
    """A cfg that a distilled model cannot use is reported."""
    _, (note,) = plan(FLUX_DEV, model="flux1-dev", cfg=3.5)
    assert note == "flux1-dev is made for cfg 1; cfg 3.5 takes twice as long and may look burnt."
