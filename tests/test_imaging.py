"""Opening image files, whatever they hold."""

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mcp_image_gen_local.imaging import MAX_PIXELS, ImageTooLarge, ImageUnreadable, decode_image, read_header
from tests.huge_images import bare_png, huge_png
from tests.storage.images import encoded, noise

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
FILES = {kind: encoded(noise(24, 16), kind) for kind in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
def test_header_and_pixels_are_read(kind: str):
    header = read_header(FILES[kind])
    assert (header.format, header.width, header.height) == (kind, 24, 16)
    assert decode_image(FILES[kind]).size == (24, 16)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "F", "CMYK"])
def test_every_mode_is_decoded(mode: str):
    data = encoded(Image.new(mode, (8, 4)), "TIFF")
    assert decode_image(data).convert("RGBA").size == (8, 4)


def test_exif_turns_the_image():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    assert decode_image(encoded(noise(24, 16), "JPEG", exif=exif)).size == (16, 24)


def test_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).convert("RGB").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("data", [huge_png(), bare_png(14_000), bare_png(2**31 - 1)], ids=["whole", "bare", "largest"])
def test_a_huge_image_is_told_and_not_decoded(data: bytes):
    header = read_header(data)
    assert header.width * header.height > MAX_PIXELS
    with pytest.raises(ImageTooLarge, match="at most 179 are decoded"):
        decode_image(data)


def test_an_image_where_pillow_warns_is_decoded():
    """Between 89 and 179 megapixels; a warning would be an error here."""
    assert decode_image(huge_png(10_000)).size == (10_000, 10_000)


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
