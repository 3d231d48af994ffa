"""What a user asks for, checked at the door."""

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from mcp_image_gen_local.domain.errors import InvalidRequest

MAX_SEED = 2**64 - 1
RANDOM_SEED_BITS = 53  # so that a generated seed survives JSON readers that hold numbers as doubles
MAX_PROMPT_CHARS = 20_000

#: name -> (smallest, largest, what to do next)
RANGES: dict[str, tuple[float, float, str]] = {
    "width": (16, 4096, "Sizes are pixels; 1024 suits most models."),
    "height": (16, 4096, "Sizes are pixels; 1024 suits most models."),
    "steps": (1, 200, "FLUX.1-schnell wants 4, most other models 20 to 30."),
    "seed": (0, MAX_SEED, "Leave seed out to generate a random one."),
    "cfg": (0, 100, "Distilled models such as FLUX.1-schnell want 1, others 4 to 8."),
    "batch_size": (1, 16, "Call again with other seeds for more images."),
    "denoise": (0, 1, "0 keeps init_image as it is, 1 ignores it; 0.6 changes the thing and keeps its place."),
}


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One image, or a batch of them, as asked for; None leaves a value to the model's family.

    Raises:
        InvalidRequest: the prompt is empty or too long, or a number is out of its range.
    """

    prompt: str  #: what to generate; 1 to 20,000 characters
    negative_prompt: str = ""  #: what to keep out; needs a model with cfg above 1
    width: int | None = None  #: pixels, 16..4096
    height: int | None = None  #: pixels, 16..4096
    steps: int | None = None  #: sampling steps, 1..200
    seed: int | None = None  #: 0..2**64-1; None generates one
    cfg: float | None = None  #: classifier-free guidance scale, 0..100
    sampler: str | None = None  #: engine's sampler name, e.g. "euler"
    scheduler: str | None = None  #: engine's scheduler name, e.g. "simple"
    model: str | None = None  #: family id or file name; None is the default model
    batch_size: int = 1  #: images in one job, 1..16
    init_image: bytes | None = field(default=None, repr=False)  #: image file to begin with
    denoise: float | None = None  #: 0 keeps init_image, 1 ignores it; None leaves it to the engine

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InvalidRequest("The prompt is empty.", hint="Say what to generate, e.g. 'a lighthouse at dusk'.")
        for name in ("prompt", "negative_prompt"):
            _check_text(name, getattr(self, name))
            length = len(getattr(self, name))
            if length > MAX_PROMPT_CHARS:
                raise InvalidRequest(
                    f"{name} has {length} characters; at most {MAX_PROMPT_CHARS} are taken.",
                    hint="Shorten it: models read a few hundred words at most.",
                )
        if self.denoise is not None and self.init_image is None:
            raise InvalidRequest(
                f"denoise={self.denoise:g} means nothing without init_image.", hint="Give both, or neither."
            )
        for name, (smallest, largest, hint) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not smallest <= value <= largest:  # also refuses NaN
                raise InvalidRequest(f"{name}={value} is out of range {smallest}..{largest}.", hint=hint)

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for, as JSON takes it; of init_image its size and the beginning of its SHA-256."""
        asked = {name: value for name, value in vars(self).items() if value not in (None, "")}
        if self.init_image is not None:
            digest = hashlib.sha256(self.init_image).hexdigest()[:20]
            asked["init_image"] = f"{len(self.init_image)} bytes, sha256 {digest}"
        return asked


def _check_text(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{name} holds half a character ({text[error.start]!r} at {error.start}).",
            hint="Send it as whole Unicode characters.",
        ) from error


def random_seed() -> int:
    """Return a random seed, 0..2**53-1."""
    return secrets.randbits(RANDOM_SEED_BITS)
