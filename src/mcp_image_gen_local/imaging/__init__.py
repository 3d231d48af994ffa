"""The one place that opens image files: what a request names, what an engine generated, what an answer shows.

The bytes may come from strangers. So only formats that are needed are opened, a file's header tells its size before
anything is decoded, and the bound on pixels is ours: Pillow's is one for all purposes and far higher.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.imaging.formats import READ, STORED, format_of, png_notes, png_pixels, png_size, webp_size

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000  #: decoded at most, 0.2 GB; three times the largest image that is generated here
GLANCE_PIXELS = 4096 * 4096  #: decoded at most where that only serves a check
MAX_WEBP_PIXELS = GLANCE_PIXELS  #: decoded at most of a WebP, whose decoder takes four times the memory
BAND_ROWS = 64  #: of the smaller image, that are made at a time
LARGE_PIXELS = 4_000_000  #: about so many are left of a larger image where a small one will do
GLANCE_SIDE = 64  #: pixels, about; so far a JPEG is scaled down where it only is to be checked
ORIENTATION = 0x0112  #: EXIF tag
#: Read here: of a PNG to copy nothing, of a WebP as Pillow makes two canvases first.
SIZES: dict[str, Callable[[bytes], tuple[int, int] | None]] = {"PNG": png_size, "WEBP": webp_size}
FORMATS_IN_WORDS = "PNG, JPEG, WebP or GIF"


class ImageUnreadable(Exception):
    """The bytes are no whole image of a format that is read here; the text is the reason, a clause."""


class ImageTooLarge(Exception):
    """The image is whole, as far as its header tells, and has more pixels than are decoded.

    Args:
        width: pixels.
        height: pixels.
        limit: pixels that are decoded at most.
    """

    def __init__(self, width: int, height: int, limit: int = MAX_PIXELS) -> None:
        megapixels = f"{math.ceil(width * height / 1e6)} megapixels; at most {limit / 1e6:.0f} are decoded"
        super().__init__(f"{width}x{height} pixels are {megapixels}")


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What an image file tells of itself before anything is decoded."""

    format: str  #: "PNG", "JPEG", "WEBP", "GIF"; where others are asked for, "TIFF", "BMP", "AVIF"
    width: int  #: pixels, as stored: EXIF may turn them
    height: int


def read_header(data: bytes, *, also_stored: bool = False) -> ImageHeader:
    """Return format and size of an image of any size; `also_stored` admits TIFF, BMP and AVIF.

    Raises:
        ImageUnreadable: the bytes are no such image.
    """
    kind = format_of(data)
    if kind not in READ and not (also_stored and kind in STORED):
        raise ImageUnreadable(_other_format(data, kind))
    size = SIZES[kind](data) if kind in SIZES else _opened(data, kind).size
    if not size or 0 in size:
        raise ImageUnreadable("its header tells no size")
    return ImageHeader(format=kind, width=size[0], height=size[1])


