"""Every engine as the contract suite needs it: a quick image, and switches for what can go wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import pytest

from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import Plan, Progress
from tests.comfyui_server import ComfyUIServer


@dataclass
class ComfyUISubject:
    """ComfyUI, as the test double plays it."""

    comfyui: ComfyUIServer
    side: int = 64
    is_server: bool = True

    def contacts(self) -> int:
        """Return how many requests have reached the engine."""
        return len(self.comfyui.requests)

    def hold(self) -> None:
        """Let jobs stop after their first step."""
        self.comfyui.hold("step:1")

    async def reached(self) -> None:
        """Return when a job has stopped there."""
        await self.comfyui.reached("step:1")

    def release(self) -> None:
        """Let them continue."""
        self.comfyui.release("step:1")

    async def die(self) -> None:
        """End in the middle of a job."""
        await anyio.to_thread.run_sync(self.comfyui.stop)

    async def revive(self) -> None:
        """Work again."""
        self.comfyui.heal("html")
        if not self.comfyui.running:
            await anyio.to_thread.run_sync(self.comfyui.start)
        self.release()

    def answer_garbage(self) -> None:
        """Answer with what the engine never says."""
        self.comfyui.fail("html")


class BackendSubject:
    """An engine in this process, on `QueuedEngine`: its backend's one method is wrapped."""

    is_server = False

    def __init__(self, kind: type[Any], monkeypatch: pytest.MonkeyPatch, side: int) -> None:
        self.side = side
        self._gate, self._arrived, self._end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._gate.set()
        self._garbage = False
        self._calls = 0
        generate = kind.generate

        async def wrapped(backend: Any, plan: Plan, report: Callable[[Progress], None]) -> AsyncIterator[EngineImage]:
            self._calls += 1
            if self._garbage:
                yield EngineImage(data=b"garbage", source="nowhere", index=0, seed=plan.seed)
                return
            if not self._gate.is_set():
                self._arrived.set()
                await self._gate.wait()
            if self._end.is_set():
                message = "the backend ended"
                raise RuntimeError(message)
            async for image in generate(backend, plan, report):
                yield image

        monkeypatch.setattr(kind, "generate", wrapped)

    def contacts(self) -> int:
        """Return how many jobs have reached the backend."""
        return self._calls

    def hold(self) -> None:
        """Let jobs stop before their first step."""
        self._gate.clear()

    async def reached(self) -> None:
        """Return when a job has stopped there."""
        await self._arrived.wait()

    def release(self) -> None:
        """Let them continue."""
        self._gate.set()

    async def die(self) -> None:
        """Fail in the middle of a job."""
        self._end.set()
        self._gate.set()

    async def revive(self) -> None:
        """Work again."""
        self._end.clear()
        self._garbage = False

    def answer_garbage(self) -> None:
        """Yield bytes that are no image."""
        self._garbage = True


Subject = ComfyUISubject | BackendSubject


def comfyui_subject(request: pytest.FixtureRequest) -> Subject:
    """Return ComfyUI."""
    return ComfyUISubject(request.getfixturevalue("comfyui"))


def builtin_subject(request: pytest.FixtureRequest) -> Subject:
    """Return the built-in engine."""
    from mcp_image_gen_local.engines.builtin.engine import BuiltinBackend

    return BackendSubject(BuiltinBackend, request.getfixturevalue("monkeypatch"), side=128)


def checkerboard_subject(request: pytest.FixtureRequest) -> Subject:
    """Return the example engine, installed as another package."""
    request.getfixturevalue("example_installed")
    import checkerboard_engine

    return BackendSubject(checkerboard_engine.CheckerboardBackend, request.getfixturevalue("monkeypatch"), side=64)


#: engine -> what makes it ready; a new engine adds a line
SUBJECTS = {"builtin": builtin_subject, "checkerboard": checkerboard_subject, "comfyui": comfyui_subject}
