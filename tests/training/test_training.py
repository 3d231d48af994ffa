"""The training of the built-in model, from icons to an image; needs training/requirements.txt."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from mcp_image_gen_local.engines.builtin.network import Network, vocabulary_of

pytest.importorskip("torch", reason="pip install -r training/requirements.txt")
pytest.importorskip("onnxscript", reason="pip install -r training/requirements.txt")

pytestmark = pytest.mark.training
TRAINING = Path(__file__).parents[2] / "training"
THINGS = {"disc": "red", "square": "blue", "ring": "green"}


@pytest.fixture
def icons(tmp_path: Path) -> Path:
    """A packed set of three things in two styles."""
    records = []
    with zipfile.ZipFile(tmp_path / "icons.zip", "w") as archive:
        for style in ("flat", "simple"):
            for thing, colour in THINGS.items():
                page = Image.new("RGB", (128, 128), "white")
                ImageDraw.Draw(page).ellipse((20, 20, 108, 108), fill=colour)
                data = io.BytesIO()
                page.save(data, "WEBP", lossless=True)
                archive.writestr(f"{len(records):05d}.webp", data.getvalue())
                facts = {"label": thing, "tags": ["shape"], "emoji": None, "group": "objects", "subgroup": None}
                records.append({**facts, "name": thing, "style": style, "colours": [colour]})
        archive.writestr("icons.json", json.dumps(records))
    return tmp_path


def test_one_command_trains_and_exports(icons: Path):
    command = [sys.executable, TRAINING / "train.py", "--preset", "tiny", "--minutes", "0.05", "--work", icons]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    network = Network(icons / "export")
    assert network.side == 32
    assert {"disc", "square", "ring", "two", "red"} <= set(vocabulary_of(network.facts).words)
    with Image.open(icons / "sheet.png") as sheet:
        assert sheet.width == 8 * 32
