"""What lies among the models and is none that this version generates with: other media, helpers, other families. Data.

The patterns are searched in the words of a name (`names.words`: lower case, hyphens between words). A word alone must
not condemn a name that somebody may have given an image checkpoint: "video", "3d", "vae" and "wan" say too little.
Sources: ComfyUI's workflow templates, and file names of real installations.
"""

import re
from dataclasses import dataclass
from typing import Final

from mcp_image_gen_local.engines.comfyui.families import FAMILIES


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Why this version cannot generate with a file."""

    kind: str  #: short, for counts: "video", "Z-Image", "GGUF"
    reason: str  #: a clause: "it is a video model; this version generates images only"
    pattern: re.Pattern[str] = re.compile(r"(?!)")  #: what its name looks like
    told_by_folder: bool = True  #: the name of a folder tells it too


RUNS: Final = ", ".join(family.id for family in FAMILIES)


def _medium(kind: str, phrase: str, pattern: str) -> Foreign:
    reason = f"it is {phrase}; this version generates images only"
    return Foreign(kind=kind, reason=reason, pattern=re.compile(pattern, re.VERBOSE))


def _helper(kind: str, phrase: str, pattern: str) -> Foreign:
    reason = f"it is {phrase}, which generates no image by itself"
    return Foreign(kind=kind, reason=reason, pattern=re.compile(pattern, re.VERBOSE), told_by_folder=False)


def _family(name: str, pattern: str) -> Foreign:
    reason = f"this version cannot run {name}; it runs {RUNS}"
    return Foreign(kind=name, reason=reason, pattern=re.compile(pattern, re.VERBOSE))


def _container(kind: str, pattern: str) -> Foreign:
    reason = f"this version cannot load {kind} files; use a plain .safetensors file of the same model"
    return Foreign(kind=kind, reason=reason, pattern=re.compile(pattern, re.VERBOSE))


MEDIA: Final = (
    _medium(
        "3D",
        "a 3D model",
        r"""hunyuan-?3-?d | \bhy3d | tripo-?s[gr]\b | zero-?123 | \btrellis-?(2|image) | (fast|point)-?3d\b
        | \bs[fv]-?3d\b | \bspar-?3d\b | instant-?mesh | wonder-?3d\b | unique-?3d\b | mv-?dream | step1-?x-?3-?d
        | part-?crafter | direct-?3d\b | \bshap-e\b | \bsam-?3-?d\b | mv-?adapter""",
    ),
    _medium(
        "audio",
        "an audio model",
        r"""\bace-?step | stable-?audio | music-?gen | audio-?(ldm|gen|craft) | song-?bloom | diff-?rhythm | mm-?audio
        | \bfoley | vibe-?voice | \bchatterbox | ^kokoro(-v?\d|$) | cosy-?voice | \bwhisper-?(v\d|large|small|base|tiny)
        | heart-?mula | \b(x|f5|index|qwen3|cosy)?-?tts\b | \bvocoder\b | \briffusion | fish-?(audio|speech)""",
    ),
    _medium(
        "video",
        "a video model",
        r"""\bltxv?\b | \bltxv?-?(\d|video) | (^|/)wan(-?video)?/
        | \bwan-?(video|move|animate|fun|vace|alpha|dancer|[12])
        | \b(t2v|i2v|ti2v|flf2v|fl2va?|s2v|r2v|v2v|x2v|t2av|i2av)\b | \bvace\b | hunyuan-?(video|custom|avatar)
        | hunyuan.*(i2v|t2v|720p) | \bhy-?video | cog-?video | \bmochi-?(1|preview|dit) | \bgenmo | stable-?video
        | \bsvd-?xt | ^svd(-\d|-img|-image|$) | motion-?ctrl | \bimg2vid | animate-?diff | ^mm-sd | animate-?lcm
        | temporal-?diff | ^motion-?(module|model|lora) | ^v\d-sd15-(mm|adapter)
        | \bcosmos\b(?!.*(t2i|text2image)).*(world|video|transfer|predict|diffusion|\d+b\b) | sky-?reels | frame-?pack
        | open-?sora | pyramid-?flow | easy-?animate | \ballegro-(ti2v|t2v|\d) | kandinsky-?5.*(t2v|i2v|pro|video)
        | toon-?crafter | dynami-?crafter | zeroscope | text-?(2|to)-?video | \bmagi-?1\b | mini-?max-h\d
        | \bovi-(11b|fusion|video) | long-?cat-(video|avatar) | \bvideo-(model|dit|vae)\b | \bhumo\b | infinite-?talk
        | multi-?talk | \bstep-?video | live-?portrait""",
    ),
)
HELPERS: Final = (
    _helper("refiner", "a refiner", r"(?<!no-)(?<!without-)\brefiner\b(?!-?free)"),
    _helper(
        "ControlNet",
        "a ControlNet or adapter",
        r"""control-?net | control-?lora | \bcontrol-v\d | t2i-?adapter | \bip-?adapter | instant-?id\b | \blllite
        | \bpulid | photo-?maker | \bopenpose\b(?!-style) | \bic-?light
        | \bcanny(-(mid|full|small|large|fp16|dev|sd|xl|lora|v\d)|$) | union-pro | brush-?net | layer-?diffus""",
    ),
    _helper("LoRA", "a LoRA", r"(?<!any-)(?<!no-)\b(lora|lycoris|locon|loha|lokr)s?\b(?!.*(merge|baked|fused))"),
    _helper(
        "upscaler",
        "an upscaler",
        r"""^[1248]x- | ^[1248]x[a-z]{4} | \bx[248]-upscal | \bupscaler\b | esrgan | swin-?ir\b | \bnmkd | remacri
        | \bsupir\b | seed-?vr | \bldsr\b | stable-?sr\b | \bccsr\b | diff-?bir | \bomni-?sr\b""",
    ),
    _helper(
        "detector",
        "a model that reads images",
        r"""\blotus-(depth|normal) | depth-?(anything|fm|pro)\b | marigold-(depth|normal|lcm|v\d) | zoe-?depth
        | \bmidas\b | ^512-depth | \bdepth-v\d-vit | \byolo | ^sam-?(vit|[23]|hq) | insight-?face | in-?swapper | gfpgan
        | code-?former | \brmbg | bi-?ref-?net | florence-?2 | joy-?caption | sig-?lip | clip-?vision | \bllava
        | ^clip-vit-(h|big)""",
    ),
    _helper(
        "editor",
        "an editing model",
        r"instruct-?pix-?2-?pix | \bcos-?xl-edit | step1-?x-?edit | \bip2p\b | ^image-edit\b",
    ),
    _helper(
        "text encoder",
        "a text encoder or language model",
        r"""^([a-z]+-)?(u?mt5|t5|byt5|oldt5)(-?v\d|-?xxl|-?xl|-?base|-?large|$) | ^clip-?[lg]\b
        | ^(long-?)?clip-(vit|l)\b | ^(long-)?vit-(l|h|g|bigg)-\d | text-?encoder | ^(meta-)?llama-?\d | ^gemma-?\d
        | ^mistral-?\d | ^ministral | ^gpt-oss | ^([a-z]+-)?qwen-?\d?(-\d)?-?(vl|\d+b)\b
        | \bqwen-?[23](-\d)?-?(vl-?)?\d+b\b""",
    ),
    _helper(
        "VAE",
        "a VAE",
        r"""^vae(-(kl|fp|bf|ft)\d*|-\d|$) | ^(z-|flux-?\d?-)?ae(-(fp|bf)\d+)?$ | \bvae-ft\b | ^kl-f8
        | ^tae(sd|f1|sana|hv)
        | ^(sd|sd-?1-?5|sd-?xl|xl|flux|flux-?\d|qwen-image(-\d-\d)?|wan|wan-?\d(-\d)?|hunyuan(-video)?|ltxv?)-?vae\b
        | ^clear-?vae | full-encoder-small-decoder""",
    ),
)
OTHER_FAMILIES: Final = (
    _family("FLUX.1 Kontext", r"kontext"),
    _family("FLUX.1 Fill", r"flux.*\bfill\b | \bfill-dev | one-?reward"),
    _family("FLUX.1 Canny", r"flux.*\bcanny(?!.*control-?net)"),
    _family("FLUX.1 Depth", r"flux.*\bdepth(?!.*(lora|control-?net))"),
    _family("FLUX.1 Redux", r"flux.*\bredux"),
    _family("FLUX.3", r"flux-?3(?!\d)"),
    _family("FLUX.2", r"flux-?2(?!\d) | flux.*klein | \bklein-(base-)?\d | f2-?k\d"),
    _family("Krea 2", r"krea-?2(?!\d) | krea-(turbo|raw)\b"),
    _family("Z-Image", r"\bz-?image | \bzi[tb]\b | ^z-[a-z]+-turbo\b | \bjuggernaut-z\b"),
    _family("Qwen-Image-Edit", r"qwen.*(edit|rapid) | fire-?red.*edit"),
    _family("Qwen-Image", r"qwen-?image | \bqwen\b(?!-?\d?(-\d)?-?(vl|\d+b))(?!.*xl\b)"),
    _family("Chroma", r"\bchroma-?(\d|unlocked|radiance|hd|flash|base|debug|v\d|x0) | \bchroma$"),
    _family("HiDream", r"\bhi-?dream\b(?!.*\b(clip|te)\b)"),
    _family("SD 3.5", r"\bsd-?v?3-?5 | stable-?diffusion-?3-?5"),
    _family("SD 3", r"\bsd-?v?3\b | stable-?diffusion-?3\b"),
    _family("Stable Cascade", r"cascade.*stage-[abc]\b | stable-?cascade | ^stage-[abc]\b | w(u|ü|ue)rstchen"),
    _family("PixArt", r"pix-?art-(alpha|sigma|delta|xl|\d)"),
    _family("AuraFlow", r"aura-?flow | ^pony-?v-?7\b"),
    _family("HunyuanImage", r"hunyuan-?image"),
    _family("Hunyuan-DiT", r"hunyuan-?dit"),
    _family("Kolors", r"\bkolors\b"),
    _family("Lumina 2", r"\blumina-?(2|image|next) | \bneta-?(yume|lumina) | \byume-?lumina"),
    _family("OmniGen", r"omni-?gen\b | omni-?gen-?\d"),
    _family("Anima", r"\banima\b(?!-pencil)(?!.*xl\b)"),
    _family("ERNIE-Image", r"\bernie-?image"),
    _family("Ideogram", r"\bideogram-?\d"),
    _family("Lens", r"^lens-(turbo|base|bf16|fp8|fp16|int8)"),
    _family("Mage-Flow", r"\bmage-?flow"),
    _family("MOSS-Image", r"\bmoss-?image"),
    _family("LongCat-Image", r"long-?cat-?image"),
    _family("Kandinsky", r"\bkandinsky-?\d"),
    _family("Ovis-Image", r"\bovis-?(image|u?\d)"),
    _family("NewBie", r"\bnew-?bie-(image|exp)"),
    _family("FIBO", r"\bfibo-?(2|edit|lite|bf16|fp8)\b | ^fibo$"),
    _family("PixelDiT", r"pixel-?dit\b"),
    _family("Boogu", r"\bboogu"),
    _family("Ming-Image", r"\bming-?image"),
    _family("JoyAI", r"\bjoy-?ai-?image"),
    _family("ChronoEdit", r"chrono-?edit"),
    _family("Sana", r"\bsana-?(\d|sprint|bf16|fp16)"),
    _family("DeepFloyd IF", r"deep-?floyd"),
    _family("Cosmos", r"\bcosmos\b.*(t2i|text2image)"),
    _family("BAGEL", r"\bbagel-?\d+b"),
    _family("GLM-Image", r"\bglm-?image"),
)
#: In the order in which they are looked for: a helper of a family is no model of it, a video model of it neither.
FOREIGN: Final = (*MEDIA, *OTHER_FAMILIES[:5], *HELPERS, *OTHER_FAMILIES[5:])

#: Containers that ComfyUI's own loaders list and cannot load.
CONTAINERS: Final = (
    _container("SVDQuant", r"\bsvdq\b | \bnunchaku\b | \bawq-int4\b"),
    _container("NF4", r"\bnf4\b"),
)
GGUF: Final = _container("GGUF", r"(?!)")
NO_FAMILY: Final = Foreign(
    kind="unknown diffusion model",
    reason=f"its name tells no family, and a file without text encoder and VAE needs one of {RUNS}",
)


def not_as(family: str, role: str) -> Foreign:
    """Return why a family is not loaded in that role."""
    return Foreign(
        kind=f"{family} as {role.replace('_', ' ')}",
        reason=f"this version loads {family} from models/checkpoints only, as one file with everything in it",
    )
