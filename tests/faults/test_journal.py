"""The journal is deleted, damaged, locked, older or newer: it never costs an image."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from mcp_image_gen_local.storage import sqlite_file
from mcp_image_gen_local.storage.sqlite_jobs import STEPS
from tests.comfyui_images import plain
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the journal lies."""
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "jobs.sqlite3"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "LOCK_SECONDS", 0.05)


async def test_deleted_in_the_middle_of_a_job(caller: Caller, comfyui: ComfyUIServer, file: Path):
    comfyui.hold("step:2")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:2")
    shutil.rmtree(file.parent)
    comfyui.release("step:2")
    facts = (await call).facts
    assert facts["status"] == "done"
    assert (await caller.call("get_generation_status", prompt_id=facts["prompt_id"])).facts == facts


async def test_deleted_between_two_servers(connect, file: Path):
    first = await connect()
    facts = (await first.generate(seed=3)).facts
    await first.client.close()
    file.unlink()
    found = (await (await connect()).call("get_generation_status", prompt_id=facts["prompt_id"])).facts
    assert (found["status"], found["seed"]) == ("done", 3)


async def test_damaged(caller: Caller, file: Path):
    file.write_bytes(b"no database" * 1000)
    answer = await caller.generate()
    assert answer.facts["status"] == "done"
    assert "The job database was corrupt. It was moved to" in answer.story
    again = await caller.generate()
    assert "database" not in again.story


async def test_locked(caller: Caller, file: Path):
    assert (await caller.generate()).facts["status"] == "done"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = await caller.generate(seed=2)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 2)
    assert "another program holds a lock on it" in answer.story


async def test_of_another_program(caller: Caller, file: Path):
    with contextlib.closing(sqlite3.connect(file)) as theirs:
        theirs.execute("CREATE TABLE bookmarks (url)")
    before = file.read_bytes()
    answer = await caller.generate()
    assert answer.facts["status"] == "done"
    assert "another program wrote it; move it away" in answer.story
    assert file.read_bytes() == before


async def test_of_a_newer_version(caller: Caller, file: Path):
    with contextlib.closing(sqlite3.connect(file)) as newer:
        newer.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    answer = await caller.generate()
    assert answer.facts["status"] == "done"
    assert "a newer version of mcp-image-gen wrote it; update this one" in answer.story


async def test_of_an_older_version(connect, file: Path, tmp_path: Path):
    """A job of version 3 of the file is still known, and its image still found."""
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "old.png"
    image.write_bytes(plain(64, 64))
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as old:
        for step in STEPS[:3]:
            old.execute(step)
        old.execute("PRAGMA user_version = 3")
        saved = {"path": str(image), "seed": 7, "width": 64, "height": 64, "size_bytes": 9, "mime_type": "image/png"}
        plan = {"seed": 7, "model": "m.safetensors", "notes": [], "settings": {"steps": 4, "width": 64, "prompt": "x"}}
        old.execute(
            "INSERT INTO jobs (prompt_id, engine, url, status, asked, plan, images, notes, created, seconds, touched, "
            "stamp, pictures) VALUES ('old', 'comfyui', 'http://gpu', 'done', ?, ?, ?, '[]', 1e9, 2.5, 1e9, 1, 1)",
            ('{"prompt": "x", "init_image": "12 bytes, sha256 ab"}', json.dumps(plan), json.dumps([saved])),
        )
    caller = await connect()
    answer = await caller.call("get_generation_status", prompt_id="old")
    assert (answer.facts["status"], answer.facts["path"]) == ("done", str(image))
    assert (await caller.app.jobs.get("old")).plan.steps == 4
    assert "history" not in answer.story


async def test_two_servers_on_one(connect, comfyui: ComfyUIServer, tmp_path: Path):
    """Both follow and save the same job: one file, and both tell of it."""
    comfyui.hold("step:2")
    one, other = await connect(IMAGE_GEN_WAIT_SECONDS=0), await connect()
    prompt_id = (await one.generate(batch_size=2)).facts["prompt_id"]
    await comfyui.reached("step:2")
    question = asyncio.ensure_future(other.call("get_generation_status", prompt_id=prompt_id))
    await comfyui.until(lambda server: sum(seen.path == "/queue" for seen in server.requests) > 1)
    comfyui.release("step:2")
    found = (await question).facts
    assert found["status"] == "done"
    assert {image["path"] for image in found["images"]} == {str(p) for p in (tmp_path / "images").iterdir()}
    assert len(found["images"]) == 2


@pytest.mark.parametrize("point", ["pending", "step:1"])
async def test_a_job_that_another_server_cancels(connect, comfyui: ComfyUIServer, point: str):
    """A job that another server cancels ends as cancelled."""
    comfyui.hold(point)
    one, other = await connect(), await connect()
    call = asyncio.ensure_future(one.generate())
    await comfyui.until(lambda server: server.queue_remaining == 1)
    prompt_id = comfyui.prompts[-1]["prompt_id"]
    assert (await other.call("cancel_generation", prompt_id=prompt_id)).facts["status"] == "cancelled"
    assert "cancelled" in (await call).error or "interrupted" in (await call).error
    assert (await one.call("get_generation_status", prompt_id=prompt_id)).facts["status"] == "cancelled"


async def test_a_clock_that_goes_backwards(connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    now = [2e9]
    names = []
    for _ in range(3):
        caller = await connect()
        monkeypatch.setattr(caller.app.jobs, "clock", lambda: now[0])
        names += [Path((await caller.generate(seed=1)).facts["path"]).name for _ in range(2)]
        await caller.client.close()
        now[0] -= 3600
    assert len(set(names)) == len(list((tmp_path / "images").iterdir())) == 6


async def test_servers_keep_to_their_own_folders(connect, comfyui: ComfyUIServer, tmp_path: Path):
    """Servers with folders of their own do not save each others images."""
    comfyui.hold("step:1")
    one, other = await connect(), await connect(IMAGE_OUTPUT_DIR=tmp_path / "other")
    calls = [asyncio.ensure_future(one.generate(seed=1)), asyncio.ensure_future(other.generate(seed=2))]
    await comfyui.until(lambda server: server.queue_remaining == 2)
    comfyui.release("step:1")
    facts = [(await call).facts for call in calls]
    assert [len(list(folder.iterdir())) for folder in (tmp_path / "images", tmp_path / "other")] == [1, 1]
    found = await other.call("get_generation_status", prompt_id=facts[0]["prompt_id"])
    assert found.facts["path"] == facts[0]["path"]
