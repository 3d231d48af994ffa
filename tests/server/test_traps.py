"""What ComfyUI, its socket and other clients do to a job, seen through an MCP client."""

import asyncio
import json
import re
from pathlib import Path

import anyio.to_thread
import pytest
from PIL import Image

from mcp_image_gen_local.engines.comfyui import client, follow
from tests.comfyui_images import generate as paint
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.engines.others import generate, graph, post, submit

BOTH_ERAS = pytest.mark.parametrize("era", ["modern", "handshake"])


@pytest.fixture
def era() -> str:
    """One era, where a test does not ask for both: the traps lie behind the door."""
    return "modern"


# -- socket and history -------------------------------------------------------------------------------------------


@BOTH_ERAS
@pytest.mark.parametrize("fault", ["deaf_socket", "no_socket", "drop_socket"])
async def test_a_broken_socket_costs_progress_but_no_image(caller: Caller, comfyui: ComfyUIServer, fault):
    comfyui.fail(fault)
    answer = await caller.generate(seed=3)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 3)
    assert len(comfyui.prompts) == 1


async def test_a_socket_that_breaks_half_way_costs_no_image(caller: Caller, comfyui: ComfyUIServer):
    comfyui.fail("drop_socket", at="step:2")
    comfyui.hold("step:3")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:3")
    await comfyui.until(lambda server: server.sockets == 0)
    comfyui.release("step:3")
    assert (await call).facts["status"] == "done"
    assert [text for _, _, text in caller.progress if "step 2/4" in text]


async def test_jobs_share_a_socket(caller: Caller, comfyui: ComfyUIServer):
    """Jobs at the same time share a socket and the last one closes it."""
    comfyui.hold("step:1")
    calls = [asyncio.ensure_future(caller.generate(seed=n)) for n in range(2)]
    await comfyui.until(lambda server: server.queue_remaining == 2)
    assert len(comfyui.client_ids) == comfyui.sockets == 1
    comfyui.release("step:1")
    assert [(await call).facts["seed"] for call in calls] == [0, 1]
    await comfyui.until(lambda server: server.sockets == 0)


@pytest.mark.parametrize("fault", [None, "deaf_socket"])
async def test_a_history_that_lags_behind_is_waited_for(caller: Caller, comfyui: ComfyUIServer, fault):
    comfyui.fail("history_late", reads=2)
    if fault:
        comfyui.fail(fault)
    assert (await caller.generate()).facts["status"] == "done"


async def test_an_empty_history_costs_no_image(caller: Caller, comfyui: ComfyUIServer):
    """A history that stays empty costs no image while the socket names it."""
    comfyui.fail("history_empty")
    assert (await caller.generate()).facts["status"] == "done"


async def test_a_job_in_neither_queue_nor_history_is_lost(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("pending")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.until(lambda server: server.queue_remaining == 1)
    await post(comfyui, "/queue", {"clear": True})
    assert "no longer knows the job" in (await call).error


async def test_a_forgotten_image_is_found_by_its_name(caller: Caller, comfyui: ComfyUIServer):
    """An image of a job that ComfyUI has forgotten is found by its name."""
    comfyui.fail("history_empty")
    comfyui.fail("deaf_socket")
    answer = await caller.generate(seed=3)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 3)
    assert len(comfyui.rendered) == 1


# -- sending the job ----------------------------------------------------------------------------------------------


@BOTH_ERAS
@pytest.mark.parametrize("fault", ["lost_reply", "reply_500"])
async def test_a_lost_reply_generates_once(caller: Caller, comfyui: ComfyUIServer, fault):
    """A reply that is lost after queueing does not generate twice."""
    comfyui.fail(fault)
    answer = await caller.generate(seed=5)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 5)
    assert len(comfyui.prompts) == len(comfyui.files.outputs) == 1


