"""Families known by file name, and files chosen for a request."""

import pytest

from mcp_image_gen_local.domain.errors import ModelIncomplete, ModelNotFound
from mcp_image_gen_local.engines.comfyui.families import FAMILIES, FLUX_SCHNELL, by_id, recognise
from mcp_image_gen_local.engines.comfyui.models import LOADERS, catalog, choices, resolve

FLUX_PARTS = {
    "text_encoder": ("clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"),
    "vae": ("ae.safetensors",),
}
SDXL_FILE, SD15_FILE = "sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly-fp16.safetensors"


def inventory(*checkpoints: str, diffusion_models: tuple[str, ...] = (), **roles: tuple[str, ...]):
    return {"checkpoint": checkpoints, "diffusion_model": diffusion_models, **FLUX_PARTS, **roles}


@pytest.mark.parametrize(
    ("file", "family"),
    [
        ("flux1-schnell.safetensors", "flux1-schnell"),
        ("flux1-schnell-fp8.safetensors", "flux1-schnell"),
        ("FLUX1-Schnell-FP8-e4m3fn.sft", "flux1-schnell"),
        ("flux/FLUX.1-schnell.safetensors", "flux1-schnell"),
        ("flux\\schnell_fp8.safetensors", "flux1-schnell"),
        ("schnell/flux_q4.gguf", "flux1-schnell"),
        ("flux1-dev-fp8.safetensors", "flux1-dev"),
        ("flux1-krea-dev_fp8_scaled.safetensors", "flux1-dev"),
        ("FLUX.1-dev.safetensors", "flux1-dev"),
        ("flux1-dev-kontext_fp8_scaled.safetensors", "unknown"),
        ("flux1-fill-dev.safetensors", "unknown"),
        ("flux1-canny-dev.safetensors", "unknown"),
        (SDXL_FILE, "sdxl"),
        ("SDXL/juggernautXL_v9.safetensors", "sdxl"),
        ("ponyDiffusionV6XL.safetensors", "sdxl"),
        ("illustriousXL_v01.safetensors", "sdxl"),
        ("dreamshaperXL_lightning.safetensors", "sdxl"),
        (SD15_FILE, "sd15"),
        ("sd15\\v1-5-pruned.ckpt", "sd15"),
        ("sub dir/sd15 copy é.safetensors", "sd15"),
        ("sd-v1-4.ckpt", "sd15"),
        ("stable-diffusion-v1-5.safetensors", "sd15"),
        ("dreamshaper_8.safetensors", "unknown"),
        ("sd3.5_medium.safetensors", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_family_is_known_by_the_name_of_its_file(file, family):
    assert recognise(file).id == family


def test_a_family_is_found_by_its_id_in_any_case():
    assert [by_id(name) for name in ("flux1-schnell", "FLUX1-SCHNELL", "unknown", "nothing")] == [
        FLUX_SCHNELL, FLUX_SCHNELL, None, None,
    ]  # fmt: skip
    assert len({family.id for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize(
    "name",
    [
        "flux/flux1-schnell.safetensors",
        "flux\\flux1-schnell.safetensors",
        "Flux/FLUX1-Schnell.safetensors",
        "flux/flux1-schnell",
        "flux1-schnell.safetensors",
        "flux1-schnell",
    ],
)
@pytest.mark.parametrize("listed", ["flux/flux1-schnell.safetensors", "flux\\flux1-schnell.safetensors"])
def test_a_file_is_found_under_any_spelling(name, listed):
    """A file is found with and without folder and extension and keeps its spelling."""
    assert resolve(name, inventory(diffusion_models=(listed,))).file == listed


def test_a_full_path_wins_over_a_name():
    """A full path wins over the same name in another folder."""
    files = ("a/dreamy.safetensors", "b/dreamy.safetensors")
    assert resolve("b/dreamy.safetensors", inventory(*files)).file == "b/dreamy.safetensors"


def test_fp8_comes_before_larger_files():
    """Without a name FLUX.1-schnell generates and fp8 comes before larger files."""
    files = inventory(SDXL_FILE, "flux1-schnell-fp8.safetensors", diffusion_models=("flux1-schnell.safetensors",))
    assert resolve(None, files).file == "flux1-schnell-fp8.safetensors"
    assert [c.family.id for c in choices(files)] == ["flux1-schnell", "flux1-schnell", "sdxl"]


def test_a_ready_model_wins_over_an_incomplete_one():
    """Without a name a ready model wins over an incomplete FLUX.1-schnell."""
    files = inventory(SD15_FILE, SDXL_FILE, diffusion_models=("flux1-schnell.safetensors",), vae=())
    assert resolve(None, files).file == SDXL_FILE
    assert [c.ready for c in choices(files)] == [True, True, False]


def test_a_checkpoint_of_unknown_family_ranks_last():
    assert [c.file for c in choices(inventory("dreamshaper_8.safetensors", SD15_FILE))] == [
        SD15_FILE, "dreamshaper_8.safetensors",
    ]  # fmt: skip


def test_a_diffusion_model_brings_its_parts():
    """A diffusion model brings its encoders and VAE best first."""
    files = inventory(
        diffusion_models=("flux1-schnell.safetensors",),
        text_encoder=("sub/clip_l.safetensors", "t5xxl_fp16.safetensors", "t5\\t5xxl_fp8_e4m3fn_scaled.safetensors"),
        vae=("sdxl_vae.safetensors", "flux/ae.safetensors"),
    )
    assert resolve("flux1-schnell", files).slots == {
        "diffusion_model": "flux1-schnell.safetensors",
        "text_encoder_1": "t5\\t5xxl_fp8_e4m3fn_scaled.safetensors",
        "text_encoder_2": "sub/clip_l.safetensors",
        "vae": "flux/ae.safetensors",
    }


def test_a_missing_part_is_named_with_its_folder():
    files = inventory(diffusion_models=("flux1-schnell.safetensors",), text_encoder=("clip_l.safetensors",), vae=())
    with pytest.raises(ModelIncomplete) as caught:
        resolve("flux1-schnell", files)
    assert caught.value.message == (
        "The model 'flux1-schnell.safetensors' cannot generate yet. Missing: "
        "t5xxl_fp8_e4m3fn.safetensors from comfyanonymous/flux_text_encoders into models/text_encoders; "
        "ae.safetensors from black-forest-labs/FLUX.1-schnell into models/vae."
    )


def test_a_model_without_a_workflow_is_not_ready():
    """A diffusion model without a workflow is listed as not ready."""
    (choice,) = choices(inventory(diffusion_models=("wan2.1_t2v.safetensors",)))
    assert not choice.ready
    assert "not one this server can load yet" in choice.missing[0]


def test_an_unknown_name_names_the_nearest_file():
    """An unknown name is answered with the nearest file first."""
    with pytest.raises(ModelNotFound) as caught:
        resolve("sd_xl_bse", inventory("a.safetensors", SDXL_FILE, SD15_FILE))
    assert caught.value.message == "ComfyUI has no model 'sd_xl_bse'."
    assert caught.value.hint == (
        f"Installed: {SDXL_FILE}, {SD15_FILE}, a.safetensors. Call list_available_models for all."
    )


def test_a_name_like_nothing_lists_the_present():
    """A name like nothing is answered with what is there."""
    with pytest.raises(ModelNotFound, match=f"Installed: {SDXL_FILE}, {SD15_FILE}"):
        resolve("zzzz", inventory(SD15_FILE, SDXL_FILE))


def test_a_long_name_has_a_short_answer():
    """A name of any length is answered in a few words."""
    with pytest.raises(ModelNotFound) as caught:
        resolve("x" * 300_000, inventory(SDXL_FILE))
    assert len(str(caught.value)) < 500


def test_a_missing_family_names_its_download():
    """A family that is not installed is answered with its download."""
    with pytest.raises(ModelNotFound) as caught:
        resolve("FLUX1-DEV", inventory(SDXL_FILE))
    assert caught.value.hint.startswith("Download flux1-dev-fp8.safetensors from Comfy-Org/flux1-dev")
    assert f"Installed: {SDXL_FILE}" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "download"), [(None, "flux1-schnell"), ("sdxl", "stabilityai"), ("dream", "Comfy-Org/flux1-schnell")]
)
def test_an_empty_comfyui_is_answered_with_a_download(name, download):
    with pytest.raises(ModelNotFound, match=f"Download .*{download}"):
        resolve(name, {})


def test_the_catalog_without_the_default():
    """The catalog begins with FLUX.1-schnell also when it is not there."""
    models = catalog(inventory(SDXL_FILE)).models
    assert [(m.family, m.ready) for m in models] == [("flux1-schnell", False), ("sdxl", True)]
    assert models[0].missing == (FLUX_SCHNELL.download,)


def test_the_catalog_with_an_incomplete_default():
    """The catalog begins with FLUX.1-schnell also when it is incomplete."""
    found = catalog(inventory(SDXL_FILE, diffusion_models=("flux1-schnell.safetensors",), vae=()))
    assert [(m.name, m.ready) for m in found.models] == [("flux1-schnell.safetensors", False), (SDXL_FILE, True)]
    assert "missing" not in found.models[1].to_dict()


def test_the_catalog_tells_every_file_of_every_role():
    everything = {role: (f"{role}.safetensors",) for role in LOADERS}
    assert catalog(everything).files == everything
