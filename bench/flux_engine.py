"""What this server adds to an image of an engine that runs in its own process.

The server is built and served as `mcp-image-gen serve --http` does it, and called by FastMCP's client, in this process
and on one event loop: the client's work counts as the server's.
"""

import asyncio
import gc
import logging
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from fastmcp import Client, FastMCP

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.capabilities import Capabilities
from mcp_image_gen_local.domain.engine import Engine, ImageReader
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import JobStatus, Plan, Progress
from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.domain.request import Feature, GenerationRequest, random_seed, seeds_of
from mcp_image_gen_local.engine_kit.queued import QueuedEngine
from mcp_image_gen_local.engine_kit.registry import PACKAGE
from mcp_image_gen_local.engine_kit.spec import EngineSettings, EngineSpec
from mcp_image_gen_local.server import answers, build_server
from mcp_image_gen_local.settings import load_settings

logger = logging.getLogger(__name__)

PROMPT = "a lighthouse at dusk, waves against the rocks"
FEATURES = frozenset({Feature.STEPS})
STUB_CALLS = 30
CONNECT_SECONDS = 10.0
OnStep = Callable[[int], None]
Paint = Callable[[str, int, OnStep | None], bytes]  #: prompt, seed, told of each step -> a PNG file


class PaintBackend:
    """Generates with a function, in one thread of its own."""

    url = "this process"

    def __init__(self, name: str, paint: Paint, worker: ThreadPoolExecutor, *, side: int, steps: int) -> None:
        self.name = name
        self._paint, self._worker = paint, worker
        self._side, self._steps = side, steps

    async def capabilities(self, model: str | None) -> Capabilities:
        return Capabilities(model=self.name, features=FEATURES, survives_restart=False)

    async def plan(self, request: GenerationRequest, images: ImageReader) -> Plan:
        """The function generates one size and so many steps, whatever is asked for."""
        return Plan(
            model=self.name,
            seed=random_seed() if request.seed is None else request.seed,
            width=self._side,
            height=self._side,
            steps=self._steps,
            batch_size=request.batch_size,
            extra={"prompt": request.prompt},
        )

    async def generate(self, plan: Plan, report: Callable[[Progress], None]) -> AsyncIterator[EngineImage]:
        """Yield one image for each seed."""
        loop, total = asyncio.get_running_loop(), self._steps * plan.batch_size

        def tell(done: int) -> None:
            progress = Progress(status=JobStatus.RUNNING, phase="generating", step=done, steps=total)
            loop.call_soon_threadsafe(report, progress)

        for index, seed in enumerate(seeds_of(plan.seed or 0, plan.batch_size)):
            before = index * self._steps
            work = partial(self._paint, plan.extra["prompt"], seed, lambda step, before=before: tell(before + step))
            data = await loop.run_in_executor(self._worker, work)
            yield EngineImage(data=data, source=self.url, index=index, seed=seed)

    async def models(self) -> ModelCatalog:
        size = {"width": self._side, "height": self._side}
        model = ModelInfo(name=self.name, role="code", family=self.name, ready=True, steps=self._steps, cfg=1.0, **size)
        return ModelCatalog(models=(model,))

    async def check(self) -> str:
        return f"{self.name}, always ready"

    async def aclose(self) -> None:
        """The worker is its owner's."""


def register(backend: PaintBackend) -> None:
    """Let this process find the engine by the backend's name, as if it were a module of the server's engines."""

    def make(_: EngineSettings) -> Engine:
        return QueuedEngine(backend)

    module = ModuleType(f"{PACKAGE}.{backend.name}")
    module.__spec__ = ModuleSpec(module.__name__, None)
    spec = EngineSpec(name=backend.name, title=backend.name, settings=EngineSettings, make=make, features=FEATURES)
    vars(module)["ENGINE"] = spec
    sys.modules[module.__name__] = module


# -- the server and its client ------------------------------------------------------------------------


