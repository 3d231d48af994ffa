"""Many images through one server: does every caller get its own, does it stay small, does it answer meanwhile?

One server process over stdio, the test ComfyUI in another one, a fixed number of calls in flight until all are done,
and tools/list twice a second. After 100 jobs and after the last one the server is left in peace and measured at rest;
in between it is measured at work. Then the same with calls that answer at once with a handle.
"""

import base64
import io
import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from bench.comfyui import noise
from bench.engine import ComfyUI
from bench.inside import Window
from bench.stdio import Server, in_folder, spawn
from bench.table import Row, table

SIDE = 256  #: pixels
STEP_SECONDS = 0.0125  #: of the test ComfyUI unless told: an image of 4 steps takes 50 ms, quicker than any GPU
WARM_UP = 100  #: jobs after which the server has what it needs
EVERY = 50  #: jobs between two samples
PAUSE = 0.5  #: seconds between two tools/list
POLL_PAUSE = 0.25  #: seconds between two questions after a handle
REST_PAUSE, REST_CPU = 1.0, 0.02  #: at rest is who works for less CPU time in such a pause
REST_SECONDS = 60.0  #: bound on coming to rest
KEEPALIVE_SECONDS = 6.0  #: after so long the server's idle connections to ComfyUI are of no use
LINES = 12  #: told of what grew most


def measure(folder: str, jobs: int, parallel: int, *, step_seconds: float, trace: bool) -> dict[str, Any]:
    """Return what was seen, with calls that wait for their image and with calls that end with a handle."""
    with ComfyUI("--load", str(step_seconds)) as comfyui:
        variants = {"waiting": {}, "handles": {"IMAGE_GEN_WAIT_SECONDS": "0"}}
        return {
            "jobs": jobs,
            "parallel": parallel,
            "step_seconds": step_seconds,
            **{name: run(comfyui, f"{folder}/{name}", jobs, parallel, trace, more) for name, more in variants.items()},
        }


def run(comfyui: ComfyUI, folder: str, jobs: int, parallel: int, trace: bool, more: dict[str, str]) -> dict[str, Any]:
    window = Window()
    settings = in_folder(folder, COMFYUI_URL=comfyui.url, **window.settings, **more)
    with spawn(*(("-X", "tracemalloc") if trace else ()), "-m", "bench.inside", **settings) as server:
        load = Load(server, window, parallel)
        spent = comfyui.cpu_seconds()
        load.generate(min(WARM_UP, jobs))
        early, early_objects, early_bytes = load.at_rest(trace=trace)
        load.generate(max(0, jobs - WARM_UP))
        late, late_objects, late_bytes = load.at_rest(trace=trace)
        with asked_meanwhile(server) as quiet:
            time.sleep(20 * PAUSE)
        return {
            "own_images": len(load.images),
            "wrong": load.wrong,
            "jobs_per_second": jobs / load.seconds,
            "server_cpu_ms_per_job": 1e3 * late["cpu_seconds"] / jobs,
            "comfyui_cpu_ms_per_job": 1e3 * (comfyui.cpu_seconds() - spent) / jobs,
            "tools_list_ms": spread(load.tools_list),
            "tools_list_at_rest_ms": spread(quiet),
            "rest_early": early,
            "rest_late": late,
            "at_work": load.samples,
            "at_work_kb_per_job": slope(load.samples),
            "grown_objects": grown(early_objects, late_objects),
            "grown_bytes": grown(early_bytes, late_bytes),
        }


class Load:
    """The callers of one server, and what they and the bench saw of it."""

    def __init__(self, server: Server, window: Window, parallel: int) -> None:
        self.server, self.window, self.parallel = server, window, parallel
        self.images: dict[Path, int] = {}  #: file -> seed
        self.wrong: list[str] = []
        self.tools_list: list[float] = []
        self.samples: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._generated = 0
        server.call("tools/list")  # the first request of a process loads much, and must be over before the first look
        window.ask("tasks")  # searches for the event loop, once
        window.ask("objects")  # the first look costs memory that is not given back

    def generate(self, jobs: int) -> None:
        """Generate so many images, `parallel` at a time."""
        begun = time.monotonic()
        with ThreadPoolExecutor(self.parallel) as callers, asked_meanwhile(self.server) as seconds:
            for _ in callers.map(self._generate_one, range(self._generated, self._generated + jobs)):
                self._generated += 1
                if self._generated % EVERY == 0:
                    self.samples.append(self._sample())
        self.seconds += time.monotonic() - begun
        self.tools_list += seconds

    def _generate_one(self, seed: int) -> None:
        prompt = f"image {seed}"
        wanted = {"prompt": prompt, "seed": seed, "width": SIDE, "height": SIDE}
        answer = self._tool("generate_image", wanted, progress_token=f"progress-{seed}")
        while (facts := facts_of(answer))["status"] in ("queued", "running"):
            time.sleep(POLL_PAUSE)
            answer = self._tool("get_generation_status", {"prompt_id": facts["prompt_id"]})
        if problem := what_is_wrong(answer, prompt, seed):
            self.wrong.append(f"{prompt}: {problem}")
        else:
            self.images[Path(facts["path"])] = seed

    def _tool(self, name: str, arguments: dict[str, Any], progress_token: str | None = None) -> dict[str, Any]:
        params = {"name": name, "arguments": arguments}
        if progress_token:
            params["_meta"] = {"progressToken": progress_token}
        return self.server.call("tools/call", params).result

    def _sample(self) -> dict[str, Any]:
        """Return how large the server is now; memory is the median of a few looks, as each answer moves it."""
        rss = []
        for _ in range(5):
            rss.append(self.server.rss_bytes() / 1e6)
            time.sleep(0.01)
        return {
            "jobs": self._generated,
            "rss_mb": statistics.median(rss),
            "descriptors": self.server.descriptors(),
            "threads": self.server.usage.num_threads(),
            "tasks": self.window.ask("tasks"),
        }

    def at_rest(self, *, trace: bool) -> tuple[dict[str, Any], dict[str, int], dict[str, int]]:
        """Return a sample of the server when it does nothing, its objects by type, and if wanted its bytes by line."""
        self._come_to_rest()
        time.sleep(KEEPALIVE_SECONDS)
        # Has it ask ComfyUI over one connection, and part with the others.
        self._tool("get_generation_status", {"prompt_id": "nobody"})
        self._come_to_rest()
        sample = self._sample() | {"cpu_seconds": self.server.cpu_seconds()}
        objects = self.window.ask("objects")
        by_line = self.window.ask("memory") if trace else {}
        return sample | {"objects": sum(objects.values()), "traced_mb": sum(by_line.values()) / 1e6}, objects, by_line

    def _come_to_rest(self) -> None:
        deadline = time.monotonic() + REST_SECONDS
        while time.monotonic() < deadline:
            spent = self.server.cpu_seconds()
            time.sleep(REST_PAUSE)
            if self.server.cpu_seconds() - spent < REST_CPU:
                return
        raise TimeoutError(f"The server still works {REST_SECONDS:.0f} s after its last answer.")


