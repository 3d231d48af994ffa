"""What a user asks for, checked at the door.

Each field is written once, here: its bounds, its description and the `Feature` it uses. The tool schema, the command
line and the reference tables are derived from these fields, and an engine that does not declare a feature never
sees it.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self, get_args

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.text import MAX_NAME, clean

MAX_SEED = 2**64 - 1
RANDOM_SEED_BITS = 53  # so that a random seed survives JSON readers that hold numbers as doubles
MAX_PROMPT_CHARS = 20_000
PIXELS_HINT = "Sizes are pixels; 1024 suits most models."
RATIO = re.compile(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)")
MAX_RATIO = 8.0  #: of the longer side to the shorter one


class Feature(StrEnum):
    """What a request may use beyond prompt, size, seed and batch; engines and models declare which they support."""

    NEGATIVE_PROMPT = "negative_prompt"
    STEPS = "steps"
    CFG = "cfg"
    GUIDANCE = "guidance"
    SAMPLER = "sampler"
    SCHEDULER = "scheduler"
    INIT_IMAGE = "init_image"

    @property
    def is_content(self) -> bool:
        """True when the image would be another one without it: unsupported content is refused, tuning is left out."""
        return self in _CONTENT


_CONTENT = frozenset({Feature.INIT_IMAGE})


@dataclass(frozen=True, kw_only=True)
class Option:
    """What the doors need to know of a request field."""

    about: str  #: description for the tool schema, the command line and the reference
    feature: Feature | None = None  #: None: every engine has it
    ge: float | None = None  #: smallest value
    le: float | None = None  #: largest value
    hint: str = ""  #: what to do next when the value is out of range
    requires: str = ""  #: another field without which this one has no meaning


def option(default: Any, about: str, **facts: Any) -> Any:
    """Return a dataclass field that carries its `Option`."""
    return field(default=default, metadata={"option": Option(about=about, **facts)})


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One image, or a batch of them, as asked for; None leaves a value to the model's family.

    Raises:
        InvalidRequest: the prompt is empty or too long, or a number is out of its range.
    """

    prompt: str = field(metadata={"option": Option(about="What to generate: subject, setting, style, light")})
    negative_prompt: str = option("", "What to avoid; no effect on models with cfg 1", feature=Feature.NEGATIVE_PROMPT)
    width: int | None = option(
        None, "Pixels, 16-4096; default by model, 1024 for Flux", ge=16, le=4096, hint=PIXELS_HINT
    )
    height: int | None = option(None, "Pixels, 16-4096", ge=16, le=4096, hint=PIXELS_HINT)
    aspect_ratio: str | None = option(None, "Such as 16:9, instead of width and height")
    steps: int | None = option(
        None,
        "Sampling steps; default by model, 4 for Flux schnell",
        feature=Feature.STEPS,
        ge=1,
        le=200,
        hint="FLUX.1-schnell needs 4, most other models 20 to 30.",
    )
    seed: int | None = option(
        None,
        "Same seed and settings, same image; default random",
        ge=0,
        le=MAX_SEED,
        hint="Leave seed out for a random one.",
    )
    cfg: float | None = option(
        None,
        "Classifier-free guidance scale; default by model",
        feature=Feature.CFG,
        ge=0,
        le=100,
        hint="Distilled models such as FLUX.1-schnell need 1, others 4 to 8.",
    )
    guidance: float | None = option(
        None,
        "Distilled guidance of Flux dev; default 3.5",
        feature=Feature.GUIDANCE,
        ge=0,
        le=100,
        hint="FLUX.1-dev works best from 2 to 5.",
    )
    model: str | None = option(None, "Name from list_available_models")
    batch_size: int = option(
        1, "Number of images, 1-16", ge=1, le=16, hint="Call again with other seeds for more images."
    )
    sampler: str | None = option(None, "e.g. euler", feature=Feature.SAMPLER)
    scheduler: str | None = option(None, "e.g. simple", feature=Feature.SCHEDULER)
    init_image: ImageRef | None = option(  # noqa: RUF009
        None, "Path of an image to begin with", feature=Feature.INIT_IMAGE
    )
    denoise: float | None = option(
        None,
        "0 keeps init_image, 1 ignores it",
        feature=Feature.INIT_IMAGE,
        ge=0,
        le=1,
        hint="0 keeps init_image as it is, 1 ignores it; 0.6 changes the subject and keeps its place.",
        requires="init_image",
    )

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InvalidRequest("The prompt is empty.", hint="Say what to generate, e.g. 'a lighthouse at dusk'.")
        for name, about in options_of(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, str):
                _check_text(name, value)
            elif value is not None:
                _check_value(name, value, about, self)
        if self.aspect_ratio is not None:
            _check_ratio(self)

    def size(self, native: tuple[int, int]) -> tuple[int, int]:
        """Return width and height in pixels; what is not asked for follows `native`, the size that suits the model.

        An aspect ratio keeps the number of pixels of `native`.
        """
        if self.aspect_ratio is None:
            return self.width or native[0], self.height or native[1]
        ratio = ratio_of(self.aspect_ratio)
        if self.width:
            return self.width, round(self.width / ratio)
        if self.height:
            return round(self.height * ratio), self.height
        pixels = native[0] * native[1]
        return round((pixels * ratio) ** 0.5), round((pixels / ratio) ** 0.5)

    def used(self) -> frozenset[Feature]:
        """Return the features that this request uses: those whose field does not hold its default."""
        return frozenset(
            about.feature
            for name, about in options_of(type(self)).items()
            if about.feature and getattr(self, name) != _default_of(type(self), name)
        )

    def without(self, features: Iterable[Feature]) -> Self:
        """Return a copy that uses none of these features."""
        dropped, kind = frozenset(features), type(self)
        defaults: dict[str, Any] = {
            name: _default_of(kind, name) for name, about in options_of(kind).items() if about.feature in dropped
        }
        return replace(self, **defaults)

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for, as JSON takes it; `from_dict` reads it."""
        return {
            name: value.to_dict() if isinstance(value, ImageRef) else value
            for name, value in vars(self).items()
            if value not in (None, "")
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the request that `to_dict` wrote.

        Raises:
            TypeError: a value has no field, because another version wrote it.
            InvalidRequest: a value is out of its range.
        """
        images = image_fields(cls)
        given: dict[str, Any] = {n: ImageRef(**v) if n in images else v for n, v in values.items()}
        return cls(**given)


