"""Texts in PNG files: added and stripped without touching the image."""

import io
import zlib

import pytest
from PIL import Image, PngImagePlugin

from mcp_image_gen_local.storage import png
from tests.huge_images import chunk
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
    for kind, whole in png.chunks(data):
        assert int.from_bytes(whole[-4:], "big") == zlib.crc32(whole[4:-4]), kind
    assert [kind for kind, _ in png.chunks(data)][:2] == [b"IHDR", b"iTXt"]


def test_only_a_whole_png_counts_as_one():
    data = encoded(gradient(24, 16))
    assert png.is_png(data)
    assert not png.is_png(data[:-1])
    assert not png.is_png(b"")
    assert not png.is_png(encoded(gradient(24, 16), "JPEG"))


def test_a_tail_does_not_make_a_png_less_whole():
    """It stays when a text is added and goes when texts are stripped."""
    plain = encoded(gradient(24, 16))
    tailed = plain + b"PK\x03\x04 and more"
    assert png.is_png(tailed)
    told = png.with_text(tailed, "note", "hello")
    assert opened(told).text == {"note": "hello"}
    assert told.endswith(b" and more")
    assert png.without_texts(told) == plain


def test_a_length_that_lies_makes_no_whole_png():
    data = bytearray(encoded(gradient(24, 16)))
    at = data.index(b"IDAT")
    for length in (0, 2**31 - 1, 2**32 - 1):
        data[at - 4 : at] = length.to_bytes(4, "big")
        assert not png.is_png(bytes(data))


def test_a_chunk_that_names_the_end_is_not_the_end():
    """Bytes that read as an end may lie within another chunk."""
    text = png.with_text(encoded(gradient(24, 16)), "note", "IEND")
    assert png.is_png(text)
    assert not png.is_png(text[: text.index(b"IEND") + 8])


@pytest.mark.parametrize(
    ("profile", "is_kept"),
    [
        (zlib.compress(b"x" * 3000), True),
        (zlib.compress(bytes(2**20)), True),
        (zlib.compress(bytes(2**20 + 1)), False),
        (b"not packed", False),
    ],
)
def test_a_profile_that_others_refuse_is_stripped(profile: bytes, is_kept: bool):
    plain = encoded(gradient(24, 16))
    data = plain[:33] + chunk(b"iCCP", b"icc\0\0" + profile) + plain[33:]
    assert (b"iCCP" in png.without_texts(data)) is is_kept
