"""From a request and a model to the values of a graph."""

import pytest

from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.engines.comfyui.families import FAMILIES, FLUX_DEV, FLUX_SCHNELL, SD15, SDXL, UNKNOWN
from mcp_image_gen_local.engines.comfyui.models import ResolvedModel
from mcp_image_gen_local.engines.comfyui.planning import round_to, values_for
from mcp_image_gen_local.engines.comfyui.recognition import recognise


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


@pytest.mark.parametrize(
    ("asked", "cfg", "guidance", "notes"),
    [
        ({"cfg": 4}, 1, 4, ("cfg 4 was used as guidance: flux1-dev is made for cfg 1.",)),
        ({"cfg": 1}, 1, 3.5, ()),
        ({"guidance": 2}, 1, 2, ()),
        ({"cfg": 7, "guidance": 2}, 1, 2, ("cfg 7 had no effect: flux1-dev is made for cfg 1.",)),
        ({"cfg": 0}, 1, 3.5, ("cfg 0 had no effect: flux1-dev is made for cfg 1.",)),
    ],
)
def test_a_cfg_is_guidance_where_cfg_burns(asked, cfg, guidance, notes):
    """A cfg above 1 for a model with distilled guidance is taken as that; cfg itself stays as the family needs it."""
    values, told = plan(FLUX_DEV, model="flux1-dev", **asked)
    assert (values["cfg"], values["guidance"], told) == (cfg, guidance, notes)


def test_schnell_leaves_cfg_and_negative_out():
    """What FLUX.1-schnell cannot use is left out, and one sentence says so."""
    values, notes = plan(FLUX_SCHNELL, model="flux1-schnell", cfg=3.5, negative_prompt="blurry")
    assert (values["cfg"], notes) == (
        1, ("cfg 3.5 and negative_prompt had no effect: flux1-schnell is made for cfg 1.",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("file", "family", "steps", "cfg", "sampler", "scheduler", "side"),
    [
        ("realvisxlV50_v50LightningBakedvae", SDXL, 6, 1, "euler", "sgm_uniform", 1024),
        ("Juggernaut_RunDiffusionPhoto2_Lightning_4Steps", SDXL, 4, 1, "euler", "sgm_uniform", 1024),
        ("sdxl_lightning_8-step", SDXL, 8, 1, "euler", "sgm_uniform", 1024),
        ("Hyper-SDXL-1step-Unet-Comfyui.fp16", SDXL, 1, 1, "euler", "sgm_uniform", 1024),
        ("dreamshaperXL_v21TurboDPMSDE", SDXL, 8, 2, "dpmpp_sde", "karras", 1024),
        ("sd_xl_turbo_1.0_fp16", SDXL, 4, 1, "euler_ancestral", "sgm_uniform", 512),
        ("bigLust_v16DMD2", SDXL, 6, 1, "lcm", "sgm_uniform", 1024),
        ("SDXL-Flash", SDXL, 8, 2, "dpmpp_sde", "karras", 1024),
        ("dreamshaper_8LCM", SD15, 6, 1, "lcm", "sgm_uniform", 512),
        ("realisticVisionV60B1_v51HyperVAE", SD15, 8, 1, "euler", "sgm_uniform", 512),
        ("some_sd15_4step", SD15, 4, 1, "euler", "sgm_uniform", 512),
        ("flux1-dev-turbo-8step", FLUX_DEV, 8, 1, "euler", "simple", 1024),
        ("flux1-schnell-turbo", FLUX_SCHNELL, 4, 1, "euler", "simple", 1024),
        ("hyperRealismXL_v1", SDXL, 25, 7, "dpmpp_2m", "karras", 1024),
        ("lightningStyleXL_v1", SDXL, 25, 7, "dpmpp_2m", "karras", 1024),
        ("some_sdxl_90000steps", SDXL, 25, 7, "dpmpp_2m", "karras", 1024),
    ],
)
def test_a_distilled_model_takes_few_steps(file, family, steps, cfg, sampler, scheduler, side):
    choice = ResolvedModel(file=file, role="checkpoint", family=family, speed=recognise(file, "checkpoint").speed)
    values, notes = values_for(GenerationRequest(prompt="a", model="x"), choice, seed=7)
    told = {name: values[name] for name in ("steps", "cfg", "sampler", "scheduler", "width", "height")}
    assert told == {
        "steps": steps, "cfg": cfg, "sampler": sampler, "scheduler": scheduler, "width": side, "height": side,
    }  # fmt: skip
    assert notes == ()


def test_a_large_cfg_on_a_distilled_model_is_told():
    file = "juggernaut_xl_lightning_by_rd.safetensors"
    choice = ResolvedModel(file=file, role="checkpoint", family=SDXL, speed=recognise(file, "checkpoint").speed)
    values, notes = values_for(GenerationRequest(prompt="a", model="x", cfg=7), choice, seed=7)
    assert values["cfg"] == 7
    assert notes == (f"{file} is a Lightning model, made for cfg 1 to 2; cfg 7 may look burnt.",)


def test_how_the_model_was_chosen_is_told():
    choice = ResolvedModel(file="f", role="checkpoint", family=SDXL, notes=("model='pony' was taken as f.",))
    assert values_for(GenerationRequest(prompt="a", model="pony"), choice, seed=7)[1] == choice.notes


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({"aspect_ratio": "16:9"}, (1360, 768)),
        ({"aspect_ratio": "1:1"}, (1024, 1024)),
        ({"aspect_ratio": "2:3"}, (832, 1248)),
        ({"aspect_ratio": "16:9", "width": 640}, (640, 368)),
        ({"aspect_ratio": "9:16", "height": 1024}, (576, 1024)),
    ],
)
def test_an_aspect_ratio_keeps_the_models_pixels(asked, size):
    values, notes = plan(**asked)
    assert (values["width"], values["height"]) == size
    assert notes == ()