def read_size(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels, turned as the image's EXIF says; no pixel is decoded.

    Raises:
        ImageUnreadable: the bytes are no image.
        ImageTooLarge: it has more pixels than would be decoded.
    """
    header = _within(read_header(data), MAX_PIXELS)
    is_on_its_side = _orientation(_opened(data, header.format)) >= 5
    return (header.height, header.width) if is_on_its_side else (header.width, header.height)


def decode_image(data: bytes, *, side: int = 0) -> "Image.Image":
    """Return the first frame of an image, decoded and turned as its EXIF says.

    The mode is the file's own, but for 16 bits of grey, of which the higher 8 are left. With `side`, in pixels, a
    large image may come at a whole fraction of its size, no side shorter than that: to turn and to convert it takes
    several times its memory.

    Raises:
        ImageUnreadable: the bytes are no image, or are cut short.
        ImageTooLarge: it has more than MAX_PIXELS, or is a WebP of more than MAX_WEBP_PIXELS.
    """
    from PIL import Image  # slow to import; not needed to start

    image = _decoded(data, MAX_PIXELS, side)
    orientation = _orientation(image)
    if side and image.width * image.height > LARGE_PIXELS:
        image = _reduced(image, side)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def for_others(data: bytes) -> bytes:
    """Return the file as other programs that use Pillow can read it: a PNG without notes that they stumble over."""
    from PIL import Image  # slow to import; not needed to start

    if format_of(data) != "PNG":
        return data
    try:
        is_usual = Image.open(BytesIO(png_notes(data)), formats=("PNG",)).size == png_size(data)
    except Exception:  # a text or a profile that is too long, a wrong checksum ...
        is_usual = False
    return data if is_usual else png_pixels(data)


def glance(data: bytes) -> "Image.Image":
    """Return the first frame as cheaply as it can be decoded, to see whether it is whole, or of one colour.

    Raises:
        ImageUnreadable: the bytes are no image, or are cut short.
        ImageTooLarge: it has more than GLANCE_PIXELS.
    """
    return _decoded(data, GLANCE_PIXELS, GLANCE_SIDE)


def _decoded(data: bytes, limit: int, side: int) -> "Image.Image":
    header = _within(read_header(data), limit)
    image = _opened(data, header.format)
    _within(ImageHeader(format=header.format, width=image.width, height=image.height), limit)  # as its decoder sees it
    try:
        if side:
            image.draft(image.mode, (side, side))
        image.load()
        if image.mode.startswith("I"):
            return image.point(lambda value: value * (1 / 257)).convert("L")  # Pillow itself cuts off above 255
    except Exception as error:  # the bytes decide what a decoder stumbles over: OSError, ValueError, MemoryError ...
        raise ImageUnreadable(_reason(error)) from error
    return image


def _reduced(image: "Image.Image", side: int) -> "Image.Image":
    """Return the image in RGBA at a whole fraction of its size; converted in bands, as it would be copied twice else.

    The image itself if it is not much larger than `side`.
    """
    from PIL import Image  # slow to import; not needed to start

    width, height = image.size
    fraction = min(min(width, height) // side, math.isqrt(width * height // LARGE_PIXELS) + 1)
    if fraction <= 1:
        return image
    small = Image.new("RGBA", (math.ceil(width / fraction), math.ceil(height / fraction)))
    step = BAND_ROWS * fraction
    for top in range(0, height, step):
        band = image.crop((0, top, width, min(top + step, height))).convert("RGBA")
        small.paste(band.reduce(fraction), (0, top // fraction))
    return small


def _within(header: ImageHeader, limit: int) -> ImageHeader:
    """Return the header of an image that may be decoded.

    Raises:
        ImageTooLarge: it may not.
    """
    limit = min(limit, MAX_WEBP_PIXELS) if header.format == "WEBP" else limit
    if header.width * header.height > limit:
        raise ImageTooLarge(header.width, header.height, limit)
    return header


def _opened(data: bytes, kind: str) -> "Image.Image":
    """Return the image, its header read, by the one plugin for its format."""
    from PIL import Image  # slow to import; not needed to start

    Image.MAX_IMAGE_PIXELS = None  # the limits are ours, where pixels are decoded
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd metadata; stderr is the log of the server
    try:
        return Image.open(BytesIO(png_pixels(data) if kind == "PNG" else data), formats=(kind,))
    except Exception as error:  # see _decoded
        raise ImageUnreadable(_reason(error)) from error


def _orientation(image: "Image.Image") -> int:
    """Return how EXIF turns the image, 1..8; 1, not at all, if it says nothing or cannot be read."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode all pixels to search behind them
        return 1
    try:
        turn = image.getexif().get(ORIENTATION, 1)
    except Exception:  # what strangers write there must not cost the image
        return 1
    return turn if turn in range(1, 9) else 1


def _other_format(data: bytes, kind: str) -> str:
    if not data:
        return "it is empty"
    return f"its format is {kind}" if kind else f"it is not a {FORMATS_IN_WORDS}"


def _reason(error: Exception) -> str:
    """Return why Pillow could not read an image, a clause."""
    from PIL import UnidentifiedImageError  # slow to import; not needed to start

    if isinstance(error, UnidentifiedImageError):  # it names an object of this program
        return "its header is damaged"
    return clean(error, 200) or type(error).__name__


__all__ = [
    "FORMATS_IN_WORDS",
    "MAX_PIXELS",
    "READ",
    "ImageHeader",
    "ImageTooLarge",
    "ImageUnreadable",
    "decode_image",
    "for_others",
    "glance",
    "read_header",
    "read_size",
]
