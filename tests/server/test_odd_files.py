"""Odd image files, through the tools: each gives an image, or a clear error that is no fault of this program."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_image_gen_local.storage.retention import IMAGE
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.odd_files import EPS, long_text, odd_files, picture

NAMES = list(odd_files())
READ = [name for name, (_, is_read) in odd_files().items() if is_read]


@pytest.fixture
def era() -> str:
    """One era: what is looked at here are the files."""
    return "modern"


@pytest.fixture(params=["comfyui", "builtin"])
async def painter(connect: Callable[..., Any], request: pytest.FixtureRequest) -> Caller:
    """A client, with each engine that takes an init_image."""
    return await connect(IMAGE_GEN_ENGINE=request.param)


async def begin_with(painter: Caller, path: Path) -> Any:
    return await painter.call("generate_image", prompt="an apple", init_image=str(path), steps=1, width=64, height=64)


@pytest.mark.parametrize("name", NAMES)
async def test_an_init_image_is_read_or_refused(painter: Caller, tmp_path: Path, name: str, capfd):
    """Neither is anything printed on stderr, which is the server's log."""
    data, is_read = odd_files()[name]
    path = tmp_path / "images" / "start.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    answer = await begin_with(painter, path)
    if is_read:
        assert answer.facts["status"] == "done"
    else:
        assert answer.code == "invalid_request"
        assert re.search(r"Give a PNG, JPEG, WebP or GIF\.|Scale it down\.", answer.error)
        assert "<_io" not in answer.error
        assert len(answer.text) < 2000
    assert not re.search("Warning|Traceback|libtiff|PIL", capfd.readouterr().err)


@pytest.mark.parametrize("name", NAMES)
async def test_an_engines_image_is_saved_or_refused(caller: Caller, comfyui: ComfyUIServer, name: str, capfd):
    """Whatever is saved has a name that housekeeping finds; whatever is not is told where it lies."""
    data, is_read = odd_files()[name]
    comfyui.image = lambda *_: data
    answer = await caller.generate(seed=3)
    if not answer.is_error:
        path = Path(answer.facts["path"])
        assert IMAGE.fullmatch(path.name)
        assert len(path.read_bytes()) >= len(data)
    else:
        assert not is_read
        assert answer.code == "generation_failed"
        assert comfyui.url in answer.error
    assert not re.search("Warning|Traceback|libtiff|PIL", capfd.readouterr().err)


@pytest.mark.parametrize("name", READ)
async def test_an_image_that_is_read_is_shown(caller: Caller, comfyui: ComfyUIServer, name: str):
    comfyui.image = lambda *_: odd_files()[name][0]
    answer = await caller.generate(seed=3)
    assert answer.image().size == (64, 64)


@pytest.mark.parametrize(("kind", "ending"), [("TIFF", "tif"), ("BMP", "bmp"), ("AVIF", "avif")])
async def test_other_formats_are_saved_as_they_come(caller: Caller, comfyui: ComfyUIServer, kind: str, ending: str):
    """They are not shown; the answer says so."""
    data = picture(kind=kind)
    comfyui.image = lambda *_: data
    answer = await caller.generate(seed=3)
    path = Path(answer.facts["path"])
    assert (path.suffix, path.read_bytes()) == (f".{ending}", data)
    assert (answer.facts["width"], answer.facts["height"]) == (64, 64)
    assert f"The image is not shown here: its file cannot be decoded (its format is {kind})" in answer.story


async def test_a_long_text_stays_in_the_file(caller: Caller, comfyui: ComfyUIServer):
    data = long_text()
    comfyui.image = lambda *_: data
    saved = Path((await caller.generate(seed=3)).facts["path"]).read_bytes()
    assert data[33:] in saved
    assert b"mcp-image-gen" in saved


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
async def test_no_other_program_is_started(painter: Caller, comfyui: ComfyUIServer, tmp_path: Path, monkeypatch):
    """Ghostscript, for one, would run a file that calls itself an image."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\necho started >> {tmp_path / 'started'}\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "images" / "looks_like.png").write_bytes(EPS)
    comfyui.image = lambda *_: EPS
    answers = [await begin_with(painter, tmp_path / "images" / "looks_like.png"), await painter.generate("an apple")]
    assert "its format is EPS. Give a PNG, JPEG, WebP or GIF." in answers[0].error
    assert not (tmp_path / "started").exists()
