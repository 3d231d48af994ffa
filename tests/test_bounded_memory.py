"""What an image file costs, whatever it holds: each is handled in a process of its own whose memory is limited."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.huge_images import bare_png, claiming_gif, claiming_jpeg, huge_png, huge_tiff, huge_webp

MEGABYTES = 400  #: for the whole process, interpreter and libraries included
RESERVED = 300  #: megabytes that threads reserve and do not use
#: Begins with the image as both engines do, then saves it as if an engine had returned it; prints what became of both.
PROGRAM = f"""
import asyncio, json, resource, sys
from pathlib import Path
import numpy
from PIL import Image
from mcp_image_gen_local.domain.errors import ImageGenError
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.engines.builtin.images import from_file
from mcp_image_gen_local.storage.images import ImageStore
from mcp_image_gen_local.storage.inputs import InputImages

Image.init()
path = Path(sys.argv[1])
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + {MEGABYTES + RESERVED} * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def told(work):
    try:
        return work()
    except ImageGenError as error:
        return [error.code, str(error)]

async def start():
    images = InputImages([path.parent])
    image = await images.read(await images.refer(path.name))
    return [image.width, image.height, list(from_file(image.data, 128).shape)]

def save():
    engine_image = EngineImage(data=path.read_bytes(), source="http://comfyui/view", seed=1)
    saved = ImageStore(path.parent / "out").save(engine_image, provenance={{}})
    return [saved.width, saved.height, saved.uniform]

results = [told(lambda: asyncio.run(start())), told(save)]
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(json.dumps([*results, int(peak.split()[1]) // 1024]))  # ru_maxrss would count the process that started this one
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a limit of memory")


def handled(data: bytes, folder: Path) -> tuple[list, list, int]:
    """Return what became of the image at the start of a job, and saved; and the process's peak in MB."""
    (folder / "x.png").write_bytes(data)
    command = [sys.executable, "-c", PROGRAM, str(folder / "x.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    start, saved, peak = json.loads(done.stdout)
    return start, saved, peak


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: huge_webp(16383, 10900), [16383, 10900]),
        (lambda: claiming_jpeg(16000, 11000), [16000, 11000]),
        (lambda: claiming_gif(16000, 11000), [16000, 11000]),
        (lambda: bare_png(60_000), [60_000, 60_000]),
        (huge_png, [14_000, 14_000]),
    ],
    ids=["webp", "jpeg", "gif", "claim", "png"],
)
def test_a_bomb_costs_next_to_nothing(tmp_path: Path, make: Callable[[], bytes], size: list[int]):
    start, saved, peak = handled(make(), tmp_path)
    assert start[0] == "invalid_request"
    assert f"{size[0]}x{size[1]} pixels are" in start[1]
    assert saved == [*size, False]
    assert peak < 120


def test_a_huge_tiff_is_saved_and_not_decoded(tmp_path: Path):
    start, saved, peak = handled(huge_tiff(12_000, 14_000), tmp_path)
    assert "its format is TIFF. Give a PNG, JPEG, WebP or GIF." in start[1]
    assert saved == [12_000, 14_000, False]
    assert peak < 120


def encoded(mode: str, size: tuple[int, int], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "size", "kind", "options"),
    [
        ("L", (16_000, 11_000), "JPEG", {}),
        ("RGB", (7_000, 7_000), "JPEG", {"progressive": True, "subsampling": 0}),
        ("RGB", (7_000, 7_100), "PNG", {"exif": turned()}),
        ("RGBA", (7_000, 7_000), "PNG", {}),
        ("P", (7_000, 7_000), "PNG", {}),
        ("1", (7_000, 7_000), "PNG", {}),
        ("I;16", (7_000, 7_000), "PNG", {}),
        ("P", (7_000, 7_000), "GIF", {}),
        ("RGBA", (4_096, 4_096), "WEBP", {"lossless": True, "method": 0}),
        ("RGB", (7_000, 7_000), "WEBP", {"lossless": True, "method": 0}),
    ],
)
def test_large_images_stay_within_the_memory(
    tmp_path: Path, mode: str, size: tuple[int, int], kind: str, options: dict
):
    """Such as are decoded, and such as are just too large for it."""
    start, saved, peak = handled(encoded(mode, size, kind, **options), tmp_path)
    assert start[-1] == [3, 128, 128] or "megapixels; at most" in start[1]
    assert saved[:2] == list(size)
    assert peak < MEGABYTES
