"""Images and jobs as resources."""

import base64
import contextlib
import json
import os
import sqlite3
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import mcp.types
import pytest
from mcp.shared.exceptions import MCPError

from mcp_image_gen_local.domain.errors import ImageGone
from mcp_image_gen_local.domain.job import JobStatus
from mcp_image_gen_local.server import resources
from mcp_image_gen_local.storage.sqlite_jobs import FILE
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.docs.documents import REFERENCE, sections
from tests.engines.others import generate, graph

BOTH_ERAS = pytest.mark.parametrize("era", ["modern", "handshake"])
NOBODYS = "6fa459ea-ee8a-4ca4-894e-db77e160355e"


@pytest.fixture
def era() -> str:
    """One era, where a test does not ask for both."""
    return "modern"


@pytest.fixture(autouse=True)
def _no_wait_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test whose image is to be fetched within the read says so."""
    monkeypatch.setattr(resources, "FETCH_SECONDS", 0)


async def read(caller: Caller, uri: str) -> Any:
    """Return the one content of the resource."""
    (content,) = (await caller.client.read_resource_mcp(uri)).contents
    return content


async def read_json(caller: Caller, uri: str) -> Any:
    content = await read(caller, uri)
    assert (content.mime_type, content.uri) == ("application/json", uri)
    return json.loads(content.text)


async def error_of(caller: Caller, uri: str) -> str:
    """Return what readers get in place of the resource; the line for programs is checked."""
    with pytest.raises(MCPError) as caught:
        await caller.client.read_resource_mcp(uri)
    first, _, rest = caught.value.error.message.partition("\n")
    if not rest:
        return first  # FastMCP's own: no such resource
    facts = json.loads(first)
    assert facts["status"] == "failed"
    assert rest == f"{facts['error']['message']} {facts['error']['hint']}".strip()
    return rest


async def successor(connect) -> Caller:
    """Return a client of another server process of the same user, that did not generate."""
    return await connect()


# -- what is offered ----------------------------------------------------------------------------------------------


@BOTH_ERAS
async def test_two_templates_and_the_list_of_jobs(caller: Caller):
    """Two templates and the list of jobs are offered."""
    templates = {t.uri_template: t for t in await caller.client.list_resource_templates()}
    listed = {str(r.uri): r for r in await caller.client.list_resources()}
    assert set(templates) == {"image://{prompt_id}/{index}", "job://{prompt_id}"}
    assert set(listed) == {"jobs://recent"}
    for offered in (*templates.values(), *listed.values()):
        assert offered.description.endswith(".")
        assert offered.title


async def test_listing_makes_no_runner_and_opens_no_journal(caller: Caller, comfyui: ComfyUIServer):
    await caller.client.list_resources()
    await caller.client.list_resource_templates()
    assert set(vars(caller.app)) == {"settings", "engine_settings", "interrupted"}
    assert comfyui.requests == []


async def test_each_resource_has_a_section_in_the_reference(caller: Caller):
    offered = {t.uri_template for t in await caller.client.list_resource_templates()}
    offered |= {str(r.uri) for r in await caller.client.list_resources()}
    headings = sections((REFERENCE / "resources.md").read_text("utf-8"))
    assert {h.strip("`") for h in headings if h.startswith("`")} == offered


# -- image://{prompt_id}/{index} ----------------------------------------------------------------------------------


@BOTH_ERAS
async def test_an_image_is_the_file_on_disk_byte_for_byte(caller: Caller):
    facts = (await caller.generate()).facts
    image = await read(caller, f"image://{facts['prompt_id']}/0")
    assert isinstance(image, mcp.types.BlobResourceContents)
    assert image.mime_type == "image/png"
    assert base64.b64decode(image.blob) == Path(facts["path"]).read_bytes()


async def test_the_images_of_a_batch_are_counted_from_0(caller: Caller):
    facts = (await caller.generate(batch_size=3)).facts
    blobs = [(await read(caller, f"image://{facts['prompt_id']}/{index}")).blob for index in range(3)]
    assert [base64.b64decode(blob) for blob in blobs] == [Path(i["path"]).read_bytes() for i in facts["images"]]


async def test_an_earlier_image_while_comfyui_is_off(connect, comfyui: ComfyUIServer):
    """An image of an earlier server is read though ComfyUI is off."""
    facts = (await (await connect()).generate()).facts
    await anyio.to_thread.run_sync(comfyui.stop)
    image = await read(await successor(connect), f"image://{facts['prompt_id']}/0")
    assert base64.b64decode(image.blob) == Path(facts["path"]).read_bytes()


async def test_a_finished_image_is_fetched_when_read(connect, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """An image that was finished meanwhile is fetched at the first read."""
    monkeypatch.setattr(resources, "FETCH_SECONDS", 10)
    comfyui.hold("step:1")
    before = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await before.generate()).facts["prompt_id"]
    await comfyui.reached("step:1")
    await before.client.close()
    comfyui.release("step:1")
    await comfyui.until(lambda server: prompt_id in server.history)
    image = await read(await successor(connect), f"image://{prompt_id}/0")
    assert base64.b64decode(image.blob).startswith(b"\x89PNG")


async def test_an_image_deleted_here_is_fetched_again(caller: Caller, monkeypatch: pytest.MonkeyPatch):
    """An image that was deleted here is fetched again."""
    monkeypatch.setattr(resources, "FETCH_SECONDS", 10)
    facts = (await caller.generate()).facts
    before = Path(facts["path"]).read_bytes()
    Path(facts["path"]).unlink()
    image = await read(caller, f"image://{facts['prompt_id']}/0")
    assert base64.b64decode(image.blob) == before == Path(facts["path"]).read_bytes()


@BOTH_ERAS
async def test_a_job_that_has_not_ended_has_no_image_yet(connect, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await caller.generate()).facts["prompt_id"]
    await comfyui.reached("step:1")
    assert await error_of(caller, f"image://{prompt_id}/0") in [
        f"The job {prompt_id} is {status}: it has no image yet. "
        f'Call get_generation_status(prompt_id="{prompt_id}") to wait for it.'
        for status in (JobStatus.QUEUED, JobStatus.RUNNING)
    ]


@BOTH_ERAS
@pytest.mark.parametrize("index", ["2", "-1", "00", "x", "0x0", "\u0661"])
async def test_a_number_without_an_image(caller: Caller, index: str):
    """A number that no image has is reported with those that are there."""
    prompt_id = (await caller.generate(batch_size=2)).facts["prompt_id"]
    error = await error_of(caller, f"image://{prompt_id}/{index}")
    assert error == f"The job {prompt_id} has no image {index!r}. It has: 0, 1."


async def test_a_job_that_failed_tells_why_it_has_no_image(caller: Caller, comfyui: ComfyUIServer):
    comfyui.fail("out_of_memory")
    told = (await caller.generate()).error
    assert await error_of(caller, f"image://{comfyui.prompts[0]['prompt_id']}/0") == told


@BOTH_ERAS
async def test_a_file_gone_everywhere_is_reported(caller: Caller, comfyui: ComfyUIServer):
    """A file that is gone here and at ComfyUI is reported with its path."""
    facts = (await caller.generate(seed=5)).facts
    Path(facts["path"]).unlink()
    comfyui.files.outputs.clear()
    await anyio.to_thread.run_sync(comfyui.restart)
    error = await error_of(caller, f"image://{facts['prompt_id']}/0")
    assert error == (
        f"The image is no longer at {facts['path']}, and comfyui ({comfyui.url}) does not have it either. "
        "Call generate_image again (seed=5 generates the same image)."
    )


async def test_a_file_that_goes_while_it_is_read_is_told(caller: Caller):
    facts = (await caller.generate()).facts
    job = await caller.app.runner.find(facts["prompt_id"])
    Path(facts["path"]).unlink()
    with pytest.raises(ImageGone, match=r"cannot be read \(No such file or directory\)"):
        resources.read_file(job.images[0])


@BOTH_ERAS
@pytest.mark.parametrize("uri", [f"image://{NOBODYS}/0", f"job://{NOBODYS}"])
async def test_an_unknown_id_is_told(caller: Caller, comfyui: ComfyUIServer, uri: str):
    assert await error_of(caller, uri) == (
        f"Unknown prompt_id {NOBODYS!r}: not found in this server's history or at {comfyui.url}. "
        "Check the prompt_id. The answer of generate_image holds it."
    )


@BOTH_ERAS
@pytest.mark.parametrize("uri", [f"image://{NOBODYS}/0", f"job://{NOBODYS}"])
async def test_a_comfyui_that_is_off_is_told(caller: Caller, comfyui: ComfyUIServer, uri: str):
    await anyio.to_thread.run_sync(comfyui.stop)
    assert await error_of(caller, uri) == (
        f"ComfyUI not reachable at {comfyui.url}. Start with: python main.py --listen 127.0.0.1"
    )


@pytest.mark.parametrize("prompt_id", ["..", "a%2Fb", "%2E%2E%2Fqueue", "x%00", "%20", "x" * 65, "x" * 9999, "é"])
async def test_nonsense_never_reaches_comfyui(caller: Caller, comfyui: ComfyUIServer, prompt_id: str):
    """Nonsense is an error and never reaches ComfyUI."""
    for uri in (f"image://{prompt_id}/0", f"job://{prompt_id}"):
        assert await error_of(caller, uri)
    assert comfyui.requests == []


async def test_an_error_leaves_no_traceback_in_the_log(caller: Caller, caplog: pytest.LogCaptureFixture):
    await error_of(caller, f"job://{NOBODYS}")
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("planted", [b"root:x:0:0", b"", b"%!PS-Adobe", b"<svg/>"])
async def test_a_file_that_is_no_image_is_not_served(connect, tmp_path: Path, planted: bytes):
    """Whatever the journal names."""
    caller = await connect()
    facts = (await caller.generate()).facts
    (tmp_path / "secret").write_bytes(planted)
    plant(tmp_path, facts["path"], tmp_path / "secret")
    error = await error_of(await successor(connect), f"image://{facts['prompt_id']}/0")
    assert error.startswith(f"The image {tmp_path / 'secret'} cannot be read (it")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
async def test_a_pipe_is_not_read(caller: Caller, tmp_path: Path):
    facts = (await caller.generate()).facts
    job = await caller.app.runner.find(facts["prompt_id"])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageGone, match="it is a pipe, not a file"):
        resources.read_file(replace(job.images[0], path=tmp_path / "pipe"))


async def test_the_type_is_that_of_the_bytes(connect, tmp_path: Path):
    """The journal may tell another."""
    facts = (await (await connect()).generate()).facts
    plant(tmp_path, "image/png", "text/html")
    assert (await read(await successor(connect), f"image://{facts['prompt_id']}/0")).mime_type == "image/png"


def plant(tmp_path: Path, old: object, new: object) -> None:
    """Replace a text in what the journal says of images, as another program could."""
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / FILE)) as hand:
        texts = [json.dumps(str(text))[1:-1] for text in (old, new)]
        hand.execute("UPDATE jobs SET images = replace(images, ?, ?)", texts)
        hand.commit()


@pytest.mark.parametrize("dress", ["%20{}%20", "%22{}%22", "'{}'", "%60{}%60", "{}%0A"])
async def test_blanks_and_quotes_around_an_id_are_nothing(caller: Caller, dress: str):
    prompt_id = (await caller.generate()).facts["prompt_id"]
    assert (await read_json(caller, f"job://{dress.format(prompt_id)}"))["prompt_id"] == prompt_id
    image = await read(caller, f"image://{dress.format(prompt_id)}/{dress.format(0)}")
    assert image.mime_type == "image/png"


async def test_a_long_number_comes_back_cut(caller: Caller):
    prompt_id = (await caller.generate()).facts["prompt_id"]
    assert len(await error_of(caller, f"image://{prompt_id}/{'9' * 9999}")) < 200


# -- job://{prompt_id} --------------------------------------------------------------------------------------------


@BOTH_ERAS
async def test_a_finished_job_resource(caller: Caller):
    """A finished job reports what its status reports and what was asked."""
    before = datetime.now().astimezone() - timedelta(seconds=1)
    facts = (await caller.generate("a fox", seed=3, width=100)).facts
    told = await read_json(caller, f"job://{facts['prompt_id']}")
    created = datetime.fromisoformat(told.pop("created"))
    assert created.utcoffset() is not None
    assert before <= created <= datetime.now().astimezone()
    assert told.pop("request") == {"prompt": "a fox", "seed": 3, "width": 100, "height": 64, "batch_size": 1}
    (note,) = told.pop("notes")
    assert note.startswith("100x64 was rounded to ")
    assert told == facts


async def test_a_running_job_tells_its_step_at_once(connect, comfyui: ComfyUIServer):
    comfyui.hold("step:3")
    caller = await connect(IMAGE_GEN_WAIT_SECONDS=0)
    prompt_id = (await caller.generate(seed=1)).facts["prompt_id"]
    await comfyui.reached("step:3")
    await settled(caller, prompt_id, step=3)
    told = await read_json(caller, f"job://{prompt_id}")
    assert {name: told[name] for name in ("status", "prompt_id", "seed", "progress", "step", "steps")} == {
        "status": "running",
        "prompt_id": prompt_id,
        "seed": 1,
        "progress": "generating, step 3/4",
        "step": 3,
        "steps": 4,
    }


async def settled(caller: Caller, prompt_id: str, *, step: int) -> None:
    """Return once the server has heard of the step."""
    async for job in caller.app.runner.watch(prompt_id, seconds=5):
        if job.progress and job.progress.step == step:
            return


async def test_a_failed_job_is_no_error_itself(caller: Caller, comfyui: ComfyUIServer):
    """A failed job reports its error and is no error itself."""
    comfyui.fail("out_of_memory")
    await caller.generate("a fox")
    told = await read_json(caller, f"job://{comfyui.prompts[0]['prompt_id']}")
    assert (told["status"], told["error"]["code"], told["request"]["prompt"]) == ("failed", "out_of_memory", "a fox")


async def test_an_earlier_servers_job_keeps_its_request(connect, comfyui: ComfyUIServer):
    """A job of an earlier server still reports what was asked."""
    facts = (await (await connect()).generate("a fox", seed=8)).facts
    await anyio.to_thread.run_sync(comfyui.stop)
    told = await read_json(await successor(connect), f"job://{facts['prompt_id']}")
    assert {name: told[name] for name in facts} == {**facts, "seconds": pytest.approx(facts["seconds"], abs=0.02)}
    assert told["request"]["prompt"] == "a fox"


async def test_a_foreign_job_has_no_request(caller: Caller, comfyui: ComfyUIServer):
    """A job of another client reports nothing of what was asked."""
    theirs = await generate(comfyui, graph(seed=11))
    await caller.call("get_generation_status", prompt_id=theirs)
    told = await read_json(caller, f"job://{theirs}")
    assert (told["status"], told["seed"], told["request"]) == ("done", 11, None)


# -- jobs://recent ------------------------------------------------------------------------------------------------


@BOTH_ERAS
async def test_recent_jobs_list_their_images(caller: Caller, comfyui: ComfyUIServer):
    """Recent jobs are reported newest first each with its images."""
    first = (await caller.generate("a fox", seed=1)).facts
    comfyui.fail("out_of_memory", times=1)
    await caller.generate("x" * 300, seed=2)
    last, older = await read_json(caller, "jobs://recent")
    assert datetime.fromisoformat(last.pop("created")) >= datetime.fromisoformat(older.pop("created"))
    assert last == {
        "prompt_id": comfyui.prompts[1]["prompt_id"],
        "status": "failed",
        "prompt": "x" * 200,
        "seed": 2,
        "model": "flux1-schnell.safetensors",
        "images": [],
        "error": "out_of_memory",
    }
    assert older == {
        "prompt_id": first["prompt_id"],
        "status": "done",
        "prompt": "a fox",
        "seed": 1,
        "model": "flux1-schnell.safetensors",
        "images": [{"path": first["path"], "uri": f"image://{first['prompt_id']}/0"}],
        "error": None,
    }
    assert (await read(caller, older["images"][0]["uri"])).mime_type == "image/png"


async def test_recent_jobs_are_the_newest_20(caller: Caller):
    for seed in range(22):
        await caller.generate(seed=seed)
    assert [job["seed"] for job in await read_json(caller, "jobs://recent")] == list(range(21, 1, -1))


async def test_recent_jobs_are_read_from_the_journal_alone(connect, comfyui: ComfyUIServer):
    await (await connect()).generate()
    comfyui.requests.clear()
    later = await successor(connect)
    assert len(await read_json(later, "jobs://recent")) == 1
    assert comfyui.requests == []
    assert set(vars(later.app)) == {"settings", "engine_settings", "interrupted", "jobs"}


async def test_before_the_first_job_the_list_is_empty(caller: Caller):
    assert await read_json(caller, "jobs://recent") == []


@BOTH_ERAS
async def test_a_journal_that_cannot_be_used_is_told(connect, tmp_path: Path):
    (tmp_path / "file").touch()
    caller = await connect(IMAGE_GEN_STATE_DIR=tmp_path / "file")
    error = await error_of(caller, "jobs://recent")
    assert error.startswith(f"Job history is unavailable ({tmp_path / 'file' / 'jobs.sqlite3'}: ")
