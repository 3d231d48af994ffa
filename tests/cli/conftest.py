"""The command line in process: arguments in; exit code, stdout and stderr out."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcp_image_gen_local.cli import main
from tests.comfyui_server import ComfyUIServer


@dataclass(frozen=True)
class Run:
    """What one command did."""

    code: int
    out: str  #: stdout
    err: str  #: stderr

    @property
    def json(self) -> Any:
        """The one line of JSON on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def paths(self) -> list[Path]:
        """The paths on stdout, one a line."""
        return [Path(line) for line in self.out.splitlines()]


Command = Callable[..., Run]


def findings(out: str) -> dict[str, tuple[str, str]]:
    """Return subject -> (level, text) of what `doctor` printed."""
    lines = [re.fullmatch(r"(ok|warn|FAIL) +(\w+): (.*)", line).groups() for line in out.splitlines()]
    return {subject: (level, text) for level, subject, text in lines}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home directory, and an empty folder to start in: the user's own clients do not matter."""
    folder = tmp_path / "home"
    for path in (folder, tmp_path / "project"):
        path.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder))
    for name in ("CODEX_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "project")
    return folder


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run mcp-image-gen with these arguments and this environment, on no particular engine."""

    def run(*arguments: object, **environment: object) -> Run:
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(sys, "argv", ["mcp-image-gen", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        code = exit_.value.code
        return Run(int(code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def command(bare: Command, comfyui: ComfyUIServer, tmp_path: Path) -> Command:
    """Run mcp-image-gen on the test's ComfyUI and folder."""

    def run(*arguments: object, **environment: object) -> Run:
        return bare(*arguments, **{"COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": tmp_path / "images", **environment})

    return run


@pytest.fixture
def generate(command: Command) -> Command:
    """Generate a small image."""

    def run(*arguments: object, **environment: object) -> Run:
        return command("generate", "a red apple", "--width", 64, "--height", 64, *arguments, **environment)

    return run
