"""Which files a request means, and whether all they need is there. Pure."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mcp_image_gen_local.domain.errors import ModelIncomplete, ModelNotFound
from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.engines.comfyui.families import (
    CHECKPOINT,
    DIFFUSION_MODEL,
    FAMILIES,
    FLUX_SCHNELL,
    UNKNOWN,
    Family,
    by_id,
    recognise,
)

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
MAX_NAME = 200  #: characters of an unknown name that are repeated to its sender
PLANNING_ROLES = (CHECKPOINT, DIFFUSION_MODEL, "text_encoder", "vae")  #: what a plan depends on

Inventory = Mapping[str, tuple[str, ...]]  #: role -> file names, as ComfyUI spells them


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model file, with everything it needs to generate."""

    file: str  #: as ComfyUI spells it
    role: str  #: CHECKPOINT or DIFFUSION_MODEL
    family: Family
    parts: Mapping[str, str] = field(default_factory=dict)  #: slot of the graph -> file
    missing: tuple[str, ...] = ()  #: what to download, and into which folder

    @property
    def ready(self) -> bool:
        """True when nothing is missing."""
        return not self.missing

    @property
    def slots(self) -> dict[str, str]:
        """Return slot of the graph -> file, the model's own included."""
        return {self.role: self.file, **self.parts}


def choices(inventory: Inventory) -> list[ResolvedModel]:
    """Return every model file that could generate, best first: ready, then by family, then fp8 before larger ones."""
    found = [_complete(file, role, inventory) for role in MODEL_ROLES for file in inventory.get(role, ())]
    families = [*FAMILIES, UNKNOWN]
    return sorted(
        found,
        key=lambda c: (not c.ready, families.index(c.family), "fp8" not in c.file.lower(), c.file.lower()),
    )


def _complete(file: str, role: str, inventory: Inventory) -> ResolvedModel:
    family = recognise(file)
    if role not in family.workflows:
        lack = f"a workflow: {family.id} as a {role.replace('_', ' ')} is not one this server can load yet"
        return ResolvedModel(file=file, role=role, family=family, missing=(lack,))
    if role == CHECKPOINT:
        return ResolvedModel(file=file, role=role, family=family)
    parts: dict[str, str] = {}
    missing: list[str] = []
    for slot, part in family.parts.items():
        fitting = _first_fitting(part.stems, inventory.get(part.role, ()))
        if fitting:
            parts[slot] = fitting
        else:
            missing.append(f"{part.download} into {part.folder}")
    return ResolvedModel(file=file, role=role, family=family, parts=parts, missing=tuple(missing))


def _first_fitting(stems: Iterable[str], files: Iterable[str]) -> str | None:
    return next((f for stem in stems for f in files if _base(f).startswith(stem)), None)


def resolve(name: str | None, inventory: Inventory) -> ResolvedModel:
    """Return the model that `name` means: a family id, or a file name with or without folder and extension.

    None means flux1-schnell, or else the best model that is ready.

    Raises:
        ModelNotFound: nothing of that name; the error tells the nearest ones.
        ModelIncomplete: found, but a file that it needs is not installed.
    """
    known = choices(inventory)
    if name is None:
        return _usable(known[0] if known else None, FLUX_SCHNELL.id, known)
    family = by_id(name)
    if family:
        return _usable(next((c for c in known if c.family is family), None), name, known)
    return _usable(_by_file(name, known), name, known)


def _usable(choice: ResolvedModel | None, name: str, known: list[ResolvedModel]) -> ResolvedModel:
    if choice is None:
        raise ModelNotFound(f"ComfyUI has no model {name[:MAX_NAME]!r}.", hint=_what_else(name, known))
    if not choice.ready:
        raise ModelIncomplete(
            f"The model {choice.file!r} cannot generate yet. Missing: {'; '.join(choice.missing)}.",
            hint="Put the files into ComfyUI's folders, then call again.",
        )
    return choice


def _by_file(name: str, known: list[ResolvedModel]) -> ResolvedModel | None:
    wanted = _norm(name)
    spellings = (_norm, lambda f: _stem(_norm(f)), _base, lambda f: _stem(_base(f)))
    return next((c for spell in spellings for c in known if spell(c.file) == wanted), None)


def _what_else(name: str, known: list[ResolvedModel]) -> str:
    family = by_id(name)
    download = f"Download {family.download}. " if family and family.download else ""
    files = [c.file for c in known if c.ready]
    if not files:
        return download or f"Download {FLUX_SCHNELL.download}."
    close = difflib.get_close_matches(name.lower(), {f.lower(): f for f in files}, n=5, cutoff=0.3)
    near = [f for f in files if f.lower() in close]
    near = (near + [f for f in files if f not in near])[:5]
    return f"{download}Installed: {', '.join(near)}. Call list_available_models for all."


def catalog(inventory: Inventory) -> ModelCatalog:
    """Return all models with their families' defaults; flux1-schnell first, also when it is not installed."""
    known = [_info(c) for c in choices(inventory)]
    known.sort(key=lambda m: m.family != FLUX_SCHNELL.id)
    if not any(m.family == FLUX_SCHNELL.id for m in known):
        known.insert(0, _info(ResolvedModel(file=FLUX_SCHNELL.id, role=CHECKPOINT, family=FLUX_SCHNELL,
                                     missing=(FLUX_SCHNELL.download,))))  # fmt: skip
    return ModelCatalog(models=tuple(known), files=dict(inventory))


def _info(choice: ResolvedModel) -> ModelInfo:
    family = choice.family
    return ModelInfo(
        name=choice.file,
        role=choice.role,
        family=family.id,
        ready=choice.ready,
        missing=choice.missing,
        steps=family.steps,
        cfg=family.cfg,
        width=family.width,
        height=family.height,
    )


def _norm(name: str) -> str:
    return name.replace("\\", "/").lower()


def _base(name: str) -> str:
    return _norm(name).rsplit("/", 1)[-1]


def _stem(name: str) -> str:
    for extension in (".safetensors", ".ckpt", ".gguf", ".sft", ".pt", ".pth", ".bin"):
        name = name.removesuffix(extension)
    return name
