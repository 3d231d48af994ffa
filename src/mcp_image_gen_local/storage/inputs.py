"""Images that a request begins with. Paths may come from a language model, so only allowed folders are read."""

from collections.abc import Sequence
from pathlib import Path

from mcp_image_gen_local.domain.errors import InvalidRequest

MAX_BYTES = 64 * 2**20


class InputFolders:
    """The folders from which an agent may name images."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)

    def read(self, name: str) -> bytes:
        """Return the bytes of the image, which must lie below one of the folders, links resolved.

        Raises:
            InvalidRequest: it lies elsewhere, cannot be read, or is larger than 64 MiB.
        """
        path = _resolved(name)
        if not any(path.is_relative_to(_resolved(str(folder))) for folder in self.folders):
            raise InvalidRequest(
                f"init_image {name!r} lies outside the folders that may be read: {', '.join(map(str, self.folders))}.",
                hint="Use an image that generate_image saved, or let the user add its folder to IMAGE_GEN_INPUT_DIRS.",
            )
        return read_input(path)


def read_input(path: Path) -> bytes:
    """Return the bytes of an image file that the user named.

    Raises:
        InvalidRequest: it cannot be read, or is larger than 64 MiB.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequest(
                f"init_image {str(path)!r} is larger than {MAX_BYTES >> 20} MiB.", hint="Scale it down."
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"init_image {str(path)!r} cannot be read: {error.strerror or error}.", hint="Check the path."
        ) from error


def _resolved(name: str) -> Path:
    try:
        return Path(name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, an unknown ~user, a NUL
        raise InvalidRequest(f"init_image {name!r} is no usable path.", hint="Check the path.") from error
