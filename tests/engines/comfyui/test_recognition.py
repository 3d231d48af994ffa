"""What a file is, by its name: over many names of real files."""

import pytest

from mcp_image_gen_local.engines.comfyui import names
from mcp_image_gen_local.engines.comfyui.recognition import recognise

#: family -> names of real files, .safetensors where no other ending stands; "unknown" where they tell nothing
IMAGE_CHECKPOINTS = {
    "flux1-schnell": r"""
        flux1-schnell flux1-schnell-fp8 FLUX1-Schnell-FP8-e4m3fn.sft flux/FLUX.1-schnell flux\schnell_fp8
        schnell/flux_fp8 flux1CompactCLIPAnd_Flux1SchnellFp8
        """,
    "flux1-dev": r"""
        flux1-dev-fp8 FLUX.1-dev flux_dev flux1Dev8x8E4m3fn pixelwave_flux1Dev03 flux\fluxmania_kreamania
        flux1-krea-dev_fp8_scaled
        """,
    "sdxl": r"""
        sd_xl_base_1.0 SDXL/juggernautXL_v9 ponyDiffusionV6XL illustriousXL_v01 dreamshaperXL_lightning
        realvisxlV50_v50LightningBakedvae animagineXLV31_v31 wildcardxXLFusion_fusionOG lustifySDXLNSFW_apexV8
        waiANINSFWPONYXL_v80 amponyxl zavychromaxl_v80 novaAnimeXL_ilV190 SDXL1.0\pixelPie_v10
        SDXL1.0\donutsdeliverymixXLV2_v20 cyberrealisticPony_v141 juggernautXLInpainting_xiInpainting
        hassakuXLIllustrious_v22 realcartoonXL_v7 Juggernaut_RunDiffusionPhoto2_Lightning_4Steps
        copaxTimelessxlSDXL1_v12 anima_pencil-XL-v5.0.0 samaritan3dCartoon_v40SDXL cannyValleyXL
        unstableDiffusersYamersXL_v13 nightvisionXLPhotorealisticPortrait_v0791Bakedvae
        """,
    "sd15": r"""
        v1-5-pruned-emaonly-fp16 sd15\v1-5-pruned.ckpt sd-v1-4.ckpt sub/sd15_copy_é stable-diffusion-v1-5
        SD1.5/whatever hassakuSD15_v13 dreamshaper_8 realisticVisionV60B1_v51VAE epicrealism_naturalSinRC1VAE
        absolutereality_v181 AnyLoRA_noVae_fp16-pruned anyloraCheckpoint_bakedvaeBlessedFp16 deliberate_v2
        """,
    "unknown": r"""
        videoGameStyle_v1 swanLake_v2 taiwanDollLikeness wanderlust_v3 chromaMix_v2 luminaMix_v1
        3dAnimationDiffusion_v10 rcnzCartoon3d_v20 disneyPixarCartoon_v10 mochaMix audioDreams_v1 trellisMix_v1
        depthOfField_v1 kleinBlue_v1 svdFusion vaeBakedModel_v1 kokoroAnime loraMergedModel_v1
        helloworld_lora_merge_v2 sanaMix refinedRealism_v3 wanostyle_v1 animatedDreams_v1 pixelArtStyle
        v2-1_768-ema-pruned obsessiveCompulsive_v20 llamaArt_v1 lensFlare upscaledReality_v1 newbieArt_v1 fillMix_v1
        """,
}
#: names of real files that generate no image with this version, and what they are
FOREIGN = {
    "video": r"""
        Ltx2.3\ltx2310_v14 ltx\ltxv-2b-0.9.6-distilled-04-25 ltx-2-19b-dev-fp8 wan2.1_t2v_1.3B_fp16 Wan_22_i2v_High
        Wan2_2_Animate_14B_fp8 wan/high_noise Wan2.2-I2V-A14B-LowNoise-Q8_0.gguf hunyuan_video_t2v_720p_bf16
        CogVideoX-5b mochi_preview_bf16 svd_xt motionctrl_svd.ckpt svd stable-video-diffusion-img2vid-xt
        mm_sd_v15_v2.ckpt animatediff_lightning_4step Cosmos-1_0-Diffusion-7B-Text2World
        cosmos_predict2_2B_video2world_480p_16fps FramePackI2V_HY_fp8_e4m3fn skyreels_hunyuan_i2v
        minimax_h3_fl2va_pruned Kandinsky5lite_t2v longcat_video
        """,
    "audio": r"""
        ace_step_v1_3.5b ace_step_1.5_turbo_aio stable-audio-open-1.0 stable_audio_open_1.0 musicgen-medium
        """,
    "3D": r"""
        hunyuan3d-dit-v2-mv hunyuan_3d_v2.1 TripoSG triposr.ckpt stable_zero123.ckpt sv3d_p stable_fast_3d
        """,
    "refiner": r"sd_xl_refiner_1.0 sdXL_v10RefinerVAEFix",
    "upscaler": r"""
        SD1.5\4x_NMKD-Siax_200k.pth 4x-UltraSharp.pth 4xNomos8k_atd_jpg.pth RealESRGAN_x4plus x4-upscaler-ema
        SUPIR-v0Q_fp16
        """,
    "ControlNet": r"""
        control_v11p_sd15_canny diffusers_xl_canny_full t2iadapter_style_sd14v1.pth
        FLUX.1-dev-ControlNet-Union-Pro-2.0-fp8 iclight_sd15_fc_unet_ldm ip-adapter_sdxl_vit-h.bin
        """,
    "LoRA": r"lcm-lora-sdxl flux1-depth-dev-lora sdxl_lightning_8step_lora",
    "detector": r"lotus-depth-d-v1-1 depth_anything_v2_vitl face_yolov8m.pt sam2_hiera_large.pt",
    "editor": r"cosxl_edit instruct-pix2pix-00-22000",
    "text encoder": r"""
        clip_l t5xxl_fp16 umt5_xxl_fp16 qwen_2.5_vl_7b_fp8_scaled qwen_3_4b llama_3.1_8b_instruct_fp8_scaled
        gemma_2_2b_fp16 ViT-L-14-TEXT-detail-improved-hiT-GmP-TE-only-HF
        """,
    "VAE": r"ae sdxl_vae vae-ft-mse-840000-ema-pruned flux2-vae",
    "FLUX.1 Kontext": r"flux1-dev-kontext_fp8_scaled flux1-kontext-dev",
    "FLUX.1 Fill": r"flux1-fill-dev flux1-Fill-Dev_FP8",
    "FLUX.1 Canny": r"flux1-canny-dev",
    "FLUX.1 Depth": r"flux1-depth-dev",
    "FLUX.2": r"flux2_dev_fp8mixed flux-2-klein-4b FLUX.2-dev",
    "Krea 2": r"krea2_turbo_fp8_scaled moodyKrea2Mix_v50",
    "Z-Image": r"z_image_turbo_bf16 jibMixZIT_v20 Z-Image-Turbo",
    "Qwen-Image": r"qwen_image_fp8_e4m3fn qwen-image-2512-Q4_K_M.gguf",
    "Qwen-Image-Edit": r"qwen_image_edit_2509_bf16 Qwen-Rapid-AIO-SFW-v23",
    "Chroma": r"Chroma1-HD chroma-unlocked-v50-annealed_float8_learned_svd",
    "HiDream": r"hidream_i1_full_fp16 hidream_o1_image_bf16",
    "SD 3.5": r"sd3.5_medium stable-diffusion-3.5-large sd3.5_large_turbo",
    "SD 3": r"sd3_medium_incl_clips_t5xxlfp8",
    "AuraFlow": r"aura_flow_0.3 pony-v7-base",
    "PixArt": r"PixArt-Sigma-XL-2-1024-MS.pth",
    "Lumina 2": r"lumina_2 NetaYumev35_pretrained_all_in_one",
    "Anima": r"waiANIMA_v10Base10 anima-base-v1.0",
    "GGUF": r"flux1-schnell-Q5_K_S.gguf",
    "SVDQuant": r"svdq-int4_r32-flux.1-dev",
    "NF4": r"flux1-dev-bnb-nf4-v2",
}


