"""Measure and print a table, then JSON.

    python -m bench [--rounds 15]

(a) call to POST /prompt, (b) picture drawn to result at the client, (c) spawn to `initialize` answered, (d) memory,
(e) bytes of tools/list, (f) what an idle server does, (g) the built-in engine. (c) and (d) stand beside a bare FastMCP
server with the same tools, started in turn in the same run.
"""

import argparse
import asyncio
import json
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench import bare
from bench.stdio import Server, spawn

IDLE_SECONDS = 5.0


class ComfyUI:
    """The test ComfyUI in its own process, and what it tells."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.comfyui"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.url = self.wait("ready")["url"]

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def wait(self, event: str, **facts: str) -> dict[str, Any]:
        while True:
            told = self.events.get(timeout=30)
            if told["event"] == event and all(told.get(k) == v for k, v in facts.items()):
                return told

    def drain(self) -> list[dict[str, Any]]:
        told = []
        while not self.events.empty():
            told.append(self.events.get())
        return told

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)


def overhead(comfyui: ComfyUI, folder: str, rounds: int, side: int, image_format: str) -> dict[str, Any]:
    """Return (a) and (b) in milliseconds, each the median of the rounds after one to warm up, and the slowest first."""
    before, after = [], []
    with spawn(
        "-m", "mcp_image_gen", COMFYUI_URL=comfyui.url, IMAGE_OUTPUT_DIR=folder, IMAGE_GEN_INLINE_FORMAT=image_format
    ) as server:
        for seed in range(rounds + 1):
            comfyui.drain()
            called = time.monotonic()
            arguments = {"prompt": "a photograph", "width": side, "height": side, "seed": seed}
            result, size = server.call("tools/call", {"name": "generate_image", "arguments": arguments})
            assert not result.get("isError"), result
            before.append(1e3 * (comfyui.wait("request", method="POST", path="/prompt")["time"] - called))
            drawn = comfyui.wait("drawn")
            after.append(1e3 * (server.received - drawn["time"]))
    return {
        "picture": f"{side}x{side}",
        "inline_format": image_format,
        "png_bytes": drawn["bytes"],
        "answer_bytes": size,
        "call_to_prompt_ms": statistics.median(before[1:]),
        "call_to_prompt_first_ms": before[0],
        "drawn_to_result_ms": statistics.median(after[1:]),
        "drawn_to_result_best_ms": min(after[1:]),
    }


def footprint(rounds: int, scratch: Path) -> dict[str, Any]:
    """Return start-up and memory of both servers, started in turn."""
    bare_file = scratch / "bare.py"
    asyncio.run(bare.write(bare_file))
    commands = {"mcp-image-gen": ("-m", "mcp_image_gen"), "bare": (str(bare_file),)}
    starts: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, list[int]] = {name: [] for name in commands}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            with spawn(*command) as server:
                result, _ = server.call("tools/list")
                starts[name].append(server.start_seconds)
                memory[name].append(server.rss_bytes())
                sizes[name] = len(json.dumps(result["tools"], separators=(",", ":"), ensure_ascii=False).encode())
    ours, floor = (statistics.median(starts[name]) for name in commands)
    return {
        "start_seconds": ours,
        "bare_start_seconds": floor,
        "start_ratio": ours / floor,
        "start_ratio_of_best": min(starts["mcp-image-gen"]) / min(starts["bare"]),
        "rss_mb": statistics.median(memory["mcp-image-gen"]) / 1e6,
        "rss_more_than_bare_mb": (statistics.median(memory["mcp-image-gen"]) - statistics.median(memory["bare"])) / 1e6,
        "tools_list_bytes": sizes["mcp-image-gen"],
    }


def idle(comfyui: ComfyUI, folder: str) -> dict[str, Any]:
    """Return what a server does that has drawn once and is asked for nothing more."""
    with spawn("-m", "mcp_image_gen", COMFYUI_URL=comfyui.url, IMAGE_OUTPUT_DIR=folder) as server:
        arguments = {"prompt": "x", "width": 64, "height": 64}
        server.call("tools/call", {"name": "generate_image", "arguments": arguments})
        time.sleep(0.5)  # what the call set off has ended
        comfyui.drain()
        spent = _cpu_seconds(server)
        time.sleep(IDLE_SECONDS)
        return {
            "idle_seconds": IDLE_SECONDS,
            "idle_requests": len(comfyui.drain()),
            "idle_cpu_seconds": _cpu_seconds(server) - spent,
            "rss_after_one_picture_mb": server.rss_bytes() / 1e6,
        }


def builtin(folder: str, rounds: int) -> dict[str, Any]:
    """Return what one picture of the built-in engine takes, and the first one of a process from its start."""
    with spawn("-m", "mcp_image_gen", IMAGE_GEN_ENGINE="builtin", IMAGE_OUTPUT_DIR=folder) as server:
        seconds = []
        for seed in range(rounds + 1):
            called = time.monotonic()
            arguments = {"prompt": "a red apple", "seed": seed}
            result, _ = server.call("tools/call", {"name": "generate_image", "arguments": arguments})
            assert not result.get("isError"), result
            seconds.append(server.received - called)
        return {
            "first_picture_seconds": seconds[0],
            "start_seconds": server.start_seconds,
            "picture_seconds": statistics.median(seconds[1:]),
            "rss_mb": server.rss_bytes() / 1e6,
        }


def _cpu_seconds(server: Server) -> float:
    times = server.usage.cpu_times()
    return times.user + times.system


def table(found: dict[str, Any]) -> str:
    rows = [("what", "measured", "target")]
    for case in found["overhead"]:
        name = f"{case['picture']}, inline {case['inline_format']}"
        rows.append((f"(a) call to POST /prompt, {name}", f"{case['call_to_prompt_ms']:.1f} ms", "10 ms"))
        target = {"1024x1024png": "80 ms", "1024x1024jpeg": "40 ms", "512x512png": "30 ms"}
        rows.append(
            (
                f"(b) drawn to result, {name}",
                f"{case['drawn_to_result_ms']:.1f} ms (best {case['drawn_to_result_best_ms']:.1f})",
                target.get(case["picture"] + case["inline_format"], "-"),
            )
        )
    foot, rest = found["footprint"], found["idle"]
    rows += [
        (
            "(c) spawn to initialize / bare FastMCP",
            f"{foot['start_ratio']:.2f} ({foot['start_seconds']:.2f} s / {foot['bare_start_seconds']:.2f} s)",
            "1.10",
        ),
        ("(d) memory more than bare FastMCP", f"{foot['rss_more_than_bare_mb']:+.1f} MB", "+15 MB"),
        ("(e) tools/list", f"{foot['tools_list_bytes']} bytes", "6000 bytes"),
        ("(f) requests while idle", f"{rest['idle_requests']} in {rest['idle_seconds']:.0f} s", "0"),
        ("(f) CPU while idle", f"{rest['idle_cpu_seconds']:.2f} s in {rest['idle_seconds']:.0f} s", "0"),
    ]
    own = found["builtin"]
    rows += [
        ("(g) built-in engine: one picture", f"{own['picture_seconds']:.2f} s", "2 s"),
        (
            "(g) built-in engine: start and first picture",
            f"{own['start_seconds'] + own['first_picture_seconds']:.2f} s",
            "4 s",
        ),
        ("(g) built-in engine: memory", f"{own['rss_mb']:.0f} MB", "400 MB"),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each measurement (default: 15)")
    rounds = parser.parse_args().rounds
    comfyui = ComfyUI()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            cases = ((1024, "png"), (1024, "jpeg"), (512, "png"))
            found = {
                "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
                "overhead": [overhead(comfyui, scratch, rounds, side, kind) for side, kind in cases],
                "footprint": footprint(max(3, rounds // 2), Path(scratch)),
                "idle": idle(comfyui, scratch),
                "builtin": builtin(scratch, max(3, rounds // 3)),
            }
    finally:
        comfyui.close()
    print(table(found))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
