"""The examples run as their README says."""

from pathlib import Path

import pytest
from PIL import Image

from mcp_image_gen_local.cli.commands import app
from mcp_image_gen_local.engine_kit.registry import engine_names


@pytest.mark.usefixtures("example_installed")
def test_an_engine_of_another_package_generates(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    target = tmp_path / "board.png"
    command = ["generate", "anything", "--engine", "checkerboard", "--seed", "3", "-o", str(target)]
    assert app([*command, "--output-dir", str(tmp_path)], result_action="return_value") == 0
    assert capsys.readouterr().out.strip() == str(target)
    with Image.open(target) as board:
        assert len(board.getcolors()) == 2


@pytest.mark.usefixtures("example_installed")
def test_an_engine_of_another_package_is_named():
    """An engine of another package stands among the names."""
    assert "checkerboard" in engine_names()


def test_without_it_the_name_is_unknown():
    assert "checkerboard" not in engine_names()
