"""What the server hands out is taken back as the image to begin with."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from mcp_image_gen_local import app as composition
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

NOBODYS = "6fa459ea-ee8a-4ca4-894e-db77e160355e"


@pytest.fixture
def era() -> str:
    """One era, where a test does not ask for both."""
    return "modern"


@pytest.fixture(autouse=True)
def _no_wait_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "FETCH_SECONDS", 0)


@pytest.fixture
async def first(caller: Caller) -> dict[str, Any]:
    """The facts of a batch of two images that was generated before."""
    return (await caller.generate(seed=1, batch_size=2)).facts


def uploaded(comfyui: ComfyUIServer) -> list[bytes]:
    return list(comfyui.files.inputs.values())


@pytest.mark.parametrize("era", ["modern", "handshake"])
@pytest.mark.parametrize(
    ("dress", "index"),
    [
        ("{path}", 0),
        ("{uri}", 0),
        ("{name}", 0),
        ('"{path}"', 0),
        ("'{path}'", 0),
        ("`{name}`\n", 0),
        ("<{uri}>", 0),
        ("{path}.", 0),
        ("![image]({path})", 0),
        ("image://{prompt_id}/0", 0),
        ("image://{prompt_id}/1", 1),
        ('"image://{prompt_id}/1"', 1),
        ("{prompt_id}", 0),
        (" '{prompt_id}' ", 0),
        ("last", 1),
    ],
)
async def test_what_was_handed_out_is_taken_back(
    caller: Caller, comfyui: ComfyUIServer, first: dict, dress: str, index: int
):
    path = Path(first["images"][index]["path"])
    name = dress.format(path=path, uri=path.as_uri(), name=path.name, prompt_id=first["prompt_id"])
    answer = await caller.generate(seed=2, init_image=name)
    assert answer.facts["status"] == "done"
    assert uploaded(comfyui) == [path.read_bytes()]


async def test_an_earlier_servers_image_is_found(connect, comfyui: ComfyUIServer):
    facts = (await (await connect()).generate(seed=1)).facts
    await (await connect()).generate(seed=2, init_image="last")
    await (await connect()).generate(seed=3, init_image=facts["prompt_id"])
    assert uploaded(comfyui) == [Path(facts["path"]).read_bytes()]


async def test_the_newest_image_that_is_left(caller: Caller, comfyui: ComfyUIServer):
    paths = [Path((await caller.generate(seed=seed)).facts["path"]) for seed in (1, 2)]
    paths[1].unlink()
    await caller.generate(seed=3, init_image="last")
    assert uploaded(comfyui) == [paths[0].read_bytes()]


@pytest.mark.parametrize("name", [NOBODYS, f"image://{NOBODYS}/0", "image://x/0", "last"])
async def test_an_unknown_image_is_told(caller: Caller, name: str):
    """It never advises to generate again."""
    answer = await caller.generate(init_image=name)
    assert answer.code == "invalid_request"
    assert f"init_image '{name}' names no finished image that this server knows." in answer.error
    assert "generate_image again" not in answer.error


async def test_an_index_that_no_image_has(caller: Caller, first: dict):
    answer = await caller.generate(init_image=f"image://{first['prompt_id']}/2")
    assert "names no finished image that this server knows" in answer.error


async def test_a_job_that_runs_has_no_image_yet(connect, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await caller.generate()).facts["prompt_id"]
    await comfyui.reached("step:1")
    assert "names no finished image" in (await caller.generate(init_image=prompt_id)).error


async def test_an_image_of_another_folder_is_refused(connect, tmp_path: Path):
    """The folder check stays: the journal is shared, the folders are not."""
    other = await connect(IMAGE_OUTPUT_DIR=tmp_path / "other")
    facts = (await other.generate()).facts
    caller = await connect()
    for name in ("last", facts["prompt_id"], facts["path"], Path(facts["path"]).as_uri()):
        assert "is outside the folders that may be read" in (await caller.generate(init_image=name)).error


async def test_an_engine_that_is_off_is_told(caller: Caller, comfyui: ComfyUIServer):
    """Only it could say what the job is."""
    await anyio.to_thread.run_sync(comfyui.stop)
    assert (await caller.generate(init_image=NOBODYS)).code == "engine_unreachable"


@pytest.mark.parametrize("name", ["x" * 300_000, "file:///" + "x" * 300_000, "data:image/png;base64," + "A" * 300_000])
async def test_a_long_name_comes_back_cut(caller: Caller, name: str):
    answer = await caller.generate(init_image=name)
    assert answer.code == "invalid_request"
    assert len(answer.text) < 3000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
async def test_pipes_do_not_block_the_server(caller: Caller, tmp_path: Path):
    """As many calls as there are threads, and more; whatever comes then is answered."""
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "x.png")
    name = str(tmp_path / "images" / "x.png")
    answers = await asyncio.gather(*(caller.generate(init_image=name) for _ in range(40)))
    assert {answer.code for answer in answers} == {"invalid_request"}
    assert (await caller.call("get_output_directory")).facts["images"] == 0
    assert (await caller.generate()).facts["status"] == "done"
