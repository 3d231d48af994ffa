"""An in-process ComfyUI for tests, benchmarks and people without a GPU.

It speaks ComfyUI 0.3.64's HTTP and WebSocket API on a real loopback port, makes images instead of computing them, and
fails by name. In a test:

    async with ComfyUIServer() as comfyui:
        comfyui.hold("step:1")  # the worker stops after the first step ...
        ...                     # ... while the code under test talks to comfyui.url
        await comfyui.reached("step:1")
        comfyui.fail("drop_socket", at="step:2")
        comfyui.release("step:1")
"""

import argparse
import asyncio
import copy
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Self

import anyio.to_thread
import uvicorn

from tests import comfyui_images as images
from tests.comfyui_control import FAULTS, Controls
from tests.comfyui_http import App, Seen
from tests.comfyui_nodes import DEFAULT_MODELS, NodeCatalogue, recording
from tests.comfyui_sockets import Hub
from tests.comfyui_state import Files, Json, State
from tests.comfyui_values import Render
from tests.comfyui_worker import Machine, Worker

__all__ = ["ComfyUIServer", "Seen"]


class ComfyUIServer:
    """An in-process ComfyUI on a real loopback port, with faults by name.

    All methods and attributes may be used from every thread, also before `start` and after `stop`.
    """

    FAULTS: ClassVar[dict[str, str]] = FAULTS  #: fault name -> what it does

    def __init__(
        self,
        *,
        models: Mapping[str, Sequence[str]] | None = None,
        step_seconds: float = 0.0,
        version: str = "0.3.64",
        port: int = 0,
        image: Render | None = None,
    ) -> None:
        """Prepare a server; `start` or `with` runs it.

        Args:
            models: Folder name -> file names; None means FLUX.1-schnell, SD 1.5 and SDXL. Live: change `self.models`.
            step_seconds: How long one sampling step takes.
            version: What /system_stats says.
            port: 0 takes a free one and keeps it over restarts.
            image: Generates instead of the built-in generation: (width, height, seed, prompt, index) -> file bytes.
        """
        self.models: dict[str, list[str]] = {k: list(v) for k, v in (models or DEFAULT_MODELS).items()}
        self.step_seconds = step_seconds
        self.previews = False  #: send a preview frame with each step
        self.image: Render = image or images.generate
        self.system_stats: Json = copy.deepcopy(recording("system_stats.json"))
        self.system_stats["system"]["comfyui_version"] = version
        #: changes what is replied: (method, path, response) -> response
        self.mutate: Callable[[str, str, Any], Any] = lambda method, path, response: response
        self.files = Files()  #: what lies in the output, input and temp folders
        self.requests: list[Seen] = []
        self.prompts: list[Any] = []  #: JSON bodies of POST /prompt, refused ones too
        self.interrupted: list[str] = []  #: prompt_ids that a POST /interrupt hit
        self.deleted: list[str] = []  #: prompt_ids that a POST /queue took off the queue
        self.rendered: list[str] = []  #: prompt_ids, one for each run in which SaveImage wrote new files
        self.finished: list[str] = []  #: prompt_ids that got into the history as a success
        self.client_ids: list[str] = []  #: of all sockets ever opened
        self._controls = Controls()
        self._catalogue = NodeCatalogue(self.models, self.files.uploads)
        self._port = port
        self._served: _Served | None = None

    # -- life -------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base URL; the same over restarts."""
        if not self._port:
            raise RuntimeError("The port is known after start().")
        return f"http://127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        """Whether it accepts connections."""
        return self._served is not None

    def start(self) -> None:
        """Run in a thread of its own; returns once connections are accepted."""
        if self._served is not None:
            raise RuntimeError("Already started.")
        self.files.temp.clear()
        listener = self._bind()
        self._served = _Served(self, listener)
        self._served.start()

    def stop(self) -> None:
        """End at once, as a SIGKILL would: open connections just drop. Harmless if not running."""
        served, self._served = self._served, None
        if served is not None:
            served.stop()

    def restart(self) -> None:
        """Stop and start on the same port: outputs stay; history, queue and temp files are gone."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def _bind(self) -> socket.socket:
        """Return a socket on our port; a port the system chose is ours until this object dies."""
        # Named as TCP, or asyncio sets no TCP_NODELAY and each reply waits 40 ms for an ACK.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared = sys.platform == "linux" and getattr(self, "_reserved", not self._port)
        try:
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(("127.0.0.1", self._port))
        except OSError:
            listener.close()
            raise
        self._port = listener.getsockname()[1]
        if shared and not hasattr(self, "_reserved"):
            self._reserve()
        return listener

    def _reserve(self) -> None:
        """Keep the port while stopped: bound but not listening, so that connections are refused."""
        keeper = socket.socket()
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(("127.0.0.1", self._port))
        self._reserved = True
        weakref.finalize(self, os.close, keeper.detach())

    # -- control ----------------------------------------------------------------------------------

    @property
    def faults(self) -> set[str]:
        """The names of the faults that are on."""
        return self._controls.faults

    def fail(self, name: str, **options: Any) -> None:
        """Switch a fault of `FAULTS` on; `times=N` heals it after N uses. ValueError: unknown name."""
        self._controls.fail(name, **options)

    def heal(self, name: str) -> None:
        """Switch a fault off."""
        self._controls.heal(name)

    def hold(self, point: str) -> None:
        """Make the worker stop when it gets to a point.

        "pending" (before a prompt is taken from the queue), "loading" (in the first loader that runs; interrupts wait
        as in a real load), "step:N" (progress N was sent; an interrupt is seen here), "saving" (no file yet),
        "finishing" (files written, nothing told yet).
        """
        self._controls.hold(point)

    def release(self, point: str) -> None:
        """Let the worker pass a point from now on."""
        self._controls.release(point)

    def wait_reached(self, point: str, timeout: float = 5) -> None:
        """Return when the worker stands at `point`; TimeoutError after `timeout` seconds."""
        self._controls.wait_reached(point, timeout)

    async def reached(self, point: str, timeout: float = 5) -> None:
        """Return when the worker stands at `point`; TimeoutError after `timeout` seconds."""
        await anyio.to_thread.run_sync(partial(self.wait_reached, point, timeout), abandon_on_cancel=True)

    def wait_until(self, claim: Callable[["ComfyUIServer"], bool], timeout: float = 5) -> None:
        """Return when `claim(server)` holds, asked at every change; TimeoutError after `timeout` seconds."""
        self._controls.wait_until(lambda: claim(self), timeout)

    async def until(self, claim: Callable[["ComfyUIServer"], bool], timeout: float = 5) -> None:
        """Return when `claim(server)` holds, as in `until(lambda comfyui: comfyui.sockets == 0)`."""
        await anyio.to_thread.run_sync(partial(self.wait_until, claim, timeout), abandon_on_cancel=True)

    def remove_node(self, class_type: str) -> None:
        """Forget a node class, as if its custom node were not installed."""
        self._catalogue.remove(class_type)

    # -- a look inside ----------------------------------------------------------------------------

    @property
    def sockets(self) -> int:
        """How many WebSockets are open."""
        return len(self._served.hub.open) if self._served is not None else 0

    @property
    def queue_remaining(self) -> int:
        """How many prompts run or wait."""
        return self._served.state.remaining if self._served is not None else 0

    @property
    def history(self) -> dict[str, Json]:
        """The history by prompt_id; a copy."""
        return dict(self._served.state.history) if self._served is not None else {}


