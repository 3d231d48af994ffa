"""What a file is, by its name and its folders. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from mcp_image_gen_local.engines.comfyui import names
from mcp_image_gen_local.engines.comfyui.families import DIFFUSION_MODEL, FAMILIES, UNKNOWN, Family
from mcp_image_gen_local.engines.comfyui.foreign import CONTAINERS, FOREIGN, GGUF, NO_FAMILY, Foreign, not_as
from mcp_image_gen_local.engines.comfyui.speeds import Speed, speed_of

INPAINTING = "inpainting"
_INPAINTING = re.compile(r"inpaint")
_TOLD_BY_FOLDER = tuple(rule for rule in FOREIGN if rule.told_by_folder)
_KREA = re.compile(r"\bkrea\b")


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What the name of a model file tells."""

    family: Family  #: UNKNOWN if none
    foreign: Foreign | None = None  #: why this version cannot generate with it
    speed: Speed | None = None  #: how it was distilled
    variant: str = ""  #: what sets it apart from the family's own files: "inpainting", "Krea", "Lightning"
    rank: int = 0  #: among the files of its family: 0 the original, 1 finetunes, 2 styles, 3 variants, 4 inpainting


@lru_cache(maxsize=8192)
def recognise(file: str, role: str) -> Recognised:
    """Return what the file of that role is; folders count where its own name tells nothing."""
    path = names.words(file)
    own = path.rsplit("/", 1)[-1]
    family, foreign = _family_or_foreign(own, path)
    speed = speed_of(own)
    variant = _variant(own, speed)
    return Recognised(
        family=family,
        foreign=foreign or _unloadable(file, path) or _unfit(family, role),
        speed=speed,
        variant=variant,
        rank=_rank(family, variant, own, path),
    )


def foreign_of(text: str) -> Foreign | None:
    """Return what the name of a model that is not installed speaks of, if this version cannot generate with it."""
    path = names.words(text)
    return _family_or_foreign(path.rsplit("/", 1)[-1], path)[1]


def _family_or_foreign(own: str, path: str) -> tuple[Family, Foreign | None]:
    """Return the family, or UNKNOWN and what it is instead; the file's own name is asked before its folders."""
    for text, rules in ((own, FOREIGN), (path, _TOLD_BY_FOLDER)):
        if foreign := next((rule for rule in rules if rule.pattern.search(text)), None):
            return UNKNOWN, foreign
        if family := _first(f for f in FAMILIES if f.pattern.search(text)):
            return family, None
    hinted = _first(f for text in (own, path) for f in FAMILIES if f.hint.search(text))
    return hinted or UNKNOWN, None


def _first(families: Iterable[Family]) -> Family | None:
    return next(iter(families), None)


def _unloadable(file: str, path: str) -> Foreign | None:
    if file.lower().endswith(".gguf"):
        return GGUF
    return next((container for container in CONTAINERS if container.pattern.search(path)), None)


def _unfit(family: Family, role: str) -> Foreign | None:
    if role in family.workflows:
        return None
    return NO_FAMILY if family is UNKNOWN and role == DIFFUSION_MODEL else not_as(family.id, role)


def _rank(family: Family, variant: str, own: str, path: str) -> int:
    if variant:
        return 4 if variant == INPAINTING else 3
    if family.original.search(own):
        return 0
    return 2 if family.style.search(path) else 1


def _variant(own: str, speed: Speed | None) -> str:
    if _INPAINTING.search(own):
        return INPAINTING
    if speed:
        return speed.name
    return "Krea" if _KREA.search(own) else ""
