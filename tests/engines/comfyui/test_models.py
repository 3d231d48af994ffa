"""Families known by file name, and files chosen for a request."""

import pytest

from mcp_image_gen_local.domain.errors import ModelIncomplete, ModelNotFound, RequestNotSupported
from mcp_image_gen_local.engines.comfyui.families import FAMILIES, FLUX_SCHNELL, by_id
from mcp_image_gen_local.engines.comfyui.models import LOADERS, catalog, choices, resolve

FLUX_PARTS = {
    "text_encoder": ("clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"),
    "vae": ("ae.safetensors",),
}
SDXL_FILE, SD15_FILE = "sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly-fp16.safetensors"


def inventory(*checkpoints: str, diffusion_models: tuple[str, ...] = (), **roles: tuple[str, ...]):
    return {"checkpoint": checkpoints, "diffusion_model": diffusion_models, **FLUX_PARTS, **roles}


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
    assert [c.file for c in choices(inventory("artaix_v30.safetensors", SD15_FILE))] == [
        SD15_FILE, "artaix_v30.safetensors",
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
    """A diffusion model of a family without a workflow is not ready, and nothing is said to be missing."""
    (choice,) = choices(inventory(diffusion_models=("z_image_turbo_bf16.safetensors",)))
    assert (choice.ready, choice.missing) == (False, ())
    assert catalog(inventory(diffusion_models=(choice.file,))).models[1].unsupported == (
        "This version cannot run Z-Image; it runs flux1-schnell, flux1-dev, sdxl, sd15."
    )


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


# -- which file -----------------------------------------------------------------------------------------------------

INPAINTING, LIGHTNING = "sd-v1-5-inpainting.ckpt", "sdxl_lightning_4step.safetensors"


@pytest.mark.parametrize(
    ("name", "files", "taken"),
    [
        ("sd15", (INPAINTING, SD15_FILE), SD15_FILE),
        (
            "sdxl",
            ("aXLInpainting.safetensors", LIGHTNING, "ponyXL.safetensors", "aaXL.safetensors"),
            "aaXL.safetensors",
        ),
        ("sdxl", ("aaXL.safetensors", SDXL_FILE), SDXL_FILE),
        ("flux1-dev", ("flux1-krea-dev_fp8.safetensors", "flux1-dev.safetensors"), "flux1-dev.safetensors"),
        (None, ("Ltx2.3\\ltx2310_v14.safetensors", "artaix_v30.safetensors"), "artaix_v30.safetensors"),
        (None, ("artaix_v30.safetensors", INPAINTING), "artaix_v30.safetensors"),
        (None, ("flux1-dev.safetensors", SD15_FILE), SD15_FILE),  # Black Forest Labs' file has no text encoder
        (None, ("._flux1-schnell-fp8.safetensors", "flux1-schnell-fp8.safetensors"), "flux1-schnell-fp8.safetensors"),
        (" default ", (SD15_FILE,), SD15_FILE),
    ],
)
def test_the_plain_file_comes_before_variants(name, files, taken):
    choice = resolve(name, inventory(*files))
    assert (choice.file, choice.notes) == (taken, ())


@pytest.mark.parametrize(
    ("name", "file", "variant", "family"),
    [
        ("sdxl", LIGHTNING, "Lightning", "sdxl"),
        ("sd15", INPAINTING, "inpainting", "sd15"),
        (None, INPAINTING, "inpainting", "sd15"),
        ("flux1-dev", "flux1-krea-dev_fp8.safetensors", "Krea", "flux1-dev"),
    ],
)
def test_a_variant_that_is_alone_is_taken_and_told(name, file, variant, family):
    choice = resolve(name, inventory(file))
    assert (choice.file, choice.notes) == (
        file, (f"Of {family} only a variant is ready, so {file} ({variant}) was used.",),
    )  # fmt: skip


def test_a_variant_by_its_name_needs_no_note():
    assert resolve(INPAINTING, inventory(INPAINTING, SD15_FILE)).notes == ()


# -- what a name means ------------------------------------------------------------------------------------------------

PONY, SCHNELL = "ponyDiffusionV6XL_v6.safetensors", "flux1-schnell-fp8.safetensors"
SEVERAL = (PONY, SCHNELL, SD15_FILE, SDXL_FILE, LIGHTNING, "sub/dreamshaper_8.safetensors")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("pony", PONY),
        ("Pony Diffusion", PONY),
        ("flux", SCHNELL),
        ("schnell", SCHNELL),
        ("FLUX.1-schnell", SCHNELL),
        ("FLUX.1 [schnell]", SCHNELL),
        ("flux schnell", SCHNELL),
        ("black-forest-labs/FLUX.1-schnell", SCHNELL),
        ("flux1schnell", SCHNELL),
        ("sd1.5", SD15_FILE),
        ("SD 1.5", SD15_FILE),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", SD15_FILE),
        ("stabilityai/sdxl", SDXL_FILE),
        ("stabilityai/stable-diffusion-xl-base-1.0", SDXL_FILE),
        ("sd xl", SDXL_FILE),
        ("SDXL 1.0", SDXL_FILE),
        ("sdxl lightning", LIGHTNING),
        ("lightning", LIGHTNING),
        ("ponyDiffusionV6XL_v6 [67ab2fd8ec]", PONY),
        ("ponyDiffusionV6XL_v6.safetensors [67AB2FD8EC]", PONY),
        ('"ponyDiffusionV6XL_v6.safetensors"', PONY),
        ("`Pony-Diffusion V6XL v6`", PONY),
        ("dreamshaper", "sub/dreamshaper_8.safetensors"),
        ("Dreamshaper-8", "sub/dreamshaper_8.safetensors"),
        ("other/dreamshaper_8.safetensors", "sub/dreamshaper_8.safetensors"),
        ("C:\\ComfyUI\\models\\checkpoints\\sub\\dreamshaper_8.safetensors", "sub/dreamshaper_8.safetensors"),
    ],
)
def test_a_name_is_understood(name, file):
    assert resolve(name, inventory(*SEVERAL)).file == file


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("pony", f"model='pony' was taken as {PONY}."),
        ("schnell", "model='schnell' is flux1-schnell."),
        ("FLUX.1-schnell", None),
        ("black-forest-labs/FLUX.1-schnell", None),
        ("dreamshaper_8", None),
        (PONY, None),
    ],
)
def test_what_a_part_of_a_name_was_taken_for_is_told(name, note):
    assert resolve(name, inventory(*SEVERAL)).notes == ((note,) if note else ())


