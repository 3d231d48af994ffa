"""Images that a request names. Paths may come from a language model, so only allowed folders are read."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

from mcp_image_gen_local.domain.errors import InvalidRequest
from mcp_image_gen_local.domain.image import ImageRef, InputImage
from mcp_image_gen_local.domain.text import MAX_NAME, clean
from mcp_image_gen_local.imaging import FORMATS_IN_WORDS, ImageTooLarge, ImageUnreadable, for_others, glance, read_size
from mcp_image_gen_local.storage.addresses import Elsewhere, FilePath, JobImage, NewestImage, read_address
from mcp_image_gen_local.storage.files import is_below, open_regular, read_up_to

MAX_BYTES = 64 * 2**20
FORMS = "a path, the name of a file in the output folder, image://PROMPT_ID/INDEX, or 'last' for the newest image"

FindImage = Callable[[str, int], Awaitable[Path | None]]
FindLast = Callable[[], Awaitable[Path | None]]


class InputImages:
    """Turns the names of image files into references, and reads what a reference names."""

    def __init__(
        self, folders: Sequence[Path], *, find_image: FindImage | None = None, find_last: FindLast | None = None
    ) -> None:
        """Allow agents to name files below these folders; relative names are looked for there, in this order.

        Args:
            folders: the output folder first.
            find_image: returns the file of a job's image by the job's id and the image's index; None if there is none.
            find_last: returns the file of the newest image; None if there is none.
        """
        self.folders = tuple(folders)
        self._find_image = find_image
        self._find_last = find_last

    async def refer(self, name: str) -> ImageRef:
        """Return a reference to the image that an agent names: below one of the folders, links resolved.

        Raises:
            InvalidRequest: it is outside the folders, cannot be read, is larger than 64 MiB, or is no file at all.
            ImageGenError: only the engine could say what the job is, and does not.
        """
        address = read_address(name)
        if isinstance(address, Elsewhere):
            raise self._refused(name, f"is {address.kind}; this server reads files only and fetches nothing", save=True)
        if not isinstance(address, FilePath):
            path = await self._of_job(address)
            if path is None:
                raise self._refused(name, "names no finished image that this server knows")
            address = FilePath((str(path),))
        return await asyncio.to_thread(self._refer, name, address)

    async def _of_job(self, address: JobImage | NewestImage) -> Path | None:
        if isinstance(address, NewestImage):
            return await self._find_last() if self._find_last else None
        return await self._find_image(address.job_id, address.index) if self._find_image else None

    def _refer(self, name: str, address: FilePath) -> ImageRef:
        try:
            folders = [folder.resolve() for folder in self.folders]
            path = _first_there([p for text in address.spellings for p in self._places(text)], folders)
        except (OSError, RuntimeError, ValueError):  # a loop of links, an unknown ~user, a NUL
            raise self._refused(name, "is not a usable path") from None
        if not _is_inside(path, folders):  # before it is opened: to open some devices has effects
            raise self._outside(name)
        try:
            with open_regular(path) as file:
                if not is_below(file, path, folders):  # a folder was swapped for a link meanwhile
                    raise self._outside(name)
                data = read_up_to(file, MAX_BYTES)
        except OSError as error:
            raise self._refused(str(path), f"cannot be read: {error.strerror or error}") from error
        if data is None:
            raise _larger(path)
        return _reference(path, data)

    def _places(self, text: str) -> list[Path]:
        """Return where a path may lead, links resolved; a relative one below the folders, then from where we are."""
        path = Path(text).expanduser()
        places = [path] if path.is_absolute() else [*(folder / path for folder in self.folders), path]
        return [place.resolve() for place in places]

    def _outside(self, name: str) -> InvalidRequest:
        folders = ", ".join(map(str, self.folders))
        return InvalidRequest(
            f"init_image {_shown(name)} is outside the folders that may be read: {folders}.",
            hint="Use an image that generate_image saved, or ask the user to set IMAGE_GEN_INPUT_DIRS.",
        )

    def _refused(self, name: str, why: str, *, save: bool = False) -> InvalidRequest:
        first = f"Save the image to a file in {self.folders[0]}, then give " if save and self.folders else "Give "
        folders = ", ".join(map(str, self.folders))
        return InvalidRequest(
            f"init_image {_shown(name)} {why}.", hint=f"{first}{FORMS}. Folders that may be read: {folders}."
        )

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
    return _reference(path.absolute(), _read(path))


def _reference(path: Path, data: bytes) -> ImageRef:
    return ImageRef(uri=str(path), sha256=hashlib.sha256(data).hexdigest())


def _first_there(places: Sequence[Path], folders: Collection[Path]) -> Path:
    """Return the first that exists within the folders, the first of all if none does."""
    return next((p for p in places if _is_inside(p, folders) and os.path.lexists(p)), places[0])


def _is_inside(path: Path, folders: Collection[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _read_image(image: ImageRef) -> InputImage:
    data, name = _read(Path(image.uri)), _shown(image.uri)
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise InvalidRequest(f"The image {name} changed after it was named.", hint="Call again.")
    try:
        width, height = read_size(data)
        with contextlib.suppress(ImageTooLarge):  # then the engine finds out whether it is whole
            glance(data)
    except ImageTooLarge as error:
        raise InvalidRequest(f"The image {name} is too large: {error}.", hint="Scale it down.") from error
    except ImageUnreadable as error:
        raise InvalidRequest(
            f"The file {name} is no image that can be read: {error}.", hint=f"Give a {FORMATS_IN_WORDS}."
        ) from error
    return InputImage(data=for_others(data), width=width, height=height)


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = read_up_to(file, MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL
        reason = getattr(error, "strerror", None) or error
        raise InvalidRequest(
            f"The image {_shown(str(path))} cannot be read: {reason}.", hint="Check the path."
        ) from error
    if data is None:
        raise _larger(path)
    return data


def _larger(path: Path) -> InvalidRequest:
    return InvalidRequest(f"The image {_shown(str(path))} is larger than {MAX_BYTES >> 20} MiB.", hint="Scale it down.")


def _shown(name: str) -> str:
    return f"'{clean(name, MAX_NAME)}'"