async def test_a_500_that_queued_nothing_is_an_error(caller: Caller, comfyui: ComfyUIServer):
    """A 500 that queued nothing is an error that allows another call."""
    comfyui.fail("refuse_500", times=1)
    error = (await caller.generate()).error
    assert error.startswith("ComfyUI did not take the job: HTTP 500: 500 Internal Server Error")
    assert "calling again is safe" in error
    assert (comfyui.prompts, comfyui.queue_remaining) == ([], 0)
    assert (await caller.generate()).facts["status"] == "done"


async def test_a_login_page_instead_of_comfyui_is_told(caller: Caller, comfyui: ComfyUIServer):
    comfyui.fail("html")
    error = (await caller.generate()).error
    assert error.startswith(f"{comfyui.url}/object_info/")
    assert "COMFYUI_URL must be the address of ComfyUI itself, not of a login page" in error


async def test_one_unusable_answer_costs_no_job(caller: Caller, comfyui: ComfyUIServer):
    """An answer that is unusable for a moment does not cost the job.

    A proxy before a busy or starting ComfyUI answers with pages of its own.
    """
    comfyui.fail("deaf_socket")
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    comfyui.fail("html", times=1)
    await comfyui.until(lambda server: "html" not in server.faults)
    comfyui.release("step:1")
    assert (await call).facts["status"] == "done"


# -- who may come in ----------------------------------------------------------------------------------------------


async def test_a_guarded_comfyui_names_the_variables(caller: Caller, comfyui: ComfyUIServer):
    """Without credentials a guarded ComfyUI names the variables to set."""
    comfyui.fail("unauthorized", header=("Authorization", "Bearer s3cret"))
    assert (await caller.generate()).error == (
        f"{comfyui.url} refused access (HTTP 401). "
        "Set COMFYUI_TOKEN or COMFYUI_HEADERS to what the proxy before ComfyUI expects."
    )


@pytest.mark.parametrize(
    ("header", "settings"),
    [
        (("Authorization", "Bearer s3cret"), {"COMFYUI_TOKEN": "s3cret"}),
        (("X-Api-Key", "k3y"), {"COMFYUI_HEADERS": '{"X-Api-Key": "k3y"}'}),
    ],
)
async def test_credentials_open_a_guarded_comfyui(
    connect, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch, header, settings
):
    """Credentials open a guarded ComfyUI and its socket."""
    monkeypatch.setattr(follow, "POLL_SECONDS", 5)  # the socket alone tells the end
    comfyui.fail("unauthorized", header=header)
    caller = await connect(**settings)
    assert (await caller.generate()).facts["status"] == "done"
    sockets = [seen for seen in comfyui.requests if seen.method == "WEBSOCKET"]
    assert [seen.headers[header[0].lower()] for seen in sockets] == [header[1]]
    assert [text for _, _, text in caller.progress if "step 4/4" in text]


# -- what others do -----------------------------------------------------------------------------------------------


@BOTH_ERAS
async def test_a_foreign_interrupt_is_a_cancel(caller: Caller, comfyui: ComfyUIServer):
    """A job that another client interrupts is cancelled not failed. ComfyUI's own history calls it an error."""
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    await post(comfyui, "/interrupt", {})
    assert "was interrupted at ComfyUI, by its Cancel button or another program" in (await call).error
    status = await caller.call("get_generation_status", prompt_id=comfyui.prompts[0]["prompt_id"])
    assert status.facts["status"] == "cancelled"


async def test_a_queue_cleared_by_another_client(caller: Caller, comfyui: ComfyUIServer):
    """A queue that another client clears loses the job."""
    comfyui.hold("pending")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.until(lambda server: server.queue_remaining == 1)
    await post(comfyui, "/queue", {"clear": True})
    error = (await call).error
    assert re.match(r"ComfyUI no longer knows the job [-0-9a-f]{36}: its queue was cleared, or", error)
    assert error.endswith("Call generate_image again.")