@pytest.mark.parametrize(
    ("name", "files", "named"),
    [
        ("dreamy", ("a/dreamy.safetensors", "b/dreamy.safetensors"), ("a/dreamy.safetensors", "b/dreamy.safetensors")),
        ("dreamy.safetensors", ("a/dreamy.safetensors", "b\\dreamy.safetensors"), ("b\\dreamy.safetensors",)),
        ("pony", (PONY, "ponyRealism_V22.safetensors", SDXL_FILE), (PONY, "ponyRealism_V22.safetensors")),
        ("flux", (SCHNELL, "flux1-dev-fp8.safetensors"), (SCHNELL, "flux1-dev-fp8.safetensors")),
        ("stable diffusion", (SD15_FILE, "a_xl.safetensors"), (SD15_FILE, "a_xl.safetensors")),
        ("x", tuple(f"x{n}/x.safetensors" for n in range(20)), ("and 12 more",)),
    ],
)
def test_a_name_that_fits_several_names_them(name, files, named):
    with pytest.raises(ModelNotFound, match=f"fits {20 if name == 'x' else 2} models") as caught:
        resolve(name, inventory(*files))
    assert all(file in caught.value.hint for file in named)
    assert SDXL_FILE not in caught.value.hint


@pytest.mark.parametrize(
    ("name", "files", "taken"),
    [
        ("dreamy.safetensors", ("dreamy.safetensors", "b/dreamy.safetensors"), "dreamy.safetensors"),
        ("v1-5-pruned-emaonly", ("v1-5-pruned-emaonly.ckpt", "v1-5-pruned-emaonly.safetensors"),
         "v1-5-pruned-emaonly.safetensors"),
        ("A.safetensors", ("a.safetensors", "A.safetensors"), "A.safetensors"),
        ("model.safetensors", ("wan/model.safetensors", "sdxl/model.safetensors"), "sdxl/model.safetensors"),
    ],
)  # fmt: skip
def test_one_of_several_is_meant(name, files, taken):
    """Of several files one is meant: the exact one, the same in another container, the only one that generates."""
    assert resolve(name, inventory(*files)).file == taken


