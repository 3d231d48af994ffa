"""Texts in PNG files: added and stripped without touching the image."""

import io
import zlib

import pytest
from PIL import Image, PngImagePlugin

from mcp_image_gen_local.storage import png
from tests.storage.images import encoded, gradient

MODES = ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"]


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def image_of(mode: str) -> Image.Image:
    if mode == "I;16":
        return gradient(24, 16).convert("L").convert("I").convert("I;16")
    return gradient(24, 16).convert(mode)


@pytest.mark.parametrize("text", ["", "a red apple", "été 雪 🎨 \n\t", '{"a": "ü"}', "x" * 100_000])
def test_pillow_reads_back_the_text_that_was_added(text: str):
    data = png.with_text(encoded(gradient(24, 16)), "mcp-image-gen", text)
    assert opened(data).text == {"mcp-image-gen": text}


@pytest.mark.parametrize("mode", MODES)
def test_texts_leave_every_pixel(mode: str):
    """Adding and stripping texts leaves every pixel as it was."""
    plain = encoded(image_of(mode))
    told = png.with_text(plain, "note", "hello")
    for data in (told, png.without_texts(told)):
        assert opened(data).mode == opened(plain).mode
        assert opened(data).tobytes() == opened(plain).tobytes()


def test_stripping_restores_the_file():
    """Stripping gives back the very file that had no texts."""
    plain = encoded(gradient(24, 16))
    assert png.without_texts(png.with_text(plain, "note", "hello")) == plain


def test_our_text_replaces_comfyuis():
    """ComfyUIs prompt and workflow are stripped and our text joins them."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("prompt", "{}")
    notes.add_text("workflow", "{}", zip=True)
    notes.add_itxt("parameters", "ü")
    exif = Image.Exif()
    exif[0x010E] = "somebody's cat"
    data = encoded(gradient(24, 16), pnginfo=notes, exif=exif)
    assert set(opened(png.with_text(data, "mcp-image-gen", "x")).text) == {
        *("prompt", "workflow", "parameters", "mcp-image-gen")
    }
    stripped = png.without_texts(data)
    assert opened(stripped).text == {}
    assert not opened(stripped).getexif()


def test_transparency_outlives_the_stripping():
    """Transparency and palette outlive the stripping."""
    image = gradient(24, 16).convert("P")
    image.info["transparency"] = 3
    data = png.without_texts(encoded(image, transparency=3))
    assert opened(data).info["transparency"] == 3
    assert opened(data).getpalette() == image.getpalette()


def test_every_chunk_has_a_right_checksum():
    """Every chunk of the result has a right checksum."""
    data = png.with_text(encoded(gradient(24, 16)), "note", "hello")
    for kind, chunk in png.chunks(data):
        assert int.from_bytes(chunk[-4:], "big") == zlib.crc32(chunk[4:-4]), kind
    assert [kind for kind, _ in png.chunks(data)][:2] == [b"IHDR", b"iTXt"]


def test_only_a_whole_png_counts_as_one():
    data = encoded(gradient(24, 16))
    assert png.is_png(data)
    assert not png.is_png(data[:-1])
    assert not png.is_png(b"")
    assert not png.is_png(encoded(gradient(24, 16), "JPEG"))
