"""Images that a request names. Paths may come from a language model, so only allowed folders are read."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.domain.image import ImageRef, InputImage
from mcp_image_gen_local.imaging import ImageTooLarge, ImageUnreadable, decode_image

MAX_BYTES = 64 * 2**20


class InputImages:
    """Turns the names of image files into references, and reads what a reference names."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Allow agents to name files below these folders."""
        self.folders = tuple(folders)

    async def refer(self, name: str) -> ImageRef:
        """Return a reference to the file that an agent names: below one of the folders, links resolved.

        Raises:
            InvalidRequest: it is outside the folders, cannot be read, or is larger than 64 MiB.
        """
        return await asyncio.to_thread(self._refer, name)

    def _refer(self, name: str) -> ImageRef:
        path = _resolved(name)
        if not any(path.is_relative_to(_resolved(str(folder))) for folder in self.folders):
            raise InvalidRequest(
                f"init_image {name!r} is outside the folders that may be read: {', '.join(map(str, self.folders))}.",
                hint="Use an image that generate_image saved, or ask the user to set IMAGE_GEN_INPUT_DIRS.",
            )
        return refer_to(path)

    async def read(self, image: ImageRef) -> InputImage:
        """Return the file and its size.

        Raises:
            InvalidRequest: it cannot be read or decoded, or is no longer what it was when it was named.
        """
        return await asyncio.to_thread(_read_image, image)


def refer_to(path: Path) -> ImageRef:
    """Return a reference to a file that the user named.

    Raises:
        InvalidRequest: it cannot be read, or is larger than 64 MiB.
    """
    return ImageRef(uri=str(path.absolute()), sha256=hashlib.sha256(_read(path)).hexdigest())


def _read_image(image: ImageRef) -> InputImage:
    data = _read(Path(image.uri))
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise InvalidRequest(f"The image {image.uri!r} changed after it was named.", hint="Call again.")
    try:
        width, height = decode_image(data).size
    except ImageTooLarge as error:
        raise InvalidRequest(f"The image {image.uri!r} is too large: {error}.", hint="Scale it down.") from error
    except ImageUnreadable as error:
        raise InvalidRequest(
            f"The file {image.uri!r} is no image that can be read: {error}.", hint="Give a PNG, JPEG or WebP."
        ) from error
    return InputImage(data=data, width=width, height=height)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequest(
                f"The image {str(path)!r} is larger than {MAX_BYTES >> 20} MiB.", hint="Scale it down."
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"The image {str(path)!r} cannot be read: {error.strerror or error}.", hint="Check the path."
        ) from error


def _resolved(name: str) -> Path:
    try:
        return Path(name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, an unknown ~user, a NUL
        raise InvalidRequest(f"init_image {name!r} is not a usable path.", hint="Check the path.") from error
