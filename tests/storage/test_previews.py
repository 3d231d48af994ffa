"""Copies of the images that fit into an answer."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.storage import previews as module
from mcp_image_gen_local.storage.previews import NoPreview, Preview
from tests.storage.images import encoded, gradient, noise, photo

FORMATS = ["png", "jpeg", "webp"]
CLAUDE_DESKTOP = 900_000
SECRET = "a prompt that nobody else is to read"


@pytest.fixture
def saved(tmp_path: Path):
    """Return a function that puts an image on disk."""

    def save(image: Image.Image | bytes, kind: str = "PNG", **options: Any) -> SavedImage:
        data = image if isinstance(image, bytes) else encoded(image, kind, **options)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.{kind.lower()}"
        path.write_bytes(data)
        width, height = (0, 0) if isinstance(image, bytes) else image.size
        return SavedImage(
            path=path, seed=1, width=width, height=height, size_bytes=len(data), mime_type=f"image/{kind.lower()}"
        )

    return save


def render(images: list[SavedImage], *, image_format: str, max_bytes: int) -> list[Preview | NoPreview]:
    """Render in one format, whatever the size."""
    return module.render(images, formats=(image_format,), max_bytes=max_bytes, max_side=4096)


def opened(preview: Preview) -> Image.Image:
    image = Image.open(io.BytesIO(preview.data))
    image.load()
    assert image.size == (preview.width, preview.height)
    assert f"image/{image.format.lower()}" == preview.mime_type
    return image


def sent_bytes(previews: list[Preview | NoPreview]) -> int:
    """Return what the images take in an answer."""
    return sum(len(base64.b64encode(p.data)) for p in previews if isinstance(p, Preview))


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("generate", [gradient, photo, noise], ids=lambda generate: generate.__name__)
def test_a_megapixel_fits_into_claude_desktops_answer(saved, generate, image_format: str):
    [preview] = render([saved(generate(1024, 1024))], image_format=image_format, max_bytes=CLAUDE_DESKTOP)
    assert sent_bytes([preview]) <= CLAUDE_DESKTOP - 7_000
    assert opened(preview).width >= 400


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_jpeg_and_webp_keep_a_photo_at_full_size(saved, image_format: str):
    [preview] = render([saved(photo(1024, 1024))], image_format=image_format, max_bytes=CLAUDE_DESKTOP)
    assert (preview.width, preview.height) == (1024, 1024)


@pytest.mark.parametrize("max_bytes", [120_000, 900_000, 4_000_000])
@pytest.mark.parametrize("image_format", FORMATS)
def test_any_budget_is_kept_and_well_used(saved, image_format: str, max_bytes: int):
    [preview] = render([saved(photo(768, 512))], image_format=image_format, max_bytes=max_bytes)
    assert sent_bytes([preview]) <= max_bytes - 7_000
    if image_format == "png":
        assert preview.width == 768 or sent_bytes([preview]) > 0.8 * (max_bytes - 7_000)


@pytest.mark.parametrize("size", [(1024, 512), (300, 900), (1023, 77)])
def test_a_scaled_image_keeps_its_shape(saved, size: tuple[int, int]):
    [preview] = render([saved(noise(*size))], image_format="png", max_bytes=100_000)
    assert preview.width < size[0]
    assert preview.width / preview.height == pytest.approx(size[0] / size[1], rel=0.03)


def test_a_small_image_is_passed_whole(saved):
    [preview] = render([saved(gradient(64, 48))], image_format="png", max_bytes=CLAUDE_DESKTOP)
    assert opened(preview).tobytes() == gradient(64, 48).tobytes()
    assert preview.data == encoded(gradient(64, 48))


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("size", [(16, 16), (1, 1), (64, 4096), (4096, 16)])
def test_odd_sizes_are_shown(saved, size: tuple[int, int], image_format: str):
    [preview] = render([saved(gradient(*size))], image_format=image_format, max_bytes=CLAUDE_DESKTOP)
    assert opened(preview).size == size


def test_a_very_tall_image_full_of_detail_is_scaled(saved):
    [preview] = render([saved(noise(64, 4096))], image_format="png", max_bytes=600_000)
    assert 32 <= opened(preview).width < 64
    assert sent_bytes([preview]) <= 600_000 - 7_000


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_batch_shares_the_budget(saved, image_format: str):
    batch = [saved(noise(1024, 1024)), saved(gradient(64, 64)), saved(noise(512, 512)), saved(photo(1024, 1024))]
    previews = render(batch, image_format=image_format, max_bytes=CLAUDE_DESKTOP)
    assert all(isinstance(preview, Preview) for preview in previews)
    assert sent_bytes(previews) <= CLAUDE_DESKTOP - 10_000
    assert (previews[1].width, previews[1].height) == (64, 64)


def test_what_small_images_leave_over_goes_to_the_next(saved):
    large, small = saved(noise(1024, 1024)), saved(gradient(16, 16))
    alone = render([large] * 2, image_format="png", max_bytes=400_000)[1]
    after_small = render([small, large], image_format="png", max_bytes=400_000)[1]
    assert after_small.width > alone.width


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("count", [1, 4, 13, 16])
def test_small_budgets_and_large_batches(saved, count: int, image_format: str):
    """The smallest budget and the largest batch never fail."""
    previews = render([saved(noise(256, 256))] * count, image_format=image_format, max_bytes=20_000)
    assert len(previews) == count
    assert sent_bytes(previews) <= 20_000


def test_none_sends_no_image(saved):
    batch = [saved(gradient(16, 16)), saved(gradient(16, 16))]
    previews = module.render(batch, formats=(), max_bytes=CLAUDE_DESKTOP, max_side=1568)
    assert [str(preview) for preview in previews] == ["inline images are switched off"] * 2


def test_transparent_parts_become_white_in_jpeg(saved):
    """Transparent parts become white in JPEG and stay transparent elsewhere."""
    image = saved(Image.new("RGBA", (32, 32), (255, 0, 0, 0)))
    shown = {f: opened(render([image], image_format=f, max_bytes=CLAUDE_DESKTOP)[0]) for f in FORMATS}
    assert shown["jpeg"].getpixel((5, 5)) == (255, 255, 255)
    assert shown["png"].getpixel((5, 5))[3] == shown["webp"].getpixel((5, 5))[3] == 0


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA"])
def test_every_mode_of_png_is_shown_scaled_or_not(saved, mode: str, image_format: str):
    image = saved(noise(400, 400).convert(mode))
    for max_bytes in (20_000, CLAUDE_DESKTOP):
        [preview] = render([image], image_format=image_format, max_bytes=max_bytes)
        assert opened(preview).size == (preview.width, preview.height)


@pytest.mark.parametrize("max_bytes", [50_000, CLAUDE_DESKTOP], ids=["scaled", "whole"])
@pytest.mark.parametrize(
    ("keyword", "image_format"),
    [
        *((keyword, image_format) for keyword in ("prompt", "XML:com.adobe.xmp") for image_format in FORMATS),
        *(("comment", "png"), ("comment", "webp"), ("comment", "jpeg")),
    ],
)
def test_the_preview_of_a_png_holds_no_metadata(saved, keyword: str, image_format: str, max_bytes: int):
    """Also where Pillow would carry a text over into the other format."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text(keyword, SECRET)
    exif = Image.Exif()
    exif[0x010E] = SECRET
    image = saved(noise(256, 256), pnginfo=notes, exif=exif)
    [preview] = render([image], image_format=image_format, max_bytes=max_bytes)
    assert SECRET.encode() not in preview.data
    assert not opened(preview).getexif()