async def test_cancelling_leaves_a_foreign_job_alone(caller: Caller, comfyui: ComfyUIServer):
    """Cancelling our waiting job leaves another client's running one alone."""
    comfyui.hold("step:1")
    theirs = await submit(comfyui, graph())
    await comfyui.reached("step:1")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.until(lambda server: server.queue_remaining == 2)
    call.cancel()
    await comfyui.until(lambda server: len(server.deleted) == 1)
    comfyui.release("step:1")
    await comfyui.until(lambda server: theirs in server.history)
    assert comfyui.history[theirs]["status"]["status_str"] == "success"
    assert comfyui.deleted == [comfyui.prompts[1]["prompt_id"]]
    assert comfyui.interrupted == []


async def test_a_stuck_job_can_be_cancelled(caller: Caller, comfyui: ComfyUIServer):
    comfyui.fail("stuck")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.until(lambda server: any(s.method == "POST" for s in server.requests) and server.queue_remaining == 1)
    call.cancel()
    await comfyui.until(lambda server: server.interrupted or server.deleted)
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert comfyui.files.outputs == {}


@BOTH_ERAS
async def test_a_comfyui_that_dies_is_unreachable(caller: Caller, comfyui: ComfyUIServer):
    """A ComfyUI that dies while it generates is reported as not reachable."""
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    await anyio.to_thread.run_sync(comfyui.stop)
    error = (await call).error
    assert error.startswith(f"ComfyUI not reachable at {comfyui.url}. Start with: python main.py --listen 127.0.0.1")
    assert f'get_generation_status(prompt_id="{comfyui.prompts[0]["prompt_id"]}")' in error


async def test_a_restarted_comfyui_gets_the_job_again(caller: Caller, comfyui: ComfyUIServer):
    """A ComfyUI that is restarted while it generates gets the job again, and loses it for good the second time."""
    comfyui.hold("step:1")
    call = asyncio.ensure_future(caller.generate(seed=9))
    for count in (1, 2):
        await comfyui.until(lambda server, count=count: len(server.prompts) == count)
        await comfyui.reached("step:1")
        await anyio.to_thread.run_sync(comfyui.restart)
    error = (await call).error
    assert "ComfyUI no longer knows the job" in error
    assert "was lost again. Call generate_image again (seed=9 generates the same image)." in error
    status = await caller.call("get_generation_status", prompt_id=comfyui.prompts[0]["prompt_id"])
    assert (status.facts["status"], len(comfyui.prompts)) == ("lost", 2)


# -- images -----------------------------------------------------------------------------------------------------


async def test_the_size_told_is_that_of_the_real_image(caller: Caller, comfyui: ComfyUIServer):
    comfyui.image = lambda *_: paint(48, 40, 1, "", 0)
    facts = (await caller.generate()).facts
    assert (facts["width"], facts["height"]) == (48, 40)


async def test_an_image_of_one_colour_comes_with_a_warning(caller: Caller, comfyui: ComfyUIServer):
    """A NaN in the model generates black and calls that a success."""
    comfyui.fail("black")
    answer = await caller.generate()
    assert answer.facts["status"] == "done"
    assert "Warning: the image has one colour only" in answer.story
    comfyui.heal("black")
    assert "Warning" not in (await caller.generate()).story


@pytest.mark.parametrize("fault", ["truncated_view", "view_500"])
async def test_an_image_that_arrives_broken_is_fetched_again(caller: Caller, comfyui: ComfyUIServer, fault):
    comfyui.fail(fault, times=2)
    answer = await caller.generate()
    assert answer.image().size == (64, 64)
    assert [seen.path for seen in comfyui.requests].count("/view") == 3


async def test_an_image_that_comfyui_no_longer_has_is_told(caller: Caller, comfyui: ComfyUIServer):
    comfyui.fail("file_gone")
    error = (await caller.generate()).error
    assert re.match(r"ComfyUI returned HTTP 404 for its output image '\S+_00001_.png'\.", error)


async def test_a_cached_rerun_whose_file_was_deleted_is_told(caller: Caller, comfyui: ComfyUIServer):
    await generate(comfyui, graph())
    again = await generate(comfyui, graph())
    comfyui.files.outputs.clear()
    status = (await caller.call("get_generation_status", prompt_id=again)).facts
    assert (status["status"], status["error"]["code"]) == ("failed", "image_gone")


