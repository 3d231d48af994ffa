"""Shared fixtures: an in-process ComfyUI, the server in memory, and a client of either protocol era."""

import os
import socket
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp.types
import pytest
from fastmcp import Client

from mcp_image_gen_local import app as composition
from mcp_image_gen_local.app import App
from mcp_image_gen_local.engines.comfyui import follow
from mcp_image_gen_local.jobs import Timings
from mcp_image_gen_local.server import build_server
from mcp_image_gen_local.settings import Settings, load_settings
from tests.answers import Answer
from tests.comfyui_server import ComfyUIServer

#: Waits are shorter than for users.
SHORT = Timings(lease=0.5, heartbeat=0.1, poll=0.02, settle=0.3, lookup_delays=(0.0, 0.05, 0.1))
EXAMPLE = Path(__file__).parent.parent / "examples" / "checkerboard-engine"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test that reaches for another machine fails, and the user's own settings and jobs do not leak in."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            pytest.fail(f"a test tried to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    for name in os.environ:
        if name.startswith(("COMFYUI_", "IMAGE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("IMAGE_GEN_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls come sooner than for users, so that no test waits for one."""
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.3)
    monkeypatch.setattr(follow, "RECHECK_SECONDS", 0.02)
    monkeypatch.setattr(follow, "UNREACHABLE_SECONDS", 0.3)
    monkeypatch.setattr(composition, "TIMINGS", SHORT)


@pytest.fixture
def comfyui() -> Iterator[ComfyUIServer]:
    """A ComfyUI with FLUX.1-schnell, SD 1.5 and SDXL."""
    with ComfyUIServer() as server:
        yield server


@pytest.fixture
def configure(comfyui: ComfyUIServer, tmp_path: Path) -> Callable[..., Settings]:
    """Return settings for the test's ComfyUI and folder, others by variable name."""

    def make(**overrides: object) -> Settings:
        return load_settings(**{"COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": tmp_path / "images", **overrides})

    return make


@pytest.fixture
def example_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the example findable as an installed package is: its module on the path, its entry points beside it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    facts = tmp_path / "site" / "checkerboard_engine-0.1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]\n{name} = {target}\n" for group, points in project["entry-points"].items()
             for name, target in points.items()]  # fmt: skip
    (facts / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(EXAMPLE))


@dataclass
class Caller:
    """An MCP client of one era, and the progress it was told."""

    client: Client[Any]
    app: App
    era: str
    progress: list[tuple[float, float | None, str]] = field(default_factory=list)

    async def call(self, tool: str, **arguments: Any) -> Answer:
        """Call the tool and return its answer, an error as well."""
        return Answer(await self.client.call_tool_mcp(tool, arguments))

    async def generate(self, prompt: str = "a red apple", **arguments: Any) -> Answer:
        """Generate a small image."""
        return await self.call("generate_image", **{"prompt": prompt, "width": 64, "height": 64, **arguments})


@pytest.fixture(params=["modern", "handshake"])
def era(request: pytest.FixtureRequest) -> str:
    """Both protocol eras: 2026-07-28, and the handshake revisions before it."""
    return str(request.param)


@pytest.fixture
async def connect(configure: Callable[..., Settings], era: str) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that gives a connected caller for settings by variable name."""
    from contextlib import AsyncExitStack

    async with AsyncExitStack() as stack:

        async def make(**overrides: object) -> Caller:
            settings = configure(**overrides)
            app = App(settings)
            caller = Caller(client=None, app=app, era=era)  # type: ignore[arg-type]

            async def note(progress: float, total: float | None, message: str | None) -> None:
                caller.progress.append((progress, total, message or ""))

            mode = "auto" if era == "modern" else "legacy"
            caller.client = await stack.enter_async_context(
                Client(build_server(settings, app), mode=mode, progress_handler=note)
            )
            return caller

        yield make


@pytest.fixture
async def caller(connect: Callable[..., Any]) -> Caller:
    """A connected client with default settings."""
    return await connect()


__all__ = ["Caller", "mcp"]