class _Served:
    """One run of a server: its threads, loop, queue and sockets."""

    def __init__(self, owner: ComfyUIServer, listener: socket.socket) -> None:
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        controls = owner._controls
        self.hub = Hub(controls, self._loop)
        self.hub.client_ids = owner.client_ids
        self.state = State(controls, self._announce, owner.finished)
        machine = Machine(
            controls=controls,
            state=self.state,
            files=owner.files,
            audience=self.hub,
            node_info=owner._catalogue.get,
            image=lambda: owner.image,
            step_seconds=lambda: owner.step_seconds,
            previews=lambda: owner.previews,
            rendered=owner.rendered,
        )
        app = App(machine=machine, hub=self.hub, catalogue=owner._catalogue, cut=self._cut, notes=owner)
        self._server = _quiet_uvicorn(app)
        self._worker = Worker(machine)
        self._thread = threading.Thread(target=self._run, name="comfyui-server", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        self._worker.start()

    def stop(self) -> None:
        self.state.stop()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._worker.join()

    def _announce(self, remaining: int) -> None:
        self.hub.publish("status", {"status": {"exec_info": {"queue_remaining": remaining}}})

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            # Not uvicorn's own serve(): that looks every 0.1 s whether to end, and ends politely.
            self._server.lifespan = self._server.config.lifespan_class(self._server.config)
            await self._server.startup(sockets=[self._listener])
        except BaseException as error:
            self._failure = error
            self._listener.close()
            return
        finally:
            self._ready.set()
        await self._stopping.wait()
        await self._kill()

    async def _kill(self) -> None:
        """Close the listener and abort every connection."""
        for server in self._server.servers:
            server.close()
        state = self._server.server_state
        for connection in list(state.connections):
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=1)
        await asyncio.sleep(0)

    def _cut(self, client: tuple[str, int]) -> None:
        """Close one connection without another word, once what was written is out."""
        for connection in list(self._server.server_state.connections):
            if getattr(connection, "client", None) == client:
                connection.transport.close()


def _quiet_uvicorn(app: App) -> uvicorn.Server:
    """Return a uvicorn that adds no header, ping or log line of its own."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        lifespan="off",
        interface="asgi3",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    config.load()
    return uvicorn.Server(config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.comfyui_server",
        description="A pretend ComfyUI: the real API, generated images, no GPU.",
        epilog="example: python -m tests.comfyui_server --port 8188 --step-seconds 0.3",
    )
    parser.add_argument("--port", type=int, default=8188, help="port on 127.0.0.1 (default: 8188; 0: a free one)")
    parser.add_argument("--step-seconds", type=float, default=0.3, help="seconds per sampling step (default: 0.3)")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with ComfyUIServer(port=options.port, step_seconds=options.step_seconds) as server:
            print(f"ComfyUI test double on {server.url} (Ctrl-C ends it)", flush=True)  # noqa: T201
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"Port {options.port} cannot be used: {error}. Give another one with --port.")


if __name__ == "__main__":
    main()
