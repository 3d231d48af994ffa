"""Between the network's arrays and image files."""

import io
from typing import TYPE_CHECKING, Any

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.imaging import FORMATS_IN_WORDS, ImageTooLarge, ImageUnreadable, decode_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


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

    try:
        image = decode_image(data, side=2 * side).convert("RGBA")
    except (ImageUnreadable, ImageTooLarge) as error:
        raise InvalidRequest(f"init_image cannot be decoded: {error}.", hint=f"Give a {FORMATS_IN_WORDS}.") from error
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    fitted = ImageOps.pad(page.convert("RGB"), (side, side), Image.Resampling.BOX, color="white")
    return np.asarray(fitted, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1