@pytest.mark.parametrize("max_bytes", [50_000, CLAUDE_DESKTOP], ids=["scaled", "whole"])
@pytest.mark.parametrize(
    ("kind", "image_format"),
    [
        *(("JPEG", "png"), ("JPEG", "jpeg"), ("JPEG", "webp")),
        *(("WEBP", "png"), ("WEBP", "jpeg"), ("WEBP", "webp")),
    ],
)
def test_a_preview_of_another_format_has_no_metadata(saved, kind: str, image_format: str, max_bytes: int):
    """The preview of another format holds no metadata."""
    exif = Image.Exif()
    exif[0x010E] = SECRET
    image = saved(noise(256, 256), kind, exif=exif, comment=SECRET.encode(), xmp=SECRET.encode())
    [preview] = render([image], image_format=image_format, max_bytes=max_bytes)
    assert SECRET.encode() not in preview.data


def test_an_image_gone_from_disk_has_no_preview(saved):
    """An image that is gone from disk has no preview and takes no budget."""
    gone, here = saved(gradient(16, 16)), saved(gradient(64, 64))
    gone.path.unlink()
    previews = render([gone, here], image_format="png", max_bytes=CLAUDE_DESKTOP)
    assert str(previews[0]) == "its file cannot be read (No such file or directory)"
    assert opened(previews[1]).size == (64, 64)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("data", [b"", b"no image", encoded(noise(64, 64))[:3000]], ids=["empty", "text", "cut off"])
def test_a_damaged_file_has_no_preview(saved, data: bytes, image_format: str):
    """A file that the user has damaged has no preview. The answer still tells the path; it must not fail."""
    [preview] = render([saved(data)], image_format=image_format, max_bytes=CLAUDE_DESKTOP)
    assert isinstance(preview, NoPreview)
    assert str(preview).startswith("its file cannot be decoded (")


@pytest.mark.parametrize("generate", [gradient, photo, noise], ids=lambda generate: generate.__name__)
@pytest.mark.parametrize("size", [(1024, 1024), (1344, 768), (2048, 2048), (832, 1216), (4096, 4096)], ids=str)
def test_a_scaled_png_uses_most_of_the_budget(saved, generate, size: tuple[int, int]):
    """Unless the longer side is at its limit, or the file fits whole."""
    [preview] = module.render([saved(generate(*size))], formats=("png",), max_bytes=CLAUDE_DESKTOP, max_side=1568)
    sent, side = sent_bytes([preview]), max(opened(preview).size)
    assert sent <= CLAUDE_DESKTOP - 7_000
    assert side <= 1568
    assert sent > 0.8 * CLAUDE_DESKTOP or side == min(1568, max(size))


def test_jpeg_comes_before_scaling(saved):
    photograph = saved(photo(1024, 1024))
    [preview] = module.render([photograph], formats=("png", "jpeg"), max_bytes=CLAUDE_DESKTOP, max_side=1568)
    assert (preview.mime_type, preview.width, preview.height) == ("image/jpeg", 1024, 1024)


def test_a_png_that_fits_stays_one(saved):
    small = saved(gradient(512, 512))
    [preview] = module.render([small], formats=("png", "jpeg"), max_bytes=CLAUDE_DESKTOP, max_side=1568)
    assert preview.data == encoded(gradient(512, 512))


@pytest.mark.parametrize("formats", [("png",), ("jpeg",), ("png", "jpeg")])
@pytest.mark.parametrize(("size", "shown"), [((2560, 720), (1568, 441)), ((720, 2560), (441, 1568))])
def test_the_longer_side_is_bounded(saved, formats, size, shown):
    [preview] = module.render([saved(gradient(*size))], formats=formats, max_bytes=CLAUDE_DESKTOP, max_side=1568)
    assert opened(preview).size == shown
