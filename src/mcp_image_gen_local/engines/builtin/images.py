"""Between the network's arrays and image files."""

import io
import math
from typing import TYPE_CHECKING, Any

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.imaging import FORMATS_IN_WORDS, ImageTooLarge, ImageUnreadable, decode_image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    Array = NDArray[Any]

LARGE_PIXELS = 4_000_000  #: about so many are left of a larger image before it is copied


def to_png(array: "Array", width: int, height: int) -> bytes:
    """Return a PNG of width x height of an image (3, side, side) in -1..1: scaled as a whole, the rest white."""
    from PIL import Image  # heavy; only wanted when something is generated

    pixels = ((array.clip(-1, 1) + 1) * 127.5).round().astype("uint8").transpose(1, 2, 0)
    image = Image.fromarray(pixels)
    side = min(width, height)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    if width != height:
        page = Image.new("RGB", (width, height), "white")
        page.paste(image, ((width - side) // 2, (height - side) // 2))
        image = page
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def from_file(data: bytes, side: int) -> "Array":
    """Return an image file as an array (3, side, side) in -1..1: whole, on white.

    Raises:
        InvalidRequest: it cannot be decoded.
    """
    import numpy as np
    from PIL import Image, ImageOps  # heavy; see above

    image = _small(data, side).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    fitted = ImageOps.pad(page.convert("RGB"), (side, side), Image.Resampling.BOX, color="white")
    return np.asarray(fitted, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1


def _small(data: bytes, side: int) -> "Image.Image":
    """Return the decoded image, a very large one at a whole fraction: what follows makes several copies of it."""
    try:
        image = decode_image(data, side=2 * side)
    except (ImageUnreadable, ImageTooLarge) as error:
        raise InvalidRequest(f"init_image cannot be decoded: {error}.", hint=f"Give a {FORMATS_IN_WORDS}.") from error
    whole = min(min(image.size) // (2 * side), math.isqrt(image.width * image.height // LARGE_PIXELS) + 1)
    if whole <= 1:
        return image
    return (image if image.mode in ("RGB", "L") else image.convert("RGBA")).reduce(whole)
