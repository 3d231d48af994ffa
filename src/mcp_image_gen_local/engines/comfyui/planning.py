"""From a request and a model to the values of a graph. Pure."""

from typing import Any

from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.engines.comfyui.families import FLUX_SCHNELL, UNKNOWN, Family
from mcp_image_gen_local.engines.comfyui.models import ResolvedModel

DENOISE = 0.75  #: for an init_image without a denoise of its own: composition and colours stay, the rest changes


def values_for(
    request: GenerationRequest,
    choice: ResolvedModel,
    *,
    seed: int,
    init_size: tuple[int, int] | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the value of every slot of the model's workflow, and a sentence for every correction."""
    family = choice.family
    native = fit(init_size, family) if init_size else (family.width, family.height)
    width = round_to(request.width or native[0], family.grid)
    height = round_to(request.height or native[1], family.grid)
    values: dict[str, Any] = {
        **choice.slots,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": seed,
        "steps": request.steps or family.steps,
        "cfg": family.cfg if request.cfg is None else request.cfg,
        "sampler": request.sampler or family.sampler,
        "scheduler": request.scheduler or family.scheduler,
        "width": width,
        "height": height,
        "batch_size": 1,  # each image of a batch has a sampler of its own
    }
    if family.guidance is not None:
        values["guidance"] = family.guidance if request.guidance is None else request.guidance
    if init_size:
        values["denoise"] = DENOISE if request.denoise is None else request.denoise
    return values, tuple(_notes(request, choice, values))


def _notes(request: GenerationRequest, choice: ResolvedModel, values: dict[str, Any]) -> list[str]:
    family, notes = choice.family, []
    if request.model is None and family is not FLUX_SCHNELL:
        notes.append(f"{FLUX_SCHNELL.id} is not ready at ComfyUI, so {choice.file} generated this.")
    if family is UNKNOWN:
        notes.append(f"The family of {choice.file} is not known; it ran with the defaults of SD 1.5.")
    asked = (request.width or values["width"], request.height or values["height"])
    if asked != (values["width"], values["height"]):
        notes.append(
            f"{asked[0]}x{asked[1]} was rounded to {values['width']}x{values['height']}: "
            f"{'it' if family is UNKNOWN else family.id} generates in multiples of {family.grid}."
        )
    if request.negative_prompt and values["cfg"] <= 1:
        notes.append(f"negative_prompt had no effect: at cfg {values['cfg']:g} {family.id} cannot use one.")
    elif not family.takes_negative and values["cfg"] > 1:
        notes.append(f"{family.id} is made for cfg 1; cfg {values['cfg']:g} takes twice as long and may look burnt.")
    return notes


def fit(size: tuple[int, int], family: Family) -> tuple[int, int]:
    """Return width and height of the same shape, with about as many pixels as the family generates best with."""
    scale = (family.width * family.height / (size[0] * size[1])) ** 0.5
    return round(size[0] * scale), round(size[1] * scale)


def round_to(size: int, grid: int) -> int:
    """Return the multiple of `grid` nearest to `size`, at least one `grid`."""
    return max(grid, (size + grid // 2) // grid * grid)
