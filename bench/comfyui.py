"""The test ComfyUI in a process of its own: photo-like images, and a line of JSON for what happened when.

Times are of the system's monotonic clock, which all processes share. With --load it generates a noise image for each
seed, as quickly as it can, tells nothing and forgets everything soon.
"""

import argparse
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
    image = Image.new("RGB", (side, side))
    for cells, weight in ((8, 0.5), (32, 0.3), (128, 0.3), (512, 0.3)):
        noise = Image.frombytes("RGB", (cells, cells), rnd.randbytes(cells * cells * 3))
        image = Image.blend(image, noise.resize((side, side), Image.Resampling.BICUBIC), weight)
    grain = Image.merge("RGB", [Image.effect_noise((side, side), 18)] * 3)
    buffer = io.BytesIO()
    Image.blend(image, grain, 0.12).crop((0, 0, width, height)).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, "time": time.monotonic(), **facts}), flush=True)


class Requests(list):
    """Tells of each request as it comes in."""

    def extend(self, several) -> None:
        for seen in several:
            tell("request", method=seen.method, path=seen.path)


STEP_SECONDS = 0.02  #: quicker than any GPU, slow enough that one step's messages are told before the next


class ToldFiles(Files):
    """Tells when an image is written: from then on the job is done, and what follows is our time."""

    def save(self, kind: str, prefix: str, data: bytes) -> str:
        name = super().save(kind, prefix, data)
        tell("generated", bytes=len(data))
        return name


def noise(width: int, height: int, seed: int) -> bytes:
    """Return a PNG that is another one for each seed, 3 bytes a pixel, made in a millisecond or two."""
    buffer = io.BytesIO()
    pixels = random.Random(seed).randbytes(width * height * 3)
    Image.frombytes("RGB", (width, height), pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


class Forgetful(list):
    """Keeps nothing."""

    def extend(self, several) -> None:
        pass


class FewFiles(Files):
    """Keeps the newest images, more than calls are in flight."""

    def save(self, kind: str, prefix: str, data: bytes) -> str:
        folder = self.folder(kind)
        while len(folder) >= 200:
            del folder[next(iter(folder))]
        return super().save(kind, prefix, data)


def telling() -> ComfyUIServer:
    for side in (1024, 512):
        photo(side, side)
    server = ComfyUIServer(image=lambda width, height, *_: photo(width, height), step_seconds=STEP_SECONDS)
    server.requests = Requests()
    server.files = ToldFiles()
    return server


def forgetful(step_seconds: float) -> ComfyUIServer:
    server = ComfyUIServer(image=lambda *what: noise(*what[:3]), step_seconds=step_seconds)
    server.requests, server.prompts = Forgetful(), Forgetful()
    server.files = FewFiles()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=float, metavar="SECONDS", help="generate noise, one step in so many seconds")
    load = parser.parse_args().load
    sys.setswitchinterval(0.0005)  # its worker must not keep its own event loop waiting: that time is not ours
    with telling() if load is None else forgetful(load) as server:
        tell("ready", url=server.url)
        sys.stdin.read()  # until the bench closes it


if __name__ == "__main__":
    main()
