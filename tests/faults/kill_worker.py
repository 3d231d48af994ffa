"""Generates in processes that are killed: one line on stdin, `SECONDS SEED`, is one round, killed after so long.

With `inf` seconds it is left to end. One line on stdout says how long the round took and how it ended.

A fork of a process that has loaded everything begins to work within milliseconds; twenty rounds take a second.
"""

import asyncio
import os
import signal
import sys
import time

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.engines.comfyui import ENGINE  # noqa: F401 - loaded here, once
from mcp_image_gen_local.settings import load_settings


async def generate(seed: int) -> None:
    """Generate one image, as a server does for a call."""
    app = App(load_settings())
    prompt_id = app.runner.start(GenerationRequest(prompt="a red apple", width=64, height=64, seed=seed))
    async for _ in app.runner.watch(prompt_id, seconds=60):
        pass
    await app.aclose()


def main() -> None:
    """Fork, wait, kill."""
    import PIL.PngImagePlugin  # noqa: F401 - as above

    say("ready")
    for line in sys.stdin:
        seconds, seed = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(generate(int(seed)))
            os._exit(0)
        begun = time.monotonic()
        if seconds != "inf":
            time.sleep(float(seconds))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        say(f"{time.monotonic() - begun:.3f} {'killed' if os.WIFSIGNALED(status) else 'ended'}")


def say(word: str) -> None:
    """Write one line."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
