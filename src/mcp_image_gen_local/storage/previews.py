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
TRIES = 6
SMALLEST_SIDE = 32  #: pixels; a preview below this says nothing
AIM, LEAST = 0.93, 0.84  #: of the budget that a scaled image is to take, and takes at least where it can
DOES_NOT_FIT = "it does not fit into the answer at any useful size; IMAGE_GEN_INLINE_MAX_BYTES sets the limit"
NEAR = 0.97  #: of the wanted scale: a whole-number reduction may be so much smaller
#: A scaled image has more detail per pixel than its original; so many bytes more per pixel, by measurement.
PNG_GROWTH = 1.25
#: bytes per pixel that an encoded photograph takes, by measurement; only the first guess hangs on it
PIXEL_BYTES = {"jpeg": 0.45, "webp": 0.35}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    # Run-length matches only: on photographs as small as full deflate, and encoded in two thirds of the time.
    "png": {"compress_type": 3},
    "jpeg": {"quality": 88},
    "webp": {"quality": 85, "method": 0},
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


def render(
    images: Sequence[SavedImage], *, formats: Sequence[str], max_bytes: int, max_side: int
) -> list[Preview | NoPreview]:
    """Return a preview for each image, or why there is none, such that the whole answer stays below `max_bytes`.

    The budget is shared: what a small image leaves over goes to the next ones.

    Args:
        images: on disk.
        formats: "png", "jpeg" or "webp", in the order in which they are tried at full size; the last one is scaled
            if none fits. Empty: no previews.
        max_bytes: of the whole answer.
        max_side: pixels that the longer side may have.
    """
    if not formats:
        return [NoPreview("inline images are switched off")] * len(images)
    budget = (max_bytes - TEXT_BYTES - 1_000 * len(images)) * 3 // 4  # base64 makes 4 bytes of 3
    previews: list[Preview | NoPreview] = []
    for index, image in enumerate(images):
        try:
            preview = _render_one(image, formats, budget // (len(images) - index), max_side)
        except NoPreview as reason:
            previews.append(reason)
        else:
            budget -= len(preview.data)
            previews.append(preview)
    return previews


def _render_one(image: SavedImage, formats: Sequence[str], budget: int, max_side: int) -> Preview:
    if budget <= 0:
        raise NoPreview(DOES_NOT_FIT)
    try:
        data = image.path.read_bytes()
        if image.width * image.height > MAX_PIXELS:  # a small file too: what takes it may not survive
            raise ImageTooLarge(image.width, image.height)
        if "png" in formats and png.is_png(data) and max(image.width, image.height) <= max_side:
            data = png.without_texts(data)
            if len(data) <= budget:
                return Preview(data=data, mime_type="image/png", width=image.width, height=image.height)
        return _encode(decode_image(data), formats[-1], len(data), budget, max_side)
    except OSError as error:
        raise NoPreview(f"its file cannot be read ({error.strerror or error})") from error
    except ImageUnreadable as error:
        raise NoPreview(f"its file cannot be decoded ({error})") from error
    except ImageTooLarge as error:
        raise NoPreview(str(error)) from error


def _encode(image: "Image.Image", image_format: str, file_bytes: int, budget: int, max_side: int) -> Preview:
    """Return the largest copy that fits, as far as a few tries tell; it is never larger than the image."""
    image = _flatten(image, image_format)
    pixels = image.width * image.height
    whole = min(1.0, max_side / max(image.size))
    pixel_bytes = PIXEL_BYTES.get(image_format) or file_bytes / pixels * PNG_GROWTH
    scale = min(whole, (AIM * budget / (pixel_bytes * pixels)) ** 0.5)
    best: Preview | None = None
    for attempt in range(TRIES):
        if min(image.size) * scale < min(SMALLEST_SIDE, *image.size):
            break
        preview = _preview(_scaled(image, scale, exactly=attempt > 0), image_format)
        size = len(preview.data)
        if size <= budget and (best is None or len(best.data) < size):
            best = preview
        if size <= budget and (size >= LEAST * budget or scale == whole):
            break
        if best and attempt >= TRIES // 2:
            break
        scale = min(whole, scale * (AIM * budget / size) ** 0.5)
    if best is None:
        raise NoPreview(DOES_NOT_FIT)
    return best


def _preview(image: "Image.Image", image_format: str) -> Preview:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **SAVE_OPTIONS[image_format])
    return Preview(data=buffer.getvalue(), mime_type=f"image/{image_format}", width=image.width, height=image.height)


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


def _scaled(image: "Image.Image", scale: float, *, exactly: bool) -> "Image.Image":
    """Return the image at `scale`, 0..1; unless `exactly`, at 1/2, 1/3 ... where that is near: a fifth of the time."""
    from PIL.Image import Resampling  # slow to import; not needed to start

    whole = math.ceil(1 / scale - 1e-9)
    if whole == 1:
        return image
    if not exactly and 1 / whole >= NEAR * scale:
        return image.reduce(whole)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Resampling.HAMMING, reducing_gap=2.0)
