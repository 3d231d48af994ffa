"""What a fault costs: from ComfyUI's end of a job to the end of the call, with a WebSocket that fails in each way.

In this process, without MCP, on the test ComfyUI: only the waiting is measured.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.table import Row, table
from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.settings import load_settings
from tests.comfyui_server import ComfyUIServer

REQUEST = GenerationRequest(prompt="a red apple", width=64, height=64)
#: name -> fault and its options
SOCKETS: dict[str, tuple[str, dict[str, Any]] | None] = {
    "no fault": None,
    "cut in the middle": ("drop_socket", {"after": 20}),
    "deaf from the start": ("deaf_socket", {}),
    "cannot be opened": ("no_socket", {}),
    "falls silent in the middle": ("deaf_socket", {"after": 20}),
}
AWAY_SECONDS = 3.0  #: for which ComfyUI is down in a restart


def measure(folder: str, rounds: int) -> dict[str, Any]:
    return asyncio.run(_measure(Path(folder), rounds))


async def _measure(folder: Path, rounds: int) -> dict[str, Any]:
    with ComfyUIServer() as comfyui:
        sockets = {name: [await _one(comfyui, folder, fault) for _ in range(rounds)] for name, fault in SOCKETS.items()}
        restarts = [await _restart(comfyui, folder) for _ in range(3)]
    return {
        "rounds": rounds,
        "socket_seconds": sockets,
        "kill_noticed_seconds": [told for told, _ in restarts],
        "restart_to_requeued_seconds": [again for _, again in restarts],
    }


@asynccontextmanager
async def _opened(comfyui: ComfyUIServer, folder: Path) -> AsyncIterator[App]:
    app = App(load_settings(COMFYUI_URL=comfyui.url, IMAGE_OUTPUT_DIR=folder, IMAGE_GEN_STATE_DIR=folder / "state"))
    try:
        yield app
    finally:
        await app.aclose()


async def _one(comfyui: ComfyUIServer, folder: Path, fault: tuple[str, dict[str, Any]] | None) -> float:
    """Return the seconds from the end at ComfyUI to the end here."""
    for name in comfyui.faults:
        comfyui.heal(name)
    async with _opened(comfyui, folder) as app:
        comfyui.hold("step:4")
        if fault:
            comfyui.fail(fault[0], **fault[1])
        prompt_id = app.runner.start(REQUEST)
        await comfyui.reached("step:4")
        await asyncio.sleep(0.37)  # at no particular moment between two polls
        already = len(comfyui.finished)
        comfyui.release("step:4")
        await comfyui.until(lambda server: len(server.finished) > already)
        ended = time.monotonic()
        job = [job async for job in app.runner.watch(prompt_id, seconds=30)][-1]
        assert job.status == "done", job
        return time.monotonic() - ended


async def _restart(comfyui: ComfyUIServer, folder: Path) -> tuple[float, float]:
    """Return the seconds until ComfyUI's end is told, and from its return until it has the job again."""
    async with _opened(comfyui, folder) as app:
        comfyui.hold("step:2")
        prompt_id = app.runner.start(REQUEST)
        await comfyui.reached("step:2")
        killed, told = time.monotonic(), 0.0

        async def watch() -> float:
            nonlocal told
            again = 0.0
            async for job in app.runner.watch(prompt_id, seconds=60):
                if not told and job.progress and "does not answer" in job.progress.phase:
                    told = time.monotonic() - killed
                again = again or (time.monotonic() if job.requeues and job.ticket else 0.0)
            assert job.status == "done", job
            return again

        comfyui.stop()
        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(AWAY_SECONDS)
        comfyui.release("step:2")
        comfyui.start()
        returned = time.monotonic()
        return told, await watching - returned


def in_table(found: dict[str, Any]) -> str:
    rows: list[Row] = [
        (f"socket: {name}", f"median {1e3 * statistics.median(s):.0f} ms, longest {1e3 * max(s):.0f} ms", "< 2000 ms")
        for name, s in found["socket_seconds"].items()
    ]
    rows.append(("ComfyUI is killed: noticed after", f"{max(found['kill_noticed_seconds']):.2f} s", "< 5 s"))
    rows.append(("ComfyUI is back: queued after", f"{max(found['restart_to_requeued_seconds']):.2f} s", "< 5 s"))
    return table(rows)