def test_a_family_in_any_spelling_takes_what_is_ready():
    files = inventory("flux1-dev-fp8.safetensors", diffusion_models=("flux1-dev.safetensors",), vae=())
    assert [resolve(name, files).file for name in ("flux1dev", "FLUX.1 dev", "flux1-dev")] == [
        "flux1-dev-fp8.safetensors"
    ] * 3


def test_one_file_in_two_folders_generates():
    """The same name among checkpoints and diffusion models is no question: the one that is ready generates."""
    files = inventory(SCHNELL, diffusion_models=(SCHNELL,), vae=())
    assert resolve(SCHNELL, files).role == "checkpoint"


# -- what this version cannot generate with ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "files", "reason"),
    [
        ("z_image_turbo_bf16", ("z_image_turbo_bf16.safetensors",), "this version cannot run Z-Image; it runs flux1-"),
        ("z-image", ("z_image_turbo_bf16.safetensors", "z_image_bf16.safetensors"), "cannot run Z-Image"),
        (
            "ltx2310_v14",
            ("Ltx2.3\\ltx2310_v14.safetensors",),
            "it is a video model; this version generates images only",
        ),
        ("refiner", ("sd_xl_refiner_1.0.safetensors",), "it is a refiner"),
        ("flux1-schnell-Q5_K_S", ("flux1-schnell-Q5_K_S.gguf",), "cannot load GGUF files"),
    ],
)
@pytest.mark.parametrize("role", ["checkpoint", "diffusion_model"])
def test_a_foreign_model_is_refused_as_what_it_is(name, files, reason, role):
    """The refusal says what the file is, and does not ask for files that would not help."""
    with pytest.raises(RequestNotSupported, match=reason) as caught:
        resolve(name, {**inventory(SD15_FILE), role: (*files, SD15_FILE)})
    assert "Missing" not in str(caught.value)
    assert SD15_FILE in caught.value.hint


def test_a_foreign_family_that_is_not_there():
    with pytest.raises(ModelNotFound, match="This version cannot run Qwen-Image; it runs flux1-schnell"):
        resolve("qwen-image", inventory(SD15_FILE))


def test_a_comfyui_with_videos_only():
    """Without any image model the error names what is there, and the download."""
    with pytest.raises(ModelNotFound, match="can generate with this version: 2 video, 1 audio") as caught:
        resolve(None, inventory("svd.safetensors", "ltxv-2b.safetensors", "ace_step_v1_3.5b.safetensors"))
    assert "Download flux1-schnell-fp8.safetensors" in caught.value.hint


def test_an_advice_to_download_is_one_that_helps():
    """What the catalog calls missing can be downloaded; what cannot be helped is unsupported."""
    files = inventory(
        "svd.safetensors", diffusion_models=("flux1-schnell.safetensors", "z_image_bf16.safetensors"), vae=()
    )
    models = {m.name: m for m in catalog(files).models}
    assert [name for name, m in models.items() if m.missing] == ["flux1-schnell.safetensors"]
    assert {name: m.kind for name, m in models.items() if m.unsupported} == {
        "svd.safetensors": "video", "z_image_bf16.safetensors": "Z-Image",
    }  # fmt: skip


def test_an_unloadable_default_has_a_download():
    """FLUX.1-schnell as GGUF only: the catalog begins with the file that this version can load."""
    first = catalog(inventory(diffusion_models=("flux1-schnell-Q5_K_S.gguf",))).models[0]
    assert (first.name, first.missing) == ("flux1-schnell", (FLUX_SCHNELL.download,))


