"""Distillations that need few steps, whatever the family: Lightning, Turbo, Hyper, LCM, DMD2, Flash. Data.

Sources: the model cards of SDXL-Lightning, Hyper-SD, SDXL-Turbo, LCM, DMD2 and SDXL-Flash, and ComfyUI's templates.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from mcp_image_gen_local.engines.comfyui.families import Family

MAX_CFG = 2.0  #: what distilled models take without burning
MAX_STEPS = 16  #: a larger number before "step" counts steps of training


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One way of distilling a model, and what it generates best with."""

    name: str
    pattern: re.Pattern[str]  #: searched in the words of a file's name
    steps: int  #: unless the name tells another number
    cfg: float = 1.0
    sampler: str = "euler"
    scheduler: str = "sgm_uniform"
    side: int | None = None  #: pixels; None: as the family


#: In the order in which they are looked for.
SPEEDS: Final = (
    Speed(
        name="Turbo",  # SDXL-Turbo and SD-Turbo themselves; sgm_uniform gives their own timesteps
        pattern=re.compile(r"\bsd-?(xl-?)?turbo(-\d-\d)?(-fp16)?$"),
        steps=4,
        sampler="euler_ancestral",
        side=512,
    ),
    Speed(name="Lightning", pattern=re.compile(r"\blightning(?!-(bolt|strike|style))"), steps=6),
    Speed(name="Hyper", pattern=re.compile(r"\bhyper\b(?!-(real|detail|sharp|fusion|dimension))"), steps=8),
    Speed(name="DMD2", pattern=re.compile(r"\bdmd-?2?\b"), steps=6, sampler="lcm"),
    Speed(name="LCM", pattern=re.compile(r"\blcm(?![a-z])|(?<=[a-z])lcm\b"), steps=6, sampler="lcm"),
    Speed(
        name="Turbo",
        pattern=re.compile(r"turbo(?!-?charged)"),
        steps=8,
        cfg=2.0,
        sampler="dpmpp_sde",
        scheduler="karras",
    ),
    Speed(
        name="Flash",
        pattern=re.compile(r"\bsd-?xl-?flash\b|\bflash(-v\d+)?$"),
        steps=8,
        cfg=2.0,
        sampler="dpmpp_sde",
        scheduler="karras",
    ),
    Speed(name="few-step", pattern=re.compile(r"(?<!\d)\d{1,2}-?steps?\b"), steps=8),
)
_STEPS = re.compile(r"(?<![\dv])(\d{1,2})-?steps?\b")


def speed_of(words: str) -> Speed | None:
    """Return how the model of this name was distilled, with the number of steps that the name tells."""
    found = next((speed for speed in SPEEDS if speed.pattern.search(words)), None)
    told = _STEPS.search(words)
    if found is None or told is None or not 1 <= int(told[1]) <= MAX_STEPS:
        return found if found and found.name != "few-step" else None
    return replace(found, steps=int(told[1]))


def tuned(family: Family, speed: Speed | None) -> Family:
    """Return the family with the defaults of the distillation; a family that is distilled itself changes steps only."""
    if speed is None:
        return family
    if not family.takes_negative:
        return replace(family, steps=min(speed.steps, family.steps))
    return replace(
        family,
        steps=speed.steps,
        cfg=speed.cfg,
        sampler=speed.sampler,
        scheduler=speed.scheduler,
        width=speed.side or family.width,
        height=speed.side or family.height,
    )
