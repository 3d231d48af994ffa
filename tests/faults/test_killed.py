"""kill -9 of our server at random points: no image that ComfyUI finished is ever lost, and none is saved twice."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from mcp_image_gen_local.app import App
from mcp_image_gen_local.settings import Settings
from tests.comfyui_server import ComfyUIServer

UNHURT = 10  #: every tenth round is left to end, and tells how long one takes on this machine now
LONGEST_SECONDS = 1.0  #: for a round that is killed, however slow the machine is

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def kill_worker(comfyui: ComfyUIServer, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that generates in children and kills them."""
    ours = {"COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": str(tmp_path / "images")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.kill_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **ours},
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def prompt_id_of(path: Path) -> str:
    with Image.open(path) as image:
        image.load()  # a file that is cut off raises
        return json.loads(image.text["mcp-image-gen"])["prompt_id"]


@pytest.mark.parametrize(
    "rounds", [20, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])], ids="{}_kills".format
)
async def test_kills_lose_no_image(
    rounds: int,
    kill_worker: subprocess.Popen[str],
    comfyui: ComfyUIServer,
    configure: Callable[..., Settings],
    tmp_path: Path,
):
    comfyui.step_seconds = 0.01
    chance = random.Random(4)
    ends: Counter[str] = Counter()
    whole_seconds = 0.0
    for seed in range(rounds):
        is_unhurt = seed % UNHURT == 0
        at_most = min(2 * whole_seconds, LONGEST_SECONDS)  # some rounds end by themselves
        kill_worker.stdin.write(f"inf {seed}\n" if is_unhurt else f"{chance.uniform(0, at_most):.4f} {seed}\n")
        kill_worker.stdin.flush()
        seconds, end = kill_worker.stdout.readline().split()
        ends[end] += 1
        whole_seconds = float(seconds) if is_unhurt else whole_seconds
    await comfyui.until(lambda server: server.queue_remaining == 0, timeout=60)
    assert ends["killed"] > rounds / 4

    app = App(configure())
    async with asyncio.timeout(30):  # the last process is taken for alive until it has been silent for a while
        while left := [job for job in await app.jobs.unfinished(app.engine.name, app.engine.url) if job.plan]:
            for job in left:
                await app.runner.find(job.job_id)
                async for _ in app.runner.watch(job.job_id, seconds=10):
                    pass
    await app.aclose()

    saved = Counter(prompt_id_of(path) for path in (tmp_path / "images").glob("*.png"))
    assert set(comfyui.finished) - set(saved) == set()
    assert [prompt_id for prompt_id, files in saved.items() if files > 1] == []
    assert len(comfyui.finished) >= rounds / UNHURT
