"""Images for the storage tests, made on the spot."""

import io
from functools import lru_cache
from typing import Any

from PIL import Image

from mcp_image_gen_local.domain.image import EngineImage


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def from_engine(image: Image.Image | bytes, kind: str = "PNG", **options: Any) -> EngineImage:
    """Return the image as an engine hands it over."""
    data = image if isinstance(image, bytes) else encoded(image, kind, **options)
    return EngineImage(data=data, source="http://comfyui/view?filename=x.png", seed=1)


@lru_cache
def gradient(width: int, height: int) -> Image.Image:
    """Return a smooth image: no two corners alike."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (across, down, Image.blend(across, down, 0.5)))


@lru_cache
def noise(width: int, height: int, sigma: float = 60) -> Image.Image:
    """Return an image that hardly compresses."""
    return Image.merge("RGB", [Image.effect_noise((width, height), sigma) for _ in range(3)])


@lru_cache
def photo(width: int, height: int) -> Image.Image:
    """Return what a photograph costs: a gradient with the grain of a sensor."""
    return Image.blend(gradient(width, height), noise(width, height), 0.15)
