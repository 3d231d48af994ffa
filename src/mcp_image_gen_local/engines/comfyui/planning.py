"""From a request and a model to the values of a graph. Pure."""

from collections.abc import Iterator
from typing import Any

from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.domain.text import MAX_NAME, clean
from mcp_image_gen_local.engines.comfyui.families import FLUX_SCHNELL, UNKNOWN, Family
from mcp_image_gen_local.engines.comfyui.models import ResolvedModel
from mcp_image_gen_local.engines.comfyui.speeds import MAX_CFG

DENOISE = 0.75  #: for an init_image without a denoise of its own: composition and colours stay, the rest changes


def values_for(
    request: GenerationRequest,
    choice: ResolvedModel,
    *,
    seed: int,
    init_size: tuple[int, int] | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the value of every slot of the model's workflow, and a sentence for every correction."""
    family = choice.defaults
    native = fit(init_size, family) if init_size else (family.width, family.height)
    width, height = (round_to(side, family.grid) for side in request.size(native))
    values: dict[str, Any] = {
        **choice.slots,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": seed,
        "steps": request.steps or family.steps,
        **_strength(request, family),
        "sampler": request.sampler or family.sampler,
        "scheduler": request.scheduler or family.scheduler,
        "width": width,
        "height": height,
        "batch_size": 1,  # each image of a batch has a sampler of its own
    }
    if init_size:
        values["denoise"] = DENOISE if request.denoise is None else request.denoise
    return values, tuple(_notes(request, choice, values))


def _strength(request: GenerationRequest, family: Family) -> dict[str, float]:
    """Return cfg, and guidance for models that have it; a distilled model keeps its cfg, as another burns the image."""
    cfg = request.cfg if request.cfg is not None and family.takes_negative else family.cfg
    if family.guidance is None:
        return {"cfg": cfg}
    asked = request.cfg if _means_guidance(request, family) else request.guidance
    return {"cfg": cfg, "guidance": family.guidance if asked is None else asked}


def _means_guidance(request: GenerationRequest, family: Family) -> bool:
    """Return True for a cfg that other models would use to follow the prompt more closely."""
    return family.guidance is not None and request.guidance is None and request.cfg is not None and request.cfg > 1


def _notes(request: GenerationRequest, choice: ResolvedModel, values: dict[str, Any]) -> Iterator[str]:
    family, file = choice.defaults, clean(choice.file, MAX_NAME)
    if request.model is None and choice.family is not FLUX_SCHNELL:
        yield f"{FLUX_SCHNELL.id} is not ready at ComfyUI, so {file} generated this."
    yield from choice.notes
    if choice.family is UNKNOWN:
        yield f"The family of {file} is not known; it ran with the defaults of SD 1.5."
    asked = (request.width or values["width"], request.height or values["height"])
    if asked != (values["width"], values["height"]):
        yield (
            f"{asked[0]}x{asked[1]} was rounded to {values['width']}x{values['height']}: "
            f"{'it' if choice.family is UNKNOWN else family.id} generates in multiples of {family.grid}."
        )
    yield from _strength_notes(request, choice, values)


def _strength_notes(request: GenerationRequest, choice: ResolvedModel, values: dict[str, Any]) -> Iterator[str]:
    """Yield one sentence about cfg and negative_prompt, if either was not used as it was asked for."""
    family, cfg = choice.family, request.cfg
    left_out = ["negative_prompt"] if request.negative_prompt and values["cfg"] <= 1 else []
    if _means_guidance(request, family):
        yield f"cfg {cfg:g} was used as guidance: {family.id} is made for cfg {family.cfg:g}."
    elif cfg is not None and cfg != values["cfg"]:
        left_out.insert(0, f"cfg {cfg:g}")
    if left_out:
        reason = f"at cfg {values['cfg']:g} {family.id} cannot use one"
        if left_out != ["negative_prompt"]:
            reason = f"{family.id} is made for cfg {family.cfg:g}"
        yield f"{' and '.join(left_out)} had no effect: {reason}."
    if choice.speed and family.takes_negative and values["cfg"] > MAX_CFG:
        yield (
            f"{clean(choice.file, MAX_NAME)} is a {choice.speed.name} model, made for cfg 1 to {MAX_CFG:g}; "
            f"cfg {values['cfg']:g} may look burnt."
        )


def fit(size: tuple[int, int], family: Family) -> tuple[int, int]:
    """Return width and height of the same shape, with about as many pixels as the family generates best with."""
    scale = (family.width * family.height / (size[0] * size[1])) ** 0.5
    return round(size[0] * scale), round(size[1] * scale)


def round_to(size: int, grid: int) -> int:
    """Return the multiple of `grid` nearest to `size`, at least one `grid`."""
    return max(grid, (size + grid // 2) // grid * grid)
