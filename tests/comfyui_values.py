"""What the nodes of the ComfyUI test double hand on: enough to know which image comes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from tests import comfyui_images as images

Render = Callable[[int, int, int, str, int], bytes]
Inputs = Mapping[str, Any]


class NodeError(Exception):
    """A node failed while running."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind  #: exception_type as ComfyUI reports it


@dataclass(frozen=True, kw_only=True)
class Value:
    """A latent, an image, a conditioning or noise, described rather than computed."""

    width: int = 0
    height: int = 0
    batch: int = 1
    seed: int = 0
    steps: int = 0
    text: str = ""
    color: int = 0  #: of an image that no sampler made
    source: bytes | None = None  #: the file an image or latent was made from
    denoise: float = 1.0  #: how much of `source` sampling replaces
    sampled: bool = False


def evaluate(class_type: str, inputs: Inputs) -> Value:
    """Return what a node puts out; an unknown one hands on its first linked value."""
    if class_type in _NODES:
        return _NODES[class_type](inputs)
    return next((value for value in inputs.values() if isinstance(value, Value)), Value())


def render(value: Value, index: int, image: Render) -> bytes:
    """Return image `index` of a batch as the bytes of a file."""
    size = value.width, value.height
    if not value.sampled:
        return images.plain(*size, value.color) if value.source is None else value.source
    if value.source is None or value.denoise >= 1 or image is not images.generate:
        return image(*size, value.seed, value.text, index)
    return images.regenerate(value.source, size, value.seed, value.text, index, value.denoise)


def load(data: bytes) -> Value:
    """Return what LoadImage puts out for a file.

    Raises:
        NodeError: the file is no image.
    """
    try:
        width, height = images.size_of(data)
    except Image.UnidentifiedImageError:
        text = "cannot identify image file '/srv/run/input/upload'"
        raise NodeError("PIL.UnidentifiedImageError", text) from None
    return Value(width=width, height=height, source=data)


def _empty_latent(multiple: int) -> Callable[[Inputs], Value]:
    """Return a node that rounds its size down without a word."""

    def node(inputs: Inputs) -> Value:
        width, height = (inputs[name] // multiple * multiple for name in ("width", "height"))
        return Value(width=width, height=height, batch=inputs["batch_size"])

    return node


def _empty_image(inputs: Inputs) -> Value:
    return Value(width=inputs["width"], height=inputs["height"], batch=inputs["batch_size"], color=inputs["color"])


def _encode(inputs: Inputs) -> Value:
    pixels = inputs["pixels"]
    source = render(pixels, 0, images.generate)
    return Value(width=pixels.width // 8 * 8, height=pixels.height // 8 * 8, batch=pixels.batch, source=source)


def _sample(inputs: Inputs) -> Value:
    seed = inputs["seed"] if "seed" in inputs else inputs["noise_seed"]
    generated = {"seed": seed, "steps": inputs["steps"], "text": inputs["positive"].text}
    return replace(inputs["latent_image"], **generated, denoise=inputs.get("denoise", 1.0), sampled=True)


def _sample_custom(inputs: Inputs) -> Value:
    sigmas = inputs["sigmas"]
    generated = {"seed": inputs["noise"].seed, "steps": sigmas.steps, "text": inputs["guider"].text}
    return replace(inputs["latent_image"], **generated, denoise=sigmas.denoise, sampled=True)


def _scale(inputs: Inputs) -> Value:
    image = inputs["image"]
    width, height = inputs["width"], inputs["height"]
    # 0 keeps the proportions.
    width = width or max(1, round(image.width * height / image.height))
    height = height or max(1, round(image.height * width / image.width))
    return _resized(image, width, height)


def _scale_by(inputs: Inputs) -> Value:
    image, factor = inputs["image"], inputs["scale_by"]
    return _resized(image, round(image.width * factor), round(image.height * factor))


def _scale_to_total(inputs: Inputs) -> Value:
    image = inputs["image"]
    factor = (inputs["megapixels"] * 1024 * 1024 / (image.width * image.height)) ** 0.5
    return _resized(image, round(image.width * factor), round(image.height * factor))


def _upscale(inputs: Inputs) -> Value:
    image = inputs["image"]
    return _resized(image, image.width * 4, image.height * 4)


def _resized(image: Value, width: int, height: int) -> Value:
    """Return the image at another size, as an image that is not sampled any more."""
    source = render(image, 0, images.generate)
    scaled = images.regenerate(source, (width, height), 0, "", 0, 0.0)
    return Value(width=width, height=height, batch=image.batch, source=scaled)


_NODES: dict[str, Callable[[Inputs], Value]] = {
    "EmptyLatentImage": _empty_latent(8),
    "EmptySD3LatentImage": _empty_latent(16),
    "EmptyImage": _empty_image,
    "CLIPTextEncode": lambda inputs: Value(text=inputs["text"]),
    "CLIPTextEncodeFlux": lambda inputs: Value(text=inputs["t5xxl"]),
    "ConditioningZeroOut": lambda _: Value(),
    "PrimitiveString": lambda inputs: Value(text=inputs["value"]),
    "VAEEncode": _encode,
    "VAEEncodeForInpaint": _encode,
    "VAEDecode": lambda inputs: inputs["samples"],
    "RepeatLatentBatch": lambda inputs: replace(inputs["samples"], batch=inputs["samples"].batch * inputs["amount"]),
    "SetLatentNoiseMask": lambda inputs: inputs["samples"],
    "KSampler": _sample,
    "KSamplerAdvanced": _sample,
    "SamplerCustomAdvanced": _sample_custom,
    "RandomNoise": lambda inputs: Value(seed=inputs["noise_seed"]),
    "BasicScheduler": lambda inputs: Value(steps=inputs["steps"], denoise=inputs["denoise"]),
    "BasicGuider": lambda inputs: inputs["conditioning"],
    "CFGGuider": lambda inputs: inputs["positive"],
    "ImageScale": _scale,
    "ImageScaleBy": _scale_by,
    "ImageScaleToTotalPixels": _scale_to_total,
    "ImageUpscaleWithModel": _upscale,
}
