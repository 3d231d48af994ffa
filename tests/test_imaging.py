"""Opening image files, whatever they hold."""

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mcp_image_gen_local.imaging import (
    MAX_PIXELS,
    ImageTooLarge,
    ImageUnreadable,
    decode_image,
    glance,
    read_header,
    read_size,
)
from tests.huge_images import bare_png, huge_png
from tests.storage.images import encoded, noise

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
FILES = {kind: encoded(noise(24, 16), kind) for kind in FORMATS}
STORED = {kind: encoded(noise(24, 16), kind) for kind in ("TIFF", "BMP", "AVIF")}


@pytest.mark.parametrize("kind", FORMATS)
def test_header_and_pixels_are_read(kind: str):
    header = read_header(FILES[kind])
    assert (header.format, header.width, header.height) == (kind, 24, 16)
    assert decode_image(FILES[kind]).size == glance(FILES[kind]).size == read_size(FILES[kind]) == (24, 16)


@pytest.mark.parametrize("kind", STORED)
def test_other_formats_are_read_where_asked_for(kind: str):
    header = read_header(STORED[kind], also_stored=True)
    assert (header.format, header.width, header.height) == (kind, 24, 16)
    for read in (read_header, read_size, decode_image, glance):
        with pytest.raises(ImageUnreadable, match=f"its format is {kind}"):
            read(STORED[kind])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_is_decoded(mode: str):
    data = encoded(Image.new(mode, (8, 4)), "PNG")
    assert decode_image(data).convert("RGBA").size == (8, 4)


def test_a_cmyk_photograph_is_decoded():
    assert decode_image(encoded(Image.new("CMYK", (8, 4)), "JPEG")).convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_16_bits_of_grey_keep_their_shades():
    """Cut off above 255, nearly all of them would be white."""
    image = Image.new("I;16", (4, 1))
    for x, value in enumerate((0, 257, 128 * 257, 65535)):
        image.putpixel((x, 0), value)
    decoded = decode_image(encoded(image))
    assert [decoded.getpixel((x, 0)) for x in range(4)] == [0, 1, 128, 255]


def turned(orientation: int, kind: str) -> bytes:
    """Return an image of 24x16 px, stored such that EXIF turns it: red above, blue below, white at the right."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (24, 16), "red")
    image.paste("blue", (0, 8, 24, 16))
    image.paste("white", (20, 0, 24, 16))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)  # of Image.Transpose, the way back
    stored = image if back is None else image.transpose(Image.Transpose(back))
    return encoded(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image(orientation: int, kind: str):
    data = turned(orientation, kind)
    image = decode_image(data).convert("RGB")
    assert read_size(data) == image.size == (24, 16)
    seen = [tuple(round(v / 255) for v in image.getpixel(at)) for at in ((3, 2), (3, 13), (22, 2), (22, 13))]
    assert seen == [(1, 0, 0), (0, 0, 1), (1, 1, 1), (1, 1, 1)]


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"x" * 60_000])
def test_exif_that_makes_no_sense_costs_nothing(exif: bytes):
    """Neither the image nor a line on stderr: a warning would be an error here."""
    data = encoded(noise(24, 16), "JPEG", exif=exif)
    assert read_size(data) == decode_image(data).size == (24, 16)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("data", [huge_png(), bare_png(14_000), bare_png(2**31 - 1)], ids=["whole", "bare", "largest"])
def test_a_huge_image_is_told_and_not_decoded(data: bytes):
    header = read_header(data)
    assert header.width * header.height > MAX_PIXELS
    with pytest.raises(ImageTooLarge, match="at most 50 are decoded"):
        decode_image(data)


def test_an_image_just_below_the_limit_is_decoded():
    assert decode_image(huge_png(7_000)).size == (7_000, 7_000)


@pytest.mark.parametrize("data", [b"", b"no image", FILES["PNG"][:60], FILES["JPEG"][:80], bare_png(64), bare_png(0)])
def test_what_is_no_whole_image_is_unreadable(data: bytes):
    with pytest.raises(ImageUnreadable):
        decode_image(data)


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_damaged_files_raise_nothing_else(kind: str, data: st.DataObject):
    """Some bytes changed, or an end cut off, anywhere: read or refused, never another error."""
    damaged = bytearray(FILES[kind])
    places = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, max_size=8)):
        damaged[place] = value
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with contextlib.suppress(ImageUnreadable, ImageTooLarge):
        read_header(cut)
    with contextlib.suppress(ImageUnreadable, ImageTooLarge):
        image = decode_image(cut)
        assert image.tobytes()
        image.save(io.BytesIO(), "PNG") if image.mode in {"RGB", "L", "P"} else None
