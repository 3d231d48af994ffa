"""Quick, deterministic images for the ComfyUI test double."""

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache

from PIL import Image, ImageDraw

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AFTER_IHDR = 33  # signature (8) + IHDR chunk (25)


@lru_cache(maxsize=64)
def generate(width: int, height: int, seed: int, prompt: str, index: int) -> bytes:
    """Return a PNG: a smooth gradient with shapes, a function of the arguments alone."""
    return png(_paint(width, height, seed, prompt, index))


@lru_cache(maxsize=64)
def regenerate(source: bytes, size: tuple[int, int], seed: int, prompt: str, index: int, denoise: float) -> bytes:
    """Return a PNG between `source` (denoise 0) and a fresh generating (denoise 1)."""
    with Image.open(io.BytesIO(source)) as opened:
        base = opened.convert("RGB").resize(size)
    return png(Image.blend(base, _paint(*size, seed, prompt, index), denoise))


@lru_cache(maxsize=8)
def plain(width: int, height: int, color: int = 0) -> bytes:
    """Return a PNG of one colour; `color` is 0xRRGGBB and 0 is black."""
    return png(Image.new("RGB", (width, height), (color >> 16 & 255, color >> 8 & 255, color & 255)))


def png(image: Image.Image) -> bytes:
    """Return `image` as the bytes of a PNG file."""
    with io.BytesIO() as file:
        image.save(file, "PNG", compress_level=1)
        return file.getvalue()


@lru_cache(maxsize=8)
def preview(width: int, height: int, seed: int) -> bytes:
    """Return a small JPEG, as latent previews are."""
    with io.BytesIO() as file:
        _paint(min(width, 256), min(height, 256), seed, "", 0).save(file, "JPEG")
        return file.getvalue()


def size_of(image: bytes) -> tuple[int, int]:
    """Return (width, height) in pixels; raises PIL.UnidentifiedImageError for what is no image."""
    with Image.open(io.BytesIO(image)) as opened:
        return opened.size


def convert(image: bytes, *, preview: str | None, channel: str) -> tuple[bytes, str]:
    """Return (bytes, media type) as /view gives them for `preview=webp;90` or `channel=rgb`."""
    with Image.open(io.BytesIO(image)) as opened, io.BytesIO() as file:
        if preview is None:
            _channel(opened, channel).save(file, "PNG", compress_level=4)
            return file.getvalue(), "image/png"
        wanted, _, quality = preview.partition(";")
        # Anything but the two known formats becomes webp, as in ComfyUI.
        kind = wanted if wanted in ("jpeg", "webp") else "webp"
        opened.convert("RGB").save(file, kind, quality=int(quality) if quality.isdigit() else 90)
        return file.getvalue(), f"image/{kind}"


def _channel(image: Image.Image, channel: str) -> Image.Image:
    """Return the colours without alpha, or the alpha alone as an image."""
    if channel == "rgb":
        return image.convert("RGB")
    alpha = image.convert("RGBA").getchannel("A")
    result = Image.new("RGBA", image.size)
    result.putalpha(alpha)
    return result


def with_texts(image: bytes, texts: Mapping[str, str]) -> bytes:
    """Return `image` with PNG text chunks after its header; what is no PNG comes back as it is."""
    if not image.startswith(PNG_SIGNATURE):
        return image
    chunks = b"".join(_chunk(key.encode("latin-1") + b"\0" + text.encode("latin-1")) for key, text in texts.items())
    return image[:_AFTER_IHDR] + chunks + image[_AFTER_IHDR:]


def _chunk(content: bytes) -> bytes:
    """Return one tEXt chunk."""
    body = b"tEXt" + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _paint(width: int, height: int, seed: int, prompt: str, index: int) -> Image.Image:
    """Return the gradient and three discs whose colours and places are a hash of the arguments."""
    digest = hashlib.sha256(f"{seed}/{index}/{prompt}".encode("utf-8", "replace")).digest()
    corners = Image.frombytes("RGB", (2, 2), digest[:12])
    image = corners.resize((width, height), Image.Resampling.BILINEAR)
    brush = ImageDraw.Draw(image)
    for disc in range(3):
        red, green, blue, across, down, reach = digest[12 + 6 * disc : 18 + 6 * disc]
        radius = max(1, min(width, height) * (32 + reach // 2) // 512)
        x, y = width * across // 255, height * down // 255
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(red, green, blue))
    return image