@dataclass
class Served:
    """A running server, as its client sees it."""

    app: App
    client: Client[Any]
    transport: str
    told: list[float] = field(default_factory=list)  #: progress of all calls

    async def generate(self, seed: int, side: int, steps: int) -> tuple[float, Any]:
        """Return the seconds of one call, and its answer."""
        arguments = {"prompt": PROMPT, "width": side, "height": side, "steps": steps, "seed": seed}
        begun = time.perf_counter()
        answer = await self.client.call_tool_mcp("generate_image", arguments)
        seconds = time.perf_counter() - begun
        if answer.is_error or '"status": "done"' not in answer.content[0].text:
            message = f"the server answered {answer.content[0]}"
            raise RuntimeError(message)
        return seconds, answer


@asynccontextmanager
async def served(engine: str, folder: Path) -> AsyncIterator[Served]:
    """Serve with this engine; over HTTP if this machine lets us, else in memory."""
    settings = load_settings(
        IMAGE_GEN_ENGINE=engine,
        IMAGE_OUTPUT_DIR=folder,
        IMAGE_GEN_STATE_DIR=folder / "state",
        IMAGE_GEN_WAIT_SECONDS=600,
    )
    app = App(settings)
    server = build_server(settings, app)
    told: list[float] = []

    async def note(progress: float, _total: float | None, _message: str | None) -> None:
        told.append(progress)

    async with AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(_listening(server))
            async with asyncio.timeout(CONNECT_SECONDS):
                client = await stack.enter_async_context(Client(url, progress_handler=note))
            transport = "streamable HTTP on 127.0.0.1"
        except (OSError, RuntimeError, TimeoutError) as error:
            logger.warning("HTTP does not work here, so the client is connected in memory: %r", error)
            client = await stack.enter_async_context(Client(server, progress_handler=note))
            transport = "in memory"
        yield Served(app, client, transport, told)


@asynccontextmanager
async def _listening(server: FastMCP[Any]) -> AsyncIterator[str]:
    """Serve streamable HTTP on a free port of this machine; yield the address."""
    host = "127.0.0.1"
    # The protocol is named because asyncio switches Nagle's algorithm off only where it is: answers would wait 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        serving = asyncio.ensure_future(
            server.run_async(
                "http",
                show_banner=False,
                host=host,
                port=port,
                log_level="warning",
                uvicorn_config={"log_config": None},
                host_origin_protection="auto",
                sockets=[listener],
            )
        )
        try:
            yield f"http://{host}:{port}/mcp"
        finally:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it would log this cancellation
            serving.cancel()
            await asyncio.wait({serving})


# -- measuring ----------------------------------------------------------------------------------------