def _files(names: str) -> list[str]:
    endings = (".gguf", ".pth", ".ckpt", ".pt", ".bin", ".sft")
    return [name if name.endswith(endings) else f"{name}.safetensors" for name in names.split()]


@pytest.mark.parametrize("family", IMAGE_CHECKPOINTS)
def test_an_image_checkpoint_is_of_its_family(family):
    found = {file: recognise(file, "checkpoint") for file in _files(IMAGE_CHECKPOINTS[family])}
    told = {file: what.foreign.kind if what.foreign else what.family.id for file, what in found.items()}
    assert told == dict.fromkeys(found, family)


@pytest.mark.parametrize("role", ["checkpoint", "diffusion_model"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_cannot_generate_is_named(kind, role):
    """A file that this version cannot generate with is named as what it is, in whatever folder it lies."""
    found = {file: recognise(file, role).foreign for file in _files(FOREIGN[kind])}
    assert {file: foreign.kind if foreign else None for file, foreign in found.items()} == dict.fromkeys(found, kind)


@pytest.mark.parametrize(
    ("file", "variant"),
    [
        ("flux1-krea-dev_fp8_scaled.safetensors", "Krea"),
        ("sd-v1-5-inpainting.ckpt", "inpainting"),
        ("juggerxlInpaint_juggerInpaintV8.safetensors", "inpainting"),
        ("sdxl_lightning_4step.safetensors", "Lightning"),
        ("juggernautXL_v9.safetensors", ""),
    ],
)
def test_a_variant_is_told_from_its_family(file, variant):
    assert recognise(file, "checkpoint").variant == variant


def test_a_family_is_loaded_from_its_own_folder_only():
    """SDXL without text encoders is refused; a checkpoint of it is not."""
    alone = recognise("sdxl_lightning_4step_unet.safetensors", "diffusion_model").foreign
    assert alone is not None
    assert "models/checkpoints" in alone.reason


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("SDXL\\realvisxlV50_v50Lightning.safetensors", "sdxl/realvisxl-v50-v50-lightning"),
        ("waiXLLightning-14B.ckpt", "wai-xl-lightning-14b"),
        ("a/ControlNet LoRA.safetensors", "a/controlnet-lora"),
        ("FLUX.1-dev", "flux-1-dev"),
        ("", ""),
    ],
)
def test_the_words_of_a_name(path, words):
    assert names.words(path) == words


@pytest.mark.parametrize(
    ("file", "is_model"),
    [
        ("a.safetensors", True),
        ("sub/a.CKPT", True),
        ("pixel_space", True),  # ComfyUI offers it without a file
        ("sd_v1.5", True),
        ("._a.safetensors", False),
        ("sub\\._a.safetensors", False),
        (".cache/a.safetensors", False),
        (".DS_Store", False),
        ("put_checkpoints_here", False),
        ("sub/put_text_encoder_files_here", False),
        ("readme.md", False),
        ("config.json", False),
        ("a.safetensors.part", False),
        ("a.safetensors.aria2", False),
        ("video.mp4", False),
        ("a.7z", False),
        ("", False),
    ],
)
def test_what_is_no_model_file(file, is_model):
    assert names.is_model_file(file) is is_model


def test_a_hostile_name_is_read_in_no_time():
    """Only the end of a name is looked at: no file system takes one of this length."""
    assert recognise("flux" * 500_000 + ".safetensors", "checkpoint").family.id == "flux1-dev"
