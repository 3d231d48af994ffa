"""What an image of FLUX.1-schnell's size takes on this machine, in time and memory, and what this server adds to it.

    python -m bench.flux_size --out results.json
    python -m bench.flux_size --out results.json --tiny     the same code with tiny networks, on the CPU

The weights are random (bench/flux_pipeline.py). The results so far are written after each part: a run that is cut short
has measured something.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.table import Row, table

if TYPE_CHECKING:
    from bench.flux_pipeline import Flux

GIB = 2**30
LIMIT_GB = 12.0  #: of device memory, 1e9 bytes each


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to keep the weights."""

    name: str
    prepare: Callable[["Flux"], dict[str, int] | None]  #: done once; what it returns goes into the results
    warmups: int  #: calls that are not counted, the first among them
    rounds: int


class Results:
    """What was measured so far, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = time.perf_counter()
        self.found: dict[str, Any] = {}

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """Do the work and keep what it returns, or why it failed."""
        begun = time.perf_counter()
        try:
            self.found[name] = work()
        except Exception as error:
            self.found[name] = {"error": repr(error)[:2000], "traceback": traceback.format_exc()[-4000:]}
            traceback.print_exc()
        print(f"{name}: {time.perf_counter() - begun:.1f} s, {self.seconds:.1f} s in all", flush=True)
        self.write()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begun

    def write(self) -> None:
        """Replace the file."""
        self.found["seconds_in_all"] = self.seconds
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self.found, indent=2))
        part.replace(self._path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file for the results, JSON")
    parser.add_argument(
        "--tiny", action="store_true", help="tiny networks on the CPU: tries the code, measures nothing"
    )
    parser.add_argument("--rounds", type=int, default=12, help="counted images of bfloat16 weights (default: 12)")
    parser.add_argument("--pairs", type=int, default=12, help="pairs without and with the server (default: 12)")
    parser.add_argument(
        "--deadline", type=float, default=200, help="seconds after which no more calls are counted (default: 200)"
    )
    given = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}  # before the libraries read them
    results = Results(given.out)
    flux = _built(results, tiny=given.tiny)
    if flux is None:
        return
    first, *others = _variants(given.rounds)
    results.part(first.name, lambda: measure(flux, first, results, given.deadline))
    results.part("server", lambda: _share(flux, given.pairs))
    for variant in others:
        results.part(variant.name, lambda variant=variant: measure(flux, variant, results, given.deadline))
    print(in_table(results.found))
    print(json.dumps(results.found, indent=2))


def _built(results: Results, *, tiny: bool) -> "Flux | None":
    """Import the libraries and make the networks; None if that failed."""
    made: list[Flux] = []

    def work() -> dict[str, Any]:
        begun = time.perf_counter()
        import diffusers  # slow, and this is where it is measured
        import torch
        import transformers

        from bench.flux_pipeline import FULL, TINY, build

        imported = time.perf_counter()
        device = torch.device("cpu" if tiny else "cuda")
        if tiny:
            torch.set_num_threads(1)  # several would mostly wait for each other
        made.append(build(TINY if tiny else FULL, device))
        flux = made[0]
        return {
            "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "device": "CPU" if tiny else torch.cuda.get_device_name(),
            "device_bytes": 0 if tiny else torch.cuda.get_device_properties(device).total_memory,
            "versions": {each.__name__: each.__version__ for each in (torch, diffusers, transformers)},
            "image": f"{flux.shape.side}x{flux.shape.side}, {flux.shape.steps} steps, {flux.shape.tokens} tokens",
            "parameters": {name: size // 2 for name, size in flux.weights().items()},  # each takes two bytes
            "import_seconds": imported - begun,
            "build_seconds": time.perf_counter() - imported,
        }

    results.part("built", work)
    return made[0] if "error" not in results.found["built"] else None


def _variants(rounds: int) -> list[Variant]:
    from bench.flux_pipeline import offload_blocks, offload_models, store_in_fp8

    return [
        Variant(name="a_bf16_resident", prepare=lambda _: None, warmups=2, rounds=rounds),
        Variant(name="b_fp8_resident", prepare=store_in_fp8, warmups=1, rounds=3),
        Variant(name="c_fp8_models_offloaded", prepare=offload_models, warmups=1, rounds=1),
        Variant(name="d_fp8_blocks_offloaded", prepare=offload_blocks, warmups=2, rounds=3),
    ]


def measure(flux: "Flux", variant: Variant, results: Results, deadline: float) -> dict[str, Any]:
    """Return seconds and memory of the variant."""
    from bench.flux_engine import PROMPT

    begun = time.perf_counter()
    notes = variant.prepare(flux) or {}
    flux.synchronize()
    prepared = time.perf_counter() - begun
    memory = Memory(flux)
    seconds: list[float] = []
    stages: list[dict[str, float]] = []
    for seed in range(variant.warmups + variant.rounds):
        if seed > variant.warmups and results.seconds > deadline:
            break
        begun = time.perf_counter()
        image = flux.image(PROMPT, seed)
        seconds.append(time.perf_counter() - begun)
        stages.append(flux.stages)
    counted = slice(variant.warmups, None)
    low, high = image.convert("L").getextrema()
    return {
        "prepare_seconds": prepared,
        "first_call_seconds": seconds[0],
        "image_seconds": statistics.median(seconds[counted]),
        "stage_seconds": _medians(stages[counted]),
        "all_seconds": seconds,
        "counted": len(seconds[counted]),
        "stored_bytes": {**flux.weights(), **notes},
        "image_range": [low, high],  # one value only would mean that the networks overflowed
        **memory.peaks(),
    }


class Memory:
    """The device memory that is taken at most from now on."""

    def __init__(self, flux: "Flux") -> None:
        self._is_cuda = flux.device.type == "cuda"
        if self._is_cuda:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> dict[str, float]:
        """Return what tensors took at most, and what was reserved for them; nothing on a CPU."""
        if not self._is_cuda:
            return {}
        import torch

        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {"peak_bytes": peak, "peak_gib": peak / GIB, "reserved_bytes": reserved, "reserved_gib": reserved / GIB}


def _share(flux: "Flux", pairs: int) -> dict[str, Any]:
    """Return what the server adds, and the stages of an image without it."""
    from bench import flux_engine

    stages: list[dict[str, float]] = []

    def paint(prompt: str, seed: int, on_step: Callable[[int], None] | None) -> bytes:
        data = flux.png(prompt, seed, on_step)
        stages.append(flux.stages)
        return data

    with tempfile.TemporaryDirectory() as folder:
        size = {"side": flux.shape.side, "steps": flux.shape.steps}
        found = flux_engine.measure(paint, Path(folder), pairs=pairs, **size)
    return found | {"stage_seconds": _medians(stages)}


def _medians(several: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in several) for name in several[0]}


def in_table(found: dict[str, Any]) -> str:
    """Return the results for people."""
    built = found["built"]
    rows: list[Row] = [
        ("import torch, transformers, diffusers", f"{built['import_seconds']:.1f} s", "-"),
        ("make the networks", f"{built['build_seconds']:.1f} s", "-"),
    ]
    for name, facts in found.items():
        if name[1:2] == "_" and isinstance(facts, dict):
            rows += _variant_rows(name, facts)
    return table(rows + _share_rows(found["server"]))


def _variant_rows(name: str, facts: dict[str, Any]) -> list[Row]:
    if "error" in facts:
        return [(name, f"failed: {facts['error'][:80]}", "-")]
    stages = ", ".join(f"{stage} {1e3 * s:.0f}" for stage, s in facts["stage_seconds"].items())
    rows = [
        (f"{name}: first image", f"{facts['prepare_seconds']:.1f} + {facts['first_call_seconds']:.2f} s", "-"),
        (f"{name}: one image", f"{facts['image_seconds']:.2f} s ({stages} ms)", "-"),
    ]
    if "peak_bytes" in facts:
        peak, reserved = facts["peak_bytes"] / 1e9, facts["reserved_bytes"] / 1e9
        wanted = "-" if name.startswith(("a", "b")) else f"< {LIMIT_GB:.0f} GB"
        rows.append((f"{name}: memory", f"{peak:.1f} GB (reserved {reserved:.1f})", wanted))
    return rows


def _share_rows(share: dict[str, Any]) -> list[Row]:
    if "error" in share:
        return [("server", f"failed: {share['error'][:80]}", "-")]
    alone = share["ours_alone"]
    more = 1e3 * share["difference_seconds"]
    rows: list[Row] = [
        ("image without the server, to a file", f"{share['direct_seconds']:.3f} s", "-"),
        ("image by a call of the server", f"{share['server_seconds']:.3f} s", "-"),
        ("share of the server", f"{100 * share['share']:.1f} % ({more:.0f} ms)", "-"),
        ("call whose engine takes no time", f"{1e3 * alone['call_seconds']:.1f} ms", "-"),
    ]
    return rows + [(f"  {part}", f"{1e3 * s:.1f} ms", "-") for part, s in alone["parts_seconds"].items()]


if __name__ == "__main__":
    main()
