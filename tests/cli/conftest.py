"""The command line in process: arguments in; exit code, stdout and stderr out."""

import json
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
