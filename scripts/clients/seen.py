"""What a model gets of a tool's answer: images, text, and images as text. Pure."""

import base64
import binascii
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image, UnidentifiedImageError

BASE64 = re.compile(r"[A-Za-z0-9+/]{400,}={0,2}")
PATH = re.compile(r"/[^\s\"'<>|]+\.png")
FILE_URL = "file://"


@dataclass(frozen=True, kw_only=True)
class SeenImage:
    """An image that is an image to the model."""

    format: str  #: as Pillow names it; "address" for a URL that the model's API would have to open, else "broken"
    width: int = 0
    height: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        if not self.width:
            return self.format
        return f"{self.format} {self.width}x{self.height}, {self.bytes:,} bytes"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the newest part of a request shows the model."""

    images: tuple[SeenImage, ...]
    characters: int  #: of all texts
    base64_characters: int  #: of them, those that are an image in disguise
    has_path: bool  #: the path of a PNG file, beside any link
    has_link: bool

    @property
    def kind(self) -> str:
        """Return "image", "text" for an image as text, "dropped" if neither came."""
        if any(image.width for image in self.images):
            return "image"
        return "text" if self.base64_characters else "dropped"

    @property
    def link(self) -> str:
        """Return "image", "text" or "dropped"."""
        if any(image.format == "address" for image in self.images):
            return "image"
        return "text" if self.has_link else "dropped"

    def __str__(self) -> str:
        if self.kind == "image":
            return "; ".join(map(str, self.images))
        disguised = f", {self.base64_characters:,} of them base64" if self.base64_characters else ""
        return f"text only, {self.characters:,} characters{disguised}"


def seen_in(items: list[Any]) -> Seen:
    """Return what these messages, in the form of any of the four APIs, show."""
    images = tuple(_image(value) for kind, value in _walk(items) if kind == "image")
    texts = [value for kind, value in _walk(items) if kind == "text"]
    whole = "\n".join(texts)
    without_links = re.sub(rf"{FILE_URL}\S+", "", whole)
    return Seen(
        images=images,
        characters=sum(map(len, texts)),
        base64_characters=sum(map(len, BASE64.findall(whole))),
        has_path=bool(PATH.search(without_links)),
        has_link=FILE_URL in whole,
    )


def _walk(node: Any) -> Iterator[tuple[str, str]]:
    """Yield ("image", data or address) and ("text", text), in order."""
    if isinstance(node, str):
        yield "text", node
    elif isinstance(node, list):
        for each in node:
            yield from _walk(each)
    elif isinstance(node, dict):
        source = _source(node)
        if source is not None:
            yield "image", source
        elif "functionResponse" in node:
            yield from _function_response(node["functionResponse"])
        else:
            yield from _walk(list(node.values()))


def _source(part: dict[str, Any]) -> str | None:
    """Return the data or address of an image part; None if `part` is none."""
    if part.get("type") == "image_url" and isinstance(part.get("image_url"), dict):
        return str(part["image_url"].get("url"))
    if part.get("type") == "input_image":
        return str(part.get("image_url"))
    if part.get("type") == "image" and isinstance(part.get("source"), dict):
        return str(part["source"].get("data") or part["source"].get("url"))
    inline = part.get("inlineData") or part.get("inline_data")
    return str(inline.get("data")) if isinstance(inline, dict) else None


def _function_response(response: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Walk Gemini's tool result: JSON of the client's own making, which is text to the model, and image parts."""
    for kind, value in _walk(response.get("response")):
        yield "text" if kind == "image" else kind, value
    yield from _walk(response.get("parts"))


def _image(source: str) -> SeenImage:
    if "://" in source[:16]:
        return SeenImage(format="address")
    encoded = source.partition("base64,")[2] or source
    try:
        content = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
        with Image.open(io.BytesIO(content)) as opened:
            return SeenImage(format=str(opened.format), width=opened.width, height=opened.height, bytes=len(content))
    except (binascii.Error, UnidentifiedImageError):
        return SeenImage(format="broken")
