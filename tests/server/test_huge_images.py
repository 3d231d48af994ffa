"""Images with more pixels than are decoded: one that a request names is refused, one that was generated is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.huge_images import SIDE, bare_png, huge_png


@pytest.fixture(params=["comfyui", "builtin"])
async def painter(connect: Callable[..., Any], request: pytest.FixtureRequest) -> Caller:
    """A client, with each engine that takes an init_image."""
    return await connect(IMAGE_GEN_ENGINE=request.param)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (huge_png(), "14000x14000 pixels are 196 megapixels; at most 50 are decoded. Scale it down."),
        (bare_png(14_000), "14000x14000 pixels are 196 megapixels; at most 50 are decoded. Scale it down."),
        (bare_png(64), "is no image that can be read"),
        (b"\x89PNG\r\n\x1a\n", "is no image that can be read"),
        (b"", "is no image that can be read"),
    ],
    ids=["bomb", "huge header", "no pixels", "no header", "empty"],
)
async def test_an_init_image_is_refused(painter: Caller, tmp_path: Path, data: bytes, what: str):
    path = tmp_path / "images" / "start.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    answer = await painter.call("generate_image", prompt="an apple", init_image=str(path))
    assert what in answer.error
    assert str(path) in answer.error
    assert "report" not in answer.error


async def test_a_generated_image_is_saved(caller: Caller, comfyui: ComfyUIServer):
    """It cannot be shown inside the answer, which says so."""
    comfyui.image = lambda *_: huge_png()
    answer = await caller.generate(seed=3)
    assert (answer.facts["status"], answer.facts["width"], answer.facts["height"]) == ("done", SIDE, SIDE)
    assert Path(answer.facts["path"]).stat().st_size > len(huge_png())
    assert answer.images == []
    assert (
        f"The image is not shown here: {SIDE}x{SIDE} pixels are 196 megapixels; at most 50 are decoded. Open the file "
        "to see it." in answer.story
    )
