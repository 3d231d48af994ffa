"""Model families: how to know one by its file name, what it needs, and what it generates best with. Data.

Sources: ComfyUI's official workflow templates (flux_schnell, flux_dev_*, sdxl_simple_example) and the model cards.
"""

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file that a family needs beside the model itself."""

    role: str  #: "text_encoder" or "vae"
    stems: tuple[str, ...]  #: beginnings of file names that fit, best first
    folder: str  #: where it belongs, below ComfyUI's folder
    download: str  #: file and Hugging Face repository


@dataclass(frozen=True, kw_only=True)
class Family:
    """Defaults and needs of one kind of model."""

    id: str
    pattern: re.Pattern[str]  #: what a file name of the family looks like, in lower case
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
            stems=("t5xxl_fp8_e4m3fn_scaled", "t5xxl_fp8", "t5xxl"),
            folder="models/text_encoders",
            download="t5xxl_fp8_e4m3fn.safetensors from comfyanonymous/flux_text_encoders",
        ),
        "text_encoder_2": Part(
            role="text_encoder",
            stems=("clip_l",),
            folder="models/text_encoders",
            download="clip_l.safetensors from comfyanonymous/flux_text_encoders",
        ),
        "vae": Part(
            role="vae",
            stems=("ae.", "flux_ae", "flux_vae", "flux1_ae", "flux-ae", "flux-vae"),
            folder="models/vae",
            download="ae.safetensors from black-forest-labs/FLUX.1-schnell",
        ),
    }
)
_CHECKPOINT_WORKFLOW = MappingProxyType({CHECKPOINT: "checkpoint.json"})

FLUX_SCHNELL = Family(
    id="flux1-schnell",
    pattern=re.compile(r"flux.*schnell|schnell.*flux"),
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
    pattern=re.compile(r"flux\.?1?[-_ ]?(krea[-_ ]?)?dev(?!.*(kontext|fill|canny|depth|redux))"),
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
    pattern=re.compile(r"(?<![a-z])(sd[-_ ]?)?xl(?![a-z])|[a-z]xl[-_. ]|sdxl|pony|illustrious|noobai"),
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
    pattern=re.compile(r"sd[-_ ]?v?1[-_.]?[45](?!\d)|(^|[^a-z0-9])v1[-_.][45]|stable[-_ ]diffusion[-_ ]v?1"),
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
    pattern=re.compile(r"(?!)"),
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


def recognise(file_name: str) -> Family:
    """Return the family that the file name speaks of; UNKNOWN if none. Folders in the name count as well."""
    name = file_name.replace("\\", "/").lower()
    return next((f for f in FAMILIES if f.pattern.search(name)), UNKNOWN)


def by_id(name: str) -> Family | None:
    """Return the family of this id, whatever its case."""
    return next((f for f in FAMILIES if f.id == name.lower()), None)
