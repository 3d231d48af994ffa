"""Model families: how to know one by its file name, what it needs, and what it generates best with. Data.

Sources: ComfyUI's official workflow templates (flux_schnell, flux_dev_*, sdxl_simple_example) and the model cards.
"""

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from mcp_image_gen_local.engines.comfyui.names import squash

_NOTHING: Final = re.compile(r"(?!)")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file that a family needs beside the model itself. All patterns are searched in the words of a path."""

    role: str  #: "text_encoder" or "vae"
    pattern: re.Pattern[str]  #: what the file's own name looks like
    never: re.Pattern[str]  #: what it or its folders must not say
    best: tuple[re.Pattern[str], ...]  #: which of several is taken, best first
    folder: str  #: where it belongs, below ComfyUI's folder
    download: str  #: file and Hugging Face repository


@dataclass(frozen=True, kw_only=True)
class Family:
    """Defaults and needs of one kind of model. All patterns are searched in the words of a path (`names.words`)."""

    id: str
    pattern: re.Pattern[str]  #: what the name of a file of the family looks like
    hint: re.Pattern[str] = _NOTHING  #: weaker signs, for names in which no pattern of any family is found
    original: re.Pattern[str]  #: the file that its makers published, which is taken before finetunes
    alias: re.Pattern[str]  #: all of what people write for the family itself
    bare: re.Pattern[str] = _NOTHING  #: what a checkpoint is called that lacks text encoder and VAE
    style: re.Pattern[str] = _NOTHING  #: children that want prompts of their own, and are taken after others
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    width: int  #: pixels
    height: int  #: pixels
    grid: int  #: width and height are multiples of this; ComfyUI would round down without a word
    takes_negative: bool  #: False for models distilled to cfg 1
    guidance: float | None = None  #: distilled guidance; None for models without it
    workflows: MappingProxyType[str, str]  #: role of the model file -> workflow file
    parts: MappingProxyType[str, Part] = field(default_factory=lambda: MappingProxyType({}))  #: for diffusion models
    download: str = ""  #: how to get it


CHECKPOINT: Final = "checkpoint"
DIFFUSION_MODEL: Final = "diffusion_model"

_FLUX_PARTS = MappingProxyType(
    {
        "text_encoder_1": Part(
            role="text_encoder",
            pattern=re.compile(r"\bt5-?(v1-?1-?)?xxl"),
            never=re.compile(r"\bawq\b|\bsvdq\b"),
            best=(re.compile(r"fp8.*scaled"), re.compile(r"^((?!flan).)*fp8"), re.compile(r"^((?!flan).)*$")),
            folder="models/text_encoders",
            download="t5xxl_fp8_e4m3fn.safetensors from comfyanonymous/flux_text_encoders",
        ),
        "text_encoder_2": Part(
            role="text_encoder",
            pattern=re.compile(r"\bclip-?l\b|\bclip-large\b|\bvit-l-14\b|\bclip-vit-large-patch14$"),
            never=re.compile(r"hidream|vision|\blong-?(clip|vit)|\b336\b|\bclip-?g\b|t5[^/]*$"),
            best=(re.compile(r"(^|/)clip-l$"), re.compile(r"\bclip-?l\b"), re.compile(r"\btext\b|\bte\b")),
            folder="models/text_encoders",
            download="clip_l.safetensors from comfyanonymous/flux_text_encoders",
        ),
        "vae": Part(
            role="vae",
            pattern=re.compile(r"^(z-)?ae(-(fp|bf)?\d+)?$|flux-?1?-?(dev-|schnell-)?(vae|ae)\b|\b(vae|ae)-flux-?1?\b"),
            never=re.compile(r"flux-?[23]|klein|\b(wan|ltxv?|hunyuan\w*|mochi|cosmos|sana|cascade|sd-?3)\b"),
            best=(re.compile(r"^ae$|^flux[^/]*/ae$"), re.compile(r"\bflux"), re.compile(r"(^|/)ae")),
            folder="models/vae",
            download="ae.safetensors from black-forest-labs/FLUX.1-schnell",
        ),
    }
)
_BARE_FLUX = re.compile(r"^flux-?1?-?(dev|schnell)$")  # as Black Forest Labs names its weights
_CHECKPOINT_WORKFLOW = MappingProxyType({CHECKPOINT: "checkpoint.json"})

FLUX_SCHNELL = Family(
    id="flux1-schnell",
    pattern=re.compile(r"flux.*schnell|schnell.*flux"),
    original=re.compile(r"^flux-?1?-?schnell(-fp8|-fp16|-bf16|-e4m3fn|-scaled)*$"),
    alias=re.compile(r"(flux-?1?-?)?schnell(-fp8)?|flux|flux-?1"),
    bare=_BARE_FLUX,
    steps=4,
    cfg=1.0,
    sampler="euler",
    scheduler="simple",
    width=1024,
    height=1024,
    grid=16,
    takes_negative=False,
    workflows=MappingProxyType({DIFFUSION_MODEL: "flux_schnell.json", CHECKPOINT: "flux_schnell_checkpoint.json"}),
    parts=_FLUX_PARTS,
    download="flux1-schnell-fp8.safetensors from Comfy-Org/flux1-schnell (Hugging Face) into models/checkpoints",
)

FLUX_DEV = Family(
    id="flux1-dev",
    pattern=re.compile(r"flux-?1?-?(krea-?)?dev|flux.*\bkrea"),
    hint=re.compile(r"flux"),
    original=re.compile(r"^flux-?1?-?dev(-fp8|-fp16|-bf16|-e4m3fn|-scaled)*$"),
    alias=re.compile(r"(flux-?1?-?)?dev(-fp8)?|flux|flux-?1"),
    bare=_BARE_FLUX,
    steps=20,
    cfg=1.0,
    sampler="euler",
    scheduler="simple",
    width=1024,
    height=1024,
    grid=16,
    takes_negative=False,
    guidance=3.5,
    workflows=MappingProxyType({DIFFUSION_MODEL: "flux_dev.json", CHECKPOINT: "flux_dev_checkpoint.json"}),
    parts=_FLUX_PARTS,
    download="flux1-dev-fp8.safetensors from Comfy-Org/flux1-dev (Hugging Face) into models/checkpoints",
)

SDXL = Family(
    id="sdxl",
    pattern=re.compile(
        r"sd-?xl|(?<!x)xl(?=v?\d|\b)|pony(?!o)|illustri|ilustr|\bil-?v\d|noob-?ai|\bnai-?(xl|epsilon|v-?pred)"
    ),
    hint=re.compile(
        r"\blightning\b|\bdmd-?2|turbo-?dpm|\bssd-1b|\bproteus-?v|\bbigasp|\bdynavision|\blustify|\bplayground-?v?2"
    ),
    original=re.compile(r"^sd-?xl-base"),
    alias=re.compile(r"(sd|stable-?diffusion)-?xl(-?base)?(-?1)?(-?0)?|xl|sd|stable-?diffusion"),
    style=re.compile(r"pony|illustri|ilustr|\bil-?v\d|noob|\bnai\b|\bwai\b|animagine"),
    steps=25,
    cfg=7.0,
    sampler="dpmpp_2m",
    scheduler="karras",
    width=1024,
    height=1024,
    grid=8,
    takes_negative=True,
    workflows=_CHECKPOINT_WORKFLOW,
    download="sd_xl_base_1.0.safetensors from stabilityai/stable-diffusion-xl-base-1.0 (Hugging Face) "
    "into models/checkpoints",
)

SD15 = Family(
    id="sd15",
    pattern=re.compile(r"\bsd-?v?1-?[45]\b|\bs-dv1-[45]\b|\bv1-[45]\b|stable-?diffusion-?v?-?1\b"),
    hint=re.compile(
        r"dream-?shaper|^deliberate\b|realistic-vision|ep-?ic-?realism|absolute-?reality|majic-?mix|ghost-?mix|toon-?you"
        r"|rev-?animated|meina-?(mix|hentai|unreal)|counterfeit|chillout-?mix|orange-?mix|\baom[123]|proto-?gen|open-?journey"
        r"|analog-(madness|diffusion)|any-?lora|\banything-?v|cyber-?realistic|pastel-?mix|edge-of-realism|\bicbinp"
        r"|juggernaut-reborn|dark-?sushi|\blyriel|perfect-world|\bphoton-v"
    ),
    original=re.compile(r"^(sd-)?v1-5-pruned|^(sd|stable-?diffusion)-?v?1-?5$"),
    alias=re.compile(r"(sd|stable-?diffusion)(-?v?-?1(-?[45])?)?|v1-5"),
    steps=25,
    cfg=7.0,
    sampler="dpmpp_2m",
    scheduler="karras",
    width=512,
    height=512,
    grid=8,
    takes_negative=True,
    workflows=_CHECKPOINT_WORKFLOW,
    download="v1-5-pruned-emaonly-fp16.safetensors from Comfy-Org/stable-diffusion-v1-5-archive (Hugging Face) "
    "into models/checkpoints",
)

#: In the order in which a call without a model looks for one.
FAMILIES: Final = (FLUX_SCHNELL, FLUX_DEV, SDXL, SD15)

#: For checkpoints whose name tells nothing: SD 1.5 and its descendants are the ones with free names.
UNKNOWN = Family(
    id="unknown",
    pattern=_NOTHING,
    original=_NOTHING,
    alias=_NOTHING,
    steps=SD15.steps,
    cfg=SD15.cfg,
    sampler=SD15.sampler,
    scheduler=SD15.scheduler,
    width=SD15.width,
    height=SD15.height,
    grid=SD15.grid,
    takes_negative=True,
    workflows=_CHECKPOINT_WORKFLOW,
)


def by_id(name: str) -> Family | None:
    """Return the family of this id, whatever its case and signs: `FLUX.1-schnell` is flux1-schnell."""
    return next((f for f in FAMILIES if squash(f.id) == squash(name)), None)
