"""The model files at ComfyUI: what each is, and whether all that it needs is there. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mcp_image_gen_local.engines.comfyui import names
from mcp_image_gen_local.engines.comfyui.families import CHECKPOINT, DIFFUSION_MODEL, FAMILIES, UNKNOWN, Family, Part
from mcp_image_gen_local.engines.comfyui.foreign import Foreign
from mcp_image_gen_local.engines.comfyui.recognition import INPAINTING, Recognised, recognise
from mcp_image_gen_local.engines.comfyui.speeds import Speed, tuned

#: role -> the node class and input whose choices are the files of that role
LOADERS: dict[str, tuple[str, str]] = {
    CHECKPOINT: ("CheckpointLoaderSimple", "ckpt_name"),
    DIFFUSION_MODEL: ("UNETLoader", "unet_name"),
    "text_encoder": ("DualCLIPLoader", "clip_name1"),
    "vae": ("VAELoader", "vae_name"),
    "lora": ("LoraLoader", "lora_name"),
    "upscaler": ("UpscaleModelLoader", "model_name"),
}
MODEL_ROLES = (DIFFUSION_MODEL, CHECKPOINT)
PLANNING_ROLES = (CHECKPOINT, DIFFUSION_MODEL, "text_encoder", "vae")  #: what a plan depends on
MAX_FILES = 2000  #: files of one role that are looked at; a reply with more is not of a real folder

Inventory = Mapping[str, tuple[str, ...]]  #: role -> file names, as ComfyUI spells them


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model file, with everything it needs to generate."""

    file: str  #: as ComfyUI spells it
    role: str  #: CHECKPOINT or DIFFUSION_MODEL
    family: Family
    speed: Speed | None = None  #: how it was distilled to few steps
    variant: str = ""  #: what sets it apart from its family: "inpainting", "Krea", "Lightning"
    rank: int = 0  #: among the files of its family, see `Recognised`
    is_doubtful: bool = False  #: never generates unnamed while anything else can
    parts: Mapping[str, str] = field(default_factory=dict)  #: slot of the graph -> file
    missing: tuple[str, ...] = ()  #: what to download, and into which folder
    foreign: Foreign | None = None  #: why this version cannot generate with it
    notes: tuple[str, ...] = ()  #: how it was chosen, as far as the reader must know

    @property
    def ready(self) -> bool:
        """True when it can generate now."""
        return not self.missing and self.foreign is None

    @property
    def defaults(self) -> Family:
        """Return the family with the steps, cfg and sampler of this file."""
        return tuned(self.family, self.speed)

    @property
    def slots(self) -> dict[str, str]:
        """Return slot of the graph -> file, the model's own included."""
        return {self.role: self.file, **self.parts}


def only_models(inventory: Inventory) -> Inventory:
    """Return the inventory without hidden files, placeholders and files of other kinds."""
    return {role: tuple(filter(names.is_model_file, files)) for role, files in inventory.items()}


def choices(inventory: Inventory) -> list[ResolvedModel]:
    """Return every model file, in the order in which a call without a model would take them.

    Ready ones stand first, then those that lack a part, then those that this version cannot generate with. Among them
    the family decides, then the file: the original, finetunes, variants; and fp8 before larger files.
    """
    files = only_models({role: listed[:MAX_FILES] for role, listed in inventory.items()})
    parts = {family.id: _parts(family, files) for family in (*FAMILIES, UNKNOWN)}
    found = ((recognise(file, role), file, role) for role in MODEL_ROLES for file in files.get(role, ()))
    return sorted((_complete(what, file, role, *parts[what.family.id]) for what, file, role in found), key=_order)


def _order(choice: ResolvedModel) -> tuple[object, ...]:
    family = len(FAMILIES) if choice.family is UNKNOWN else FAMILIES.index(choice.family)
    state = (choice.foreign is not None, bool(choice.missing), choice.is_doubtful)
    return (*state, family, choice.rank, "fp8" not in choice.file.lower(), choice.file.lower())


def _complete(
    what: Recognised, file: str, role: str, parts: Mapping[str, str], missing: tuple[str, ...]
) -> ResolvedModel:
    needs_parts = role == DIFFUSION_MODEL and what.foreign is None
    own = names.words(names.base(file))
    return ResolvedModel(
        file=file,
        role=role,
        family=what.family,
        speed=what.speed,
        variant=what.variant,
        rank=what.rank,
        is_doubtful=what.variant == INPAINTING or (role == CHECKPOINT and bool(what.family.bare.search(own))),
        parts=parts if needs_parts else {},
        missing=missing if needs_parts else (),
        foreign=what.foreign,
    )


def _parts(family: Family, files: Inventory) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return slot -> file of each part that is there, and what to do about the others."""
    found = {slot: _best(part, files.get(part.role, ())) for slot, part in family.parts.items()}
    missing = tuple(f"{part.download} into {part.folder}" for slot, part in family.parts.items() if not found[slot])
    return {slot: file for slot, file in found.items() if file}, missing


def _best(part: Part, files: Iterable[str]) -> str | None:
    """Return the file that fits best; of equals the first."""
    fitting = [file for file in files if _fits(part, file)]
    return min(fitting, key=lambda file: _preference(part, file), default=None)


def _fits(part: Part, file: str) -> bool:
    path = names.words(file)
    own = path.rsplit("/", 1)[-1]
    is_loadable = not file.lower().endswith(".gguf")  # ComfyUI's own loaders list no others that they cannot read
    return is_loadable and bool(part.pattern.search(own)) and not part.never.search(path)


def _preference(part: Part, file: str) -> int:
    path = names.words(file)
    return next((index for index, best in enumerate(part.best) if best.search(path)), len(part.best))
