"""The one place that opens image files: what a request names, what an engine generated, what an answer shows.

Pillow refuses images of more than 179 megapixels with an error and warns above 89, whatever they are opened for; here
the caller decides, and a file's header tells the size before anything is decoded.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 2 * 89_478_485  #: decoded at most, 0.5 GB as RGB; Pillow's own limit


class ImageUnreadable(Exception):
    """The bytes are no whole image that Pillow knows."""


class ImageTooLarge(Exception):
    """The image is whole, as far as its header tells, and has more pixels than are decoded.

    Args:
        width: pixels.
        height: pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        megapixels = f"{width * height / 1e6:.0f} megapixels; at most {MAX_PIXELS / 1e6:.0f} are decoded"
        super().__init__(f"{width}x{height} pixels are {megapixels}")


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What an image file tells of itself before anything is decoded."""

    format: str  #: as Pillow names it, e.g. "PNG"
    width: int  #: pixels, as stored: EXIF may turn them
    height: int


def read_header(data: bytes) -> ImageHeader:
    """Return format and size of an image of any size.

    Raises:
        ImageUnreadable: the bytes are no image.
    """
    image = _opened(data)
    return ImageHeader(format=image.format or "PNG", width=image.width, height=image.height)


def decode_image(data: bytes) -> "Image.Image":
    """Return the first frame of an image, decoded and turned as its EXIF says; the mode is the file's own.

    Raises:
        ImageUnreadable: the bytes are no image, or are cut short.
        ImageTooLarge: it has more than MAX_PIXELS.
    """
    from PIL import ImageOps  # slow to import; not needed to start

    image = _opened(data)
    if image.width * image.height > MAX_PIXELS:
        raise ImageTooLarge(image.width, image.height)
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # the bytes decide what a decoder stumbles over: OSError, SyntaxError, struct.error ...
        raise ImageUnreadable(str(error) or type(error).__name__) from error


def _opened(data: bytes) -> "Image.Image":
    from PIL import Image  # slow to import; not needed to start

    Image.MAX_IMAGE_PIXELS = None  # the limit is MAX_PIXELS, where pixels are decoded
    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:  # see decode_image
        raise ImageUnreadable(str(error) or type(error).__name__) from error
