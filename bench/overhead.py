"""What this server adds to an image.

(a) call to POST /prompt, (b) image generated to result at the client, (c) spawn to `initialize` answered, (d) memory,
(e) bytes of tools/list, (f) what an idle server does, (g) the built-in engine. (c) and (d) stand beside a bare FastMCP
server with the same tools, started in turn in the same run.
"""

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

from bench import bare
from bench.engine import ComfyUI
from bench.stdio import in_folder, spawn
from bench.table import table

IDLE_SECONDS = 5.0


def overhead(comfyui: ComfyUI, folder: str, rounds: int, side: int, image_format: str) -> dict[str, Any]:
    """Return (a) and (b) in milliseconds, each the median of the rounds after one to warm up, and the slowest first."""
    before, after = [], []
    settings = in_folder(folder, COMFYUI_URL=comfyui.url, IMAGE_GEN_INLINE_FORMAT=image_format)
    with spawn("-m", "mcp_image_gen_local", **settings) as server:
        for seed in range(rounds + 1):
            comfyui.drain()
            arguments = {"prompt": "a photograph", "width": side, "height": side, "seed": seed}
            reply = server.call("tools/call", {"name": "generate_image", "arguments": arguments})
            assert not reply.result.get("isError"), reply.result
            before.append(1e3 * (comfyui.wait("request", method="POST", path="/prompt")["time"] - reply.sent))
            generated = comfyui.wait("generated")
            after.append(1e3 * (reply.received - generated["time"]))
    return {
        "image": f"{side}x{side}",
        "inline_format": image_format,
        "png_bytes": generated["bytes"],
        "answer_bytes": reply.size,
        "call_to_prompt_ms": statistics.median(before[1:]),
        "call_to_prompt_first_ms": before[0],
        "generated_to_result_ms": statistics.median(after[1:]),
        "generated_to_result_best_ms": min(after[1:]),
    }


def footprint(rounds: int, scratch: Path) -> dict[str, Any]:
    """Return start-up and memory of both servers, started in turn."""
    bare_file = scratch / "bare.py"
    asyncio.run(bare.write(bare_file))
    commands = {"mcp-image-gen": ("-m", "mcp_image_gen_local"), "bare": (str(bare_file),)}
    starts: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, list[int]] = {name: [] for name in commands}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            with spawn(*command) as server:
                result = server.call("tools/list").result
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
    """Return what a server does that has generated once and is asked for nothing more."""
    with spawn("-m", "mcp_image_gen_local", **in_folder(folder, COMFYUI_URL=comfyui.url)) as server:
        arguments = {"prompt": "x", "width": 64, "height": 64}
        server.call("tools/call", {"name": "generate_image", "arguments": arguments})
        time.sleep(0.5)  # what the call set off has ended
        comfyui.drain()
        spent = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        return {
            "idle_seconds": IDLE_SECONDS,
            "idle_requests": len(comfyui.drain()),
            "idle_cpu_seconds": server.cpu_seconds() - spent,
            "rss_after_one_image_mb": server.rss_bytes() / 1e6,
        }


def builtin(folder: str, rounds: int) -> dict[str, Any]:
    """Return what one image of the built-in engine takes, and the first one of a process from its start."""
    with spawn("-m", "mcp_image_gen_local", **in_folder(folder, IMAGE_GEN_ENGINE="builtin")) as server:
        seconds = []
        for seed in range(rounds + 1):
            arguments = {"prompt": "a red apple", "seed": seed}
            reply = server.call("tools/call", {"name": "generate_image", "arguments": arguments})
            assert not reply.result.get("isError"), reply.result
            seconds.append(reply.seconds)
        return {
            "first_image_seconds": seconds[0],
            "start_seconds": server.start_seconds,
            "image_seconds": statistics.median(seconds[1:]),
            "rss_mb": server.rss_bytes() / 1e6,
        }


def in_table(found: dict[str, Any]) -> str:
    rows = []
    for case in found["overhead"]:
        name = f"{case['image']}, inline {case['inline_format']}"
        rows.append((f"(a) call to POST /prompt, {name}", f"{case['call_to_prompt_ms']:.1f} ms", "10 ms"))
        target = {"1024x1024png": "80 ms", "1024x1024jpeg": "40 ms", "512x512png": "30 ms"}
        rows.append(
            (
                f"(b) generated to result, {name}",
                f"{case['generated_to_result_ms']:.1f} ms (best {case['generated_to_result_best_ms']:.1f})",
                target.get(case["image"] + case["inline_format"], "-"),
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
        ("(g) built-in engine: one image", f"{own['image_seconds']:.2f} s", "2 s"),
        (
            "(g) built-in engine: start and first image",
            f"{own['start_seconds'] + own['first_image_seconds']:.2f} s",
            "4 s",
        ),
        ("(g) built-in engine: memory", f"{own['rss_mb']:.0f} MB", "400 MB"),
    ]
    return table(rows)


def measure(folder: str, rounds: int) -> dict[str, Any]:
    """Return all of it."""
    with ComfyUI() as comfyui:
        cases = ((1024, "png"), (1024, "jpeg"), (512, "png"))
        return {
            "overhead": [overhead(comfyui, folder, rounds, side, kind) for side, kind in cases],
            "footprint": footprint(max(3, rounds // 2), Path(folder)),
            "idle": idle(comfyui, folder),
            "builtin": builtin(folder, max(3, rounds // 3)),
        }