@contextmanager
def asked_meanwhile(server: Server) -> Iterator[list[float]]:
    """Ask for tools/list again and again; the list fills with the seconds that each answer took."""
    seconds: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(PAUSE):
            seconds.append(server.call("tools/list").seconds)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seconds
    finally:
        over.set()
        asking.join()


def facts_of(answer: dict[str, Any]) -> dict[str, Any]:
    text = answer["content"][0]["text"].partition("\n")[0]
    return {"status": "error", "text": text} if answer.get("isError") else json.loads(text)


def what_is_wrong(answer: dict[str, Any], prompt: str, seed: int) -> str:
    """Return why this is no answer with the caller's own image; empty if it is one."""
    facts = facts_of(answer)
    if facts["status"] != "done" or facts["seed"] != seed:
        return str(facts)[:300]
    with Image.open(facts["path"]) as image:
        origin = json.loads(image.info["mcp-image-gen"])
        pixels = image.tobytes()
    if (origin["prompt_id"], origin["prompt"]) != (facts["prompt_id"], prompt):
        return f"its file {facts['path']} is of {origin}"
    with Image.open(io.BytesIO(noise(SIDE, SIDE, seed))) as expected:
        if pixels != expected.tobytes():
            return f"its file {facts['path']} shows another image"
    inline = next(block["data"] for block in answer["content"] if block["type"] == "image")
    with Image.open(io.BytesIO(base64.b64decode(inline))) as shown:
        return "" if shown.tobytes() == pixels else "the image in the answer is another one than the file"


def spread(seconds: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and maximum in milliseconds."""
    found = sorted(1e3 * s for s in seconds)
    return {
        "asked": len(found),
        "median": statistics.median(found),
        "p95": found[int(0.95 * len(found))],
        "max": found[-1],
    }


def slope(samples: list[dict[str, Any]]) -> float:
    """Return kB that a job adds to the memory at work: the line through the samples of the second half."""
    later = samples[len(samples) // 2 :]
    if len(later) < 2:
        return 0.0
    return 1e3 * statistics.linear_regression([s["jobs"] for s in later], [s["rss_mb"] for s in later]).slope


def grown(early: dict[str, int], late: dict[str, int]) -> dict[str, int]:
    """Return what became more, the most first."""
    more = {name: count - early.get(name, 0) for name, count in late.items()}
    return dict(sorted(more.items(), key=lambda item: -item[1])[:LINES])


def in_table(found: dict[str, Any]) -> str:
    rows: list[Row] = []
    for name in ("waiting", "handles"):
        rows += _rows(f"{name}: ", found[name], found["jobs"])
    return table(rows)


def _rows(name: str, seen: dict[str, Any], jobs: int) -> list[Row]:
    early, late, work = seen["rest_early"], seen["rest_late"], seen["at_work"]
    asked, quiet = seen["tools_list_ms"], seen["tools_list_at_rest_ms"]
    memory = "traced_mb" if late["traced_mb"] else "rss_mb"  # with --trace the process also holds its own notes

    def both(what: str) -> str:
        return f"{early[what]} -> {late[what]} (at work up to {max((s[what] for s in work), default=0)})"

    return [
        (f"{name}answers with their own image", f"{seen['own_images']}", f"{jobs}"),
        (
            f"{name}memory at rest, job {early['jobs']} -> the end",
            f"{early[memory]:.1f} -> {late[memory]:.1f} MB ({late[memory] - early[memory]:+.1f})",
            "< +10 MB",
        ),
        (
            f"{name}memory at work, second half",
            f"{work[-1]['rss_mb'] if work else 0:.1f} MB ({seen['at_work_kb_per_job']:+.2f} kB a job)",
            "-",
        ),
        (f"{name}descriptors at rest", both("descriptors"), "the same"),
        (f"{name}tasks at rest", both("tasks"), "the same"),
        (f"{name}threads at rest", both("threads"), "-"),
        (
            f"{name}tools/list meanwhile",
            f"median {asked['median']:.1f} ms, max {asked['max']:.1f} "
            f"(at rest {quiet['median']:.1f}, {quiet['max']:.1f})",
            "max < 50 ms",
        ),
        (
            f"{name}jobs a second",
            f"{seen['jobs_per_second']:.1f} ({seen['server_cpu_ms_per_job']:.0f} ms CPU each, "
            f"ComfyUI {seen['comfyui_cpu_ms_per_job']:.0f})",
            "-",
        ),
    ]
