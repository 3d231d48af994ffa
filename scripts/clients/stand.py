"""One run of one client: folders, configuration, model, ComfyUI, and the terminal that the client runs in."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.clients.catalogue import FOLDER, ClientProgram, fill
from scripts.clients.fake_llm import MODEL, FakeModel
from scripts.clients.http_server import http_server
from scripts.clients.photo import photo
from scripts.clients.protocol import Record, read_log
from scripts.clients.strays import end_strays
from scripts.clients.terminal import Terminal
from tests.comfyui_server import ComfyUIServer

PROMPT = "Generate an image of a red apple with the image tool."
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Stand:
    """Everything around one client."""

    client: ClientProgram
    folder: Path  #: of this run, empty at first
    model: FakeModel
    comfyui: ComfyUIServer
    server: tuple[str, ...]  #: command of the server under test
    variables: Mapping[str, str]  #: of the server
    programs: tuple[Path, ...]  #: folders with the client's programs
    limit: bool  #: whether the client is told to give up early
    url: str = ""  #: of the server on HTTP; empty where the client starts it

    @property
    def images(self) -> list[Path]:
        """The finished images that the server has saved."""
        return sorted((self.folder / "images").rglob("*.png"))

    def log(self) -> list[Record]:
        """Return what client and server have said so far."""
        return read_log(self.folder / "tap.jsonl")

    def wait(self, claim: Callable[[], bool], seconds: float) -> bool:
        """Return whether `claim()` became true within so many seconds."""
        until = time.monotonic() + seconds
        while not claim():
            if time.monotonic() > until:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def start(self, command: tuple[str, ...]) -> Terminal:
        """Start the client in a terminal."""
        arguments = [fill(each, self._values()) for each in command]
        return Terminal(arguments, env=self._env(), folder=self._project, log=self.folder / "screen.log")

    def prepare(self) -> None:
        """Write the server's command and the client's files, and run what it needs before its first start."""
        for each in (self._project, self.home, self.folder / "images", self.folder / "state"):
            each.mkdir(parents=True)
        self._write_server()
        for name, text in self.client.files.items():
            file = Path(fill(name, self._values()))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(fill(text, self._values()), "utf-8")
        for command in self.client.prepare:
            arguments = [fill(each, self._values()) for each in command]
            # A shell looks the program up in the client's PATH; subprocess would do so in ours.
            subprocess.run(
                ["/bin/sh", "-c", 'exec "$@"', "sh", *arguments], cwd=self._project, env=self._env(), check=True,
                timeout=60, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def server_env(self) -> dict[str, str]:
        """Return the variables that the server gets beside those of the client."""
        return {
            "COMFYUI_URL": self.comfyui.url,
            "IMAGE_OUTPUT_DIR": str(self.folder / "images"),
            "IMAGE_GEN_STATE_DIR": str(self.folder / "state"),
            **self.variables,
        }

    @property
    def _project(self) -> Path:
        return self.folder / "project"

    @property
    def home(self) -> Path:
        """The client's home directory."""
        return self.folder / "home"

    def _values(self) -> dict[str, str]:
        values = self._plain_values()
        return {**values, "entry": fill(self.client.http_entry if self.url else self.client.entry, values)}

    def _plain_values(self) -> dict[str, str]:
        return {
            "url": self.url,
            "server": str(self.folder / "mcp-image-gen"),
            "model": self.model.url,
            "model_name": MODEL,
            "home": str(self.home),
            "project": str(self._project),
            "libraries": str(FOLDER / "libraries"),
            "prompt": PROMPT,
            "limit": self.client.limit if self.limit else self.client.no_limit,
            "limit_seconds": f"{self.client.limit_seconds:g}" if self.limit else "",
        }

    def _env(self) -> dict[str, str]:
        path = os.pathsep.join([*map(str, self.programs), SYSTEM_PATH])
        plain = {"PATH": path, "HOME": str(self.home), "TERM": "xterm-256color", "LANG": "C.UTF-8", "SHELL": "/bin/sh"}
        chosen = {name: fill(text, self._values()) for name, text in self.client.env.items()}
        return plain | chosen

    def _write_server(self) -> None:
        """Write the command that the client starts: the server behind the tap, with its variables."""
        assigned = [f"export {name}={shlex.quote(value)}" for name, value in self.server_env().items()]
        tap = [sys.executable, "-I", "-S", str(FOLDER / "tap.py"), str(self.folder / "tap.jsonl"), *self.server]
        errors = shlex.quote(str(self.folder / "server.log"))
        lines = ["#!/bin/sh", *assigned, f"exec {shlex.join(tap)} 2>>{errors}"]
        script = self.folder / "mcp-image-gen"
        script.write_text("\n".join(lines) + "\n", "utf-8")
        script.chmod(0o755)


@contextmanager
def stand(
    client: ClientProgram,
    folder: Path,
    *,
    server: tuple[str, ...],
    variables: Mapping[str, str],
    programs: tuple[Path, ...],
    limit: bool = False,
    http: bool = False,
) -> Iterator[Stand]:
    """Yield a prepared stand in an empty `folder`; its model and ComfyUI run until the end of the block."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        comfyui = stack.enter_context(ComfyUIServer(step_seconds=0.3, image=photo))
        model = stack.enter_context(FakeModel(folder=folder / "requests"))
        ready = Stand(
            client=client,
            folder=folder,
            model=model,
            comfyui=comfyui,
            server=server,
            variables=variables,
            programs=programs,
            limit=limit,
        )
        if http:
            url = stack.enter_context(http_server(server, ready.server_env(), folder))
            ready = replace(ready, url=url)
        ready.prepare()
        stack.callback(end_strays, ready.home)
        yield ready
