"""Copies of the images that fit into an answer: whole if small enough, scaled down if not."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.imaging import MAX_PIXELS, ImageTooLarge, ImageUnreadable, decode_image
from mcp_image_gen_local.storage import png

if TYPE_CHECKING:
    from PIL import Image

TEXT_BYTES = 6_000  #: of the answer's budget, for text and link of one image
TRIES = 5
SMALLEST_SIDE = 32  #: pixels; a preview below this says nothing
#: A scaled image has more detail per pixel than its original; so many bytes more per pixel, by measurement.
PNG_GROWTH = 1.25
DOES_NOT_FIT = "it does not fit into IMAGE_GEN_INLINE_MAX_BYTES at any useful size"
NEAR = 0.95  #: of the estimated scale: a whole-number reduction may be so much smaller
#: bytes per pixel that an encoded photograph takes, by measurement; only the first guess hangs on it
PIXEL_BYTES = {"jpeg": 0.45, "webp": 0.35}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    # Run-length matches only: on photographs as small as full deflate, and encoded in two thirds of the time.
    "png": {"compress_type": 3},
    "jpeg": {"quality": 85},
    "webp": {"quality": 80, "method": 0},
}


@dataclass(frozen=True, kw_only=True)
class Preview:
    """An image as it travels inside an answer; it holds no metadata."""

    data: bytes = field(repr=False)
    mime_type: str
    width: int  #: pixels
    height: int  #: pixels


class NoPreview(Exception):
    """The image cannot be shown inside the answer; the text is the reason, a clause."""


def render(images: Sequence[SavedImage], *, image_format: str, max_bytes: int) -> list[Preview | NoPreview]:
    """Return a preview for each image, or why there is none, such that the whole answer stays below `max_bytes`.

    The budget is shared: what a small image leaves over goes to the next ones.
    """
    if image_format == "none":
        return [NoPreview("inline images are switched off")] * len(images)
    budget = (max_bytes - TEXT_BYTES - 1_000 * len(images)) * 3 // 4  # base64 makes 4 bytes of 3
    previews: list[Preview | NoPreview] = []
    for index, image in enumerate(images):
        try:
            preview = _render_one(image, image_format, budget // (len(images) - index))
        except NoPreview as reason:
            previews.append(reason)
        else:
            budget -= len(preview.data)
            previews.append(preview)
    return previews


def _render_one(image: SavedImage, image_format: str, budget: int) -> Preview:
    try:
        data = image.path.read_bytes()
        if image.width * image.height > MAX_PIXELS:  # a small file too: what takes it may not survive
            raise ImageTooLarge(image.width, image.height)
        if image_format == "png" and png.is_png(data):
            data = png.without_texts(data)
            if len(data) <= budget:
                return Preview(data=data, mime_type="image/png", width=image.width, height=image.height)
        decoded = decode_image(data)
        return _scale_to_fit(_flatten(decoded, image_format), image_format, len(data), budget)
    except OSError as error:
        raise NoPreview(f"its file cannot be read ({error.strerror or error})") from error
    except ImageUnreadable as error:
        raise NoPreview(f"its file cannot be decoded ({error})") from error
    except ImageTooLarge as error:
        raise NoPreview(str(error)) from error


def _flatten(image: "Image.Image", image_format: str) -> "Image.Image":
    """Return the image in a mode that the format takes, transparent parts on white for JPEG."""
    image.info.clear()  # Pillow writes some of it, a comment for one, into the copy
    if image.mode == "RGB":
        return image
    if image_format != "jpeg":
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    from PIL import Image  # slow to import; not needed to start

    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return page.convert("RGB")


def _scale_to_fit(image: "Image.Image", image_format: str, file_bytes: int, budget: int) -> Preview:
    """Encode once at an estimated size; again, smaller, only if the estimate was off."""
    if budget <= 0:
        raise NoPreview(DOES_NOT_FIT)
    pixels = image.width * image.height
    pixel_bytes = PIXEL_BYTES.get(image_format) or file_bytes / pixels * PNG_GROWTH
    scale = min(1.0, (budget / (pixel_bytes * pixels)) ** 0.5)
    for _ in range(TRIES):
        if min(image.size) * scale < min(SMALLEST_SIDE, *image.size):
            break
        scaled = _scaled(image, scale)
        buffer = io.BytesIO()
        scaled.save(buffer, image_format, **SAVE_OPTIONS[image_format])
        if buffer.tell() <= budget:
            width, height = scaled.size
            return Preview(data=buffer.getvalue(), mime_type=f"image/{image_format}", width=width, height=height)
        scale *= min(0.9, 0.95 * (budget / buffer.tell()) ** 0.5)
    raise NoPreview(DOES_NOT_FIT)


def _scaled(image: "Image.Image", scale: float) -> "Image.Image":
    """Return the image at about `scale`, 0..1: at 1/2, 1/3 ... where that is near, in a fifth of the time."""
    from PIL.Image import Resampling  # slow to import; not needed to start

    whole = math.ceil(1 / scale - 1e-9)
    if whole == 1:
        return image
    if 1 / whole >= NEAR * scale:
        return image.reduce(whole)
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Resampling.HAMMING, reducing_gap=2.0)