# -- parts -----------------------------------------------------------------------------------------------------------


def slots(text_encoder: tuple[str, ...], vae: tuple[str, ...]):
    files = inventory(diffusion_models=("flux1-schnell.safetensors",), text_encoder=text_encoder, vae=vae)
    (choice,) = choices(files)
    return [choice.parts.get(slot) for slot in ("text_encoder_1", "text_encoder_2", "vae")]


T5, CLIP, AE = "t5xxl_fp16.safetensors", "clip_l.safetensors", "ae.safetensors"


@pytest.mark.parametrize(
    "t5",
    [
        "t5/google_t5-v1_1-xxl_encoderonly-fp8_e4m3fn.safetensors",
        "t5-v1_1-xxl-encoder.safetensors",
        "T5XXL_fp16.safetensors",
        "sub\\t5_xxl.safetensors",
        "flan_t5_xxl_fp16.safetensors",
    ],
)
def test_t5_is_found_under_its_usual_names(t5):
    others = ("._t5xxl_fp16.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "oldt5_xxl_fp8_scaled.safetensors",
              "t5_base.safetensors", "t5-v1_1-xxl-encoder-Q8_0.gguf", "model.safetensors",
              "awq-int4-flux.1-t5xxl.safetensors")  # fmt: skip
    assert slots((*others, t5, CLIP), (AE,))[0] == t5


@pytest.mark.parametrize(
    "clip",
    [
        "FLUX/clip_l.safetensors",
        "CLIP-L.safetensors",
        "flux_clip_l.safetensors",
        "t5/clip_l.safetensors",
        "ViT-L-14-TEXT-detail-improved-hiT-GmP-TE-only-HF.safetensors",
        "ViT-L-14-BEST-smooth-GmP-TE-only-HF-format.safetensors",
    ],
)
def test_clip_l_is_found_under_its_usual_names(clip):
    others = ("._clip_l.safetensors", "clip_l_hidream.safetensors", "clip_g.safetensors", "clip_g_hidream.safetensors",
              "clip_vision_h.safetensors", "Long-ViT-L-14-GmP.safetensors", "clip_l.gguf")  # fmt: skip
    assert slots((*others, T5, clip), (AE,))[1] == clip


@pytest.mark.parametrize(
    "ae",
    [
        "FLUX1\\ae.safetensors",
        "ae.sft",
        "flux-vae-bf16.safetensors",
        "FLUX.1-vae.sft",
        "flux1_ae.safetensors",
        "z_ae.safetensors",
        "fluxVAE_v1.safetensors",
    ],
)
def test_the_flux_vae_is_found_under_its_usual_names(ae):
    others = ("._ae.safetensors", "pixel_space", "taef1", "sdxl_vae.safetensors", "flux2-vae.safetensors",
              "Flux.2 klein/ae.safetensors", "diffusion_pytorch_model.safetensors", "wan_2.1_vae.safetensors",
              "qwen_image_vae.safetensors", "pig_flux_vae_fp32-f16.gguf", "hunyuan/ae.safetensors")  # fmt: skip
    assert slots((T5, CLIP), (*others, ae))[2] == ae


def test_the_best_of_several_parts_is_taken():
    """Of several that fit the usual file is taken: fp8 first, finetunes last."""
    encoders = (
        "flan_t5_xxl_fp8.safetensors",
        T5,
        "t5xxl_fp8_e4m3fn_scaled.safetensors",
        "ViT-L-14-TEXT-GmP.safetensors",
        CLIP,
    )
    assert slots(encoders, ("ultrafluxVAEImproved_v10.safetensors", "z_ae.safetensors", "FLUX1/ae.safetensors")) == [
        "t5xxl_fp8_e4m3fn_scaled.safetensors", CLIP, "FLUX1/ae.safetensors",
    ]  # fmt: skip


def test_hidden_files_are_of_no_role():
    hidden = dict.fromkeys(LOADERS, ("._a.safetensors", "put_files_here", "a.safetensors"))
    assert catalog(hidden).files == dict.fromkeys(LOADERS, ("a.safetensors",))