def options_of(kind: type[GenerationRequest]) -> dict[str, Option]:
    """Return name -> `Option` of every field, in the order of the tool's arguments."""
    return {each.name: each.metadata["option"] for each in fields(kind)}


def image_fields(kind: type[GenerationRequest]) -> frozenset[str]:
    """Return the names of the fields that hold images; the doors take the name of a file for them."""
    return frozenset(each.name for each in fields(kind) if ImageRef in get_args(each.type))


def ratio_of(text: str) -> float:
    """Return the width divided by the height that an aspect ratio such as "16:9" means; 0 for what is none."""
    found = RATIO.fullmatch(text.strip())
    return float(found[1]) / float(found[2]) if found and float(found[2]) else 0.0


def random_seed() -> int:
    """Return a random seed, 0..2**53-1."""
    return secrets.randbits(RANDOM_SEED_BITS)


def seeds_of(seed: int, count: int) -> list[int]:
    """Return the seed of each image of a batch: `seed`, `seed` + 1, ...; each generates its image alone."""
    return [(seed + index) % (MAX_SEED + 1) for index in range(count)]


def _default_of(kind: type[GenerationRequest], name: str) -> object:
    found: Field[Any] = next(each for each in fields(kind) if each.name == name)
    return found.default


def _check_value(name: str, value: Any, about: Option, request: GenerationRequest) -> None:
    if about.requires and getattr(request, about.requires) is None:
        raise InvalidRequest(f"{name} requires {about.requires}.", hint="Give both, or neither.")
    if about.ge is None or about.le is None:
        return
    if not about.ge <= value <= about.le:  # also refuses NaN
        raise InvalidRequest(f"{name}={value} is out of range {about.ge}..{about.le}.", hint=about.hint)


def _check_text(name: str, text: str) -> None:
    if len(text) > MAX_PROMPT_CHARS:
        raise InvalidRequest(
            f"{name} has {len(text)} characters; the limit is {MAX_PROMPT_CHARS}.",
            hint="Shorten it: models read a few hundred words at most.",
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{name} contains an unpaired surrogate at index {error.start}.", hint="Send valid Unicode."
        ) from error


def _check_ratio(request: GenerationRequest) -> None:
    text, ratio = str(request.aspect_ratio), ratio_of(str(request.aspect_ratio))
    if not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
        raise InvalidRequest(
            f"aspect_ratio={clean(text, MAX_NAME)!r} is not a ratio from 1:{MAX_RATIO:g} to {MAX_RATIO:g}:1.",
            hint="Use one such as 16:9, 3:2 or 1:1, or give width and height.",
        )
    if request.width and request.height:
        raise InvalidRequest("aspect_ratio is given with both width and height.", hint="Give the one or the others.")
    if request.width or request.height:
        for name, side in zip(("width", "height"), request.size((0, 0)), strict=True):
            about = options_of(type(request))[name]
            if about.ge is not None and about.le is not None and not about.ge <= side <= about.le:
                raise InvalidRequest(
                    f"aspect_ratio={text} makes {name}={side}, which is out of range {about.ge}..{about.le}.",
                    hint=about.hint,
                )
