"""The examples run as their README says."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from mcp_image_gen_local.cli.commands import app
from mcp_image_gen_local.engine_kit.registry import engine_names

EXAMPLE = Path(__file__).parent.parent / "examples" / "checkerboard-engine"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the example findable as an installed package is: its module on the path, its entry points beside it."""
    import tomllib

    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    facts = tmp_path / "site" / "checkerboard_engine-0.1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]\n{name} = {target}\n" for group, points in project["entry-points"].items()
             for name, target in points.items()]  # fmt: skip
    (facts / "entry_points.txt").write_text("".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "checkerboard_engine", raising=False)


@pytest.mark.usefixtures("installed")
def test_an_engine_of_another_package_generates(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    target = tmp_path / "board.png"
    command = ["generate", "anything", "--engine", "checkerboard", "--seed", "3", "-o", str(target)]
    assert app([*command, "--output-dir", str(tmp_path)], result_action="return_value") == 0
    assert capsys.readouterr().out.strip() == str(target)
    with Image.open(target) as board:
        assert len(board.getcolors()) == 2


@pytest.mark.usefixtures("installed")
def test_an_engine_of_another_package_stands_among_the_names():
    assert "checkerboard" in engine_names()


def test_without_it_the_name_is_unknown():
    assert "checkerboard" not in engine_names()