@dataclass
class Spent:
    """Seconds that wrapped functions take, by name, since the last `take`."""

    seconds: dict[str, float] = field(default_factory=dict)

    def _add(self, name: str, begun: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def sync(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a clock around it."""

        def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._add(name, begun)

        return timed

    def asynchronous(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the coroutine function with a clock around it."""

        async def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return await function(*arguments, **options)
            finally:
                self._add(name, begun)

        return timed

    def take(self) -> dict[str, float]:
        """Return what has been spent, and begin anew."""
        taken, self.seconds = self.seconds, {}
        return taken


def measure(paint: Paint, folder: Path, *, side: int, steps: int, pairs: int) -> dict[str, Any]:
    """Return what a call of the server takes beside the same work without it, and where the difference goes.

    Each server has an event loop of its own: what watches for the end of one would end the next one's answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = {"side": side, "steps": steps}
    gc.freeze()  # as the server does when it starts
    with ThreadPoolExecutor(1, thread_name_prefix="paint") as worker:
        register(PaintBackend("flux_bench", paint, worker, **size))
        found, data = asyncio.run(_beside_direct(paint, worker, folder, pairs, **size))
        register(PaintBackend("stub_bench", lambda *_: data, worker, **size))
        return found | {"ours_alone": asyncio.run(_ours_alone(folder / "stub", **size))}


async def _beside_direct(
    paint: Paint, worker: ThreadPoolExecutor, folder: Path, pairs: int, *, side: int, steps: int
) -> tuple[dict[str, Any], bytes]:
    """Return what the pairs took, and one of the images."""
    async with served("flux_bench", folder / "server") as server:
        direct, through, data, answer = await _in_pairs(server, paint, worker, folder, pairs, side=side, steps=steps)
    image = next(block for block in answer.content if block.type == "image")
    facts = {
        "transport": f"{server.transport}, client in the same process",
        "pairs": pairs,
        "png_bytes": len(data),
        "answer_image_bytes": len(image.data) * 3 // 4,
        "progress_notes": len(server.told),
    }
    return _compared(direct, through) | facts, data


async def _in_pairs(
    server: Served, paint: Paint, worker: ThreadPoolExecutor, folder: Path, pairs: int, *, side: int, steps: int
) -> tuple[list[float], list[float], bytes, Any]:
    """Return the seconds of both sides, pair by pair, and the last image and answer; a first pair is not counted.

    Both generate in the same thread, and each goes first in every second pair.
    """
    direct: list[float] = []
    through: list[float] = []
    data, answer = b"", None
    for seed in range(pairs + 1):
        for turn in range(2):
            if (seed + turn) % 2:
                seconds, answer = await server.generate(seed, side, steps)
                through.append(seconds)
            else:
                begun = time.perf_counter()
                work = partial(_directly, paint, seed, folder / f"direct-{seed}.png")
                data = await asyncio.get_running_loop().run_in_executor(worker, work)
                direct.append(time.perf_counter() - begun)
    return direct[1:], through[1:], data, answer


def _directly(paint: Paint, seed: int, path: Path) -> bytes:
    data = paint(PROMPT, seed, None)
    path.write_bytes(data)
    return data


def _compared(direct: Sequence[float], through: Sequence[float]) -> dict[str, Any]:
    alone, called = statistics.median(direct), statistics.median(through)
    pairs = [b - a for a, b in zip(direct, through, strict=True)]
    return {
        "direct_seconds": alone,
        "server_seconds": called,
        "difference_seconds": called - alone,
        "share": (called - alone) / called,
        "median_of_pair_differences_seconds": statistics.median(pairs),
        "share_of_pair_differences": statistics.median(pairs) / called,
        "direct_all": list(direct),
        "server_all": list(through),
    }


async def _ours_alone(folder: Path, *, side: int, steps: int) -> dict[str, Any]:
    """Return the seconds of a call whose engine takes no time, and of the parts of it that can be told apart."""
    async with served("stub_bench", folder) as server:
        calls, parts = await _in_parts(server, side=side, steps=steps)
        short = [await _short_call(server) for _ in range(STUB_CALLS)]
    names = sorted({name for part in parts for name in part})
    medians = {name: statistics.median(part.get(name, 0.0) for part in parts) for name in names}
    rest = [call - sum(part.values()) for call, part in zip(calls, parts, strict=True)]
    return {
        "calls": STUB_CALLS,
        "transport": server.transport,
        "call_seconds": statistics.median(calls),
        "best_call_seconds": min(calls),
        "parts_seconds": {**medians, "mcp_http_client_and_waiting": statistics.median(rest)},
        "call_with_a_short_answer_seconds": statistics.median(short),
    }


async def _in_parts(server: Served, *, side: int, steps: int) -> tuple[list[float], list[dict[str, float]]]:
    """Return the seconds of each call and of its parts; a first call is not counted."""
    spent = Spent()
    app = server.app
    app.store.save = spent.sync("png_check_metadata_and_file", app.store.save)
    for name in ("create", "update", "get", "renew", "write_progress", "unfinished"):
        setattr(app.jobs, name, spent.asynchronous("job_store", getattr(app.jobs, name)))
    calls: list[float] = []
    parts: list[dict[str, float]] = []
    with mock.patch.object(answers, "render", spent.sync("inline_image", answers.render)):
        for seed in range(STUB_CALLS + 1):
            calls.append((await server.generate(seed, side, steps))[0])
            parts.append(spent.take())
    return calls[1:], parts[1:]


async def _short_call(server: Served) -> float:
    begun = time.perf_counter()
    await server.client.call_tool_mcp("get_output_directory", {})
    return time.perf_counter() - begun