async def test_images_of_several_output_nodes(caller: Caller, comfyui: ComfyUIServer):
    """The images of several output nodes are all taken."""
    several = graph()
    several["10"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "second"}}
    answer = await caller.call("get_generation_status", prompt_id=await generate(comfyui, several))
    assert len(answer.facts["images"]) == len(answer.images) == 2
    assert all(Path(image["path"]).is_file() for image in answer.facts["images"])


async def test_saved_images_come_before_previews(caller: Caller, comfyui: ComfyUIServer):
    """Saved images come before previews and previews before nothing."""
    both, preview = graph("two_outputs"), graph("two_outputs")
    del preview["9"]
    answers = [
        await caller.call("get_generation_status", prompt_id=await generate(comfyui, either))
        for either in (both, preview)
    ]
    assert [len(answer.images) for answer in answers] == [1, 1]
    kinds = [seen.query["type"] for seen in comfyui.requests if seen.path == "/view"]
    assert kinds == ["output", "temp"]


@pytest.mark.parametrize("prefix", ["lab/deep/er", "a b/c d", "50% #1 & more+é"])
async def test_odd_file_names_and_subfolders_are_found(caller: Caller, comfyui: ComfyUIServer, prefix):
    odd = graph()
    odd["9"]["inputs"]["filename_prefix"] = prefix
    answer = await caller.call("get_generation_status", prompt_id=await generate(comfyui, odd))
    with Image.open(answer.facts["path"]) as saved:
        assert json.loads(saved.text["mcp-image-gen"])["filename_prefix"] == prefix
    assert f"{prefix}_00001_.png" in comfyui.files.outputs


async def test_a_job_that_ends_without_an_image_is_told(caller: Caller, comfyui: ComfyUIServer):
    text = {"1": {"class_type": "PreviewAny", "inputs": {"source": "hello"}}}
    status = (await caller.call("get_generation_status", prompt_id=await generate(comfyui, text))).facts
    assert status["error"]["message"] == "ComfyUI finished without an image."


# -- a ComfyUI that is too old ------------------------------------------------------------------------------------


def asked(comfyui: ComfyUIServer, path: str) -> int:
    return sum(seen.path == path for seen in comfyui.requests)


@BOTH_ERAS
async def test_an_old_comfyui_gets_no_job(caller: Caller, comfyui: ComfyUIServer, tmp_path: Path):
    """It would queue the job under an id of its own; nothing is left behind there, no input image either."""
    comfyui.system_stats["system"]["comfyui_version"] = "0.3.30"
    sketch = tmp_path / "images" / "sketch.png"
    sketch.parent.mkdir()
    sketch.write_bytes(paint(16, 16, 1, "", 0))
    error = (await caller.generate(init_image=str(sketch))).error
    assert f"The ComfyUI at {comfyui.url} is too old: it is version 0.3.30" in error
    assert "Update ComfyUI to 0.3.57 or newer." in error
    assert [seen.path for seen in comfyui.requests if seen.method == "POST"] == []
    comfyui.system_stats["system"]["comfyui_version"] = "0.3.57"
    assert (await caller.generate()).facts["status"] == "done"


async def test_the_version_is_asked_for_once(caller: Caller, comfyui: ComfyUIServer):
    for _ in range(2):
        assert (await caller.generate()).facts["status"] == "done"
    assert asked(comfyui, "/system_stats") == 1


async def test_a_proxy_may_keep_the_version_back(
    caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch
):
    """It costs one wait, and no image."""
    monkeypatch.setattr(client, "ASK_SECONDS", 0.5)
    comfyui.fail("stalled", paths=("GET /system_stats",))
    for _ in range(2):
        assert (await caller.generate()).facts["status"] == "done"
    assert asked(comfyui, "/system_stats") == 1
