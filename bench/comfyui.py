"""The test ComfyUI in a process of its own: photo-like pictures, and a line of JSON for what happened when.

Times are of the system's monotonic clock, which all processes share.
"""

import io
import json
import random
import sys
import time
from functools import lru_cache

from PIL import Image

from tests.comfyui_server import ComfyUIServer
from tests.comfyui_state import Files


@lru_cache
def photo(width: int, height: int) -> bytes:
    """Return a PNG that compresses like a photograph, 2 bytes a pixel: shapes, detail at several scales, grain."""
    rnd, side = random.Random(1), max(width, height, 1024)
    picture = Image.new("RGB", (side, side))
    for cells, weight in ((8, 0.5), (32, 0.3), (128, 0.3), (512, 0.3)):
        noise = Image.frombytes("RGB", (cells, cells), rnd.randbytes(cells * cells * 3))
        picture = Image.blend(picture, noise.resize((side, side), Image.Resampling.BICUBIC), weight)
    grain = Image.merge("RGB", [Image.effect_noise((side, side), 18)] * 3)
    buffer = io.BytesIO()
    Image.blend(picture, grain, 0.12).crop((0, 0, width, height)).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "time": time.monotonic(), **facts}), flush=True)


class Requests(list):
    """Tells of each request as it comes in."""

    def extend(self, several) -> None:
        for seen in several:
            tell("request", method=seen.method, path=seen.path)


def draw(width: int, height: int, seed: int, prompt: str, index: int) -> bytes:
    return photo(width, height)


STEP_SECONDS = 0.02  #: quicker than any GPU, slow enough that one step's messages are told before the next


class ToldFiles(Files):
    """Tells when a picture is written: from then on the job is done, and what follows is our time."""

    def save(self, kind: str, prefix: str, data: bytes) -> str:
        name = super().save(kind, prefix, data)
        tell("drawn", bytes=len(data))
        return name


def main() -> None:
    for side in (1024, 512):
        photo(side, side)
    server = ComfyUIServer(picture=draw, step_seconds=STEP_SECONDS)
    server.requests = Requests()
    server.files = ToldFiles()
    sys.setswitchinterval(0.0005)  # its worker must not keep its own event loop waiting: that time is not ours
    with server:
        tell("ready", url=server.url)
        sys.stdin.read()  # until the bench closes it


if __name__ == "__main__":
    main()
