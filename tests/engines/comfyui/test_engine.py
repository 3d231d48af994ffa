"""The engine behind its contract, where no MCP client can bring the case about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import pytest
import respx

from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineUnreachable,
    GenerationFailed,
    ImageGenError,
    ModelNotFound,
    NodeMissing,
    WorkflowRejected,
)
from mcp_image_gen_local.domain.job import JobStatus, Plan, Progress, Ticket
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.engines.comfyui import ENGINE, queueing, socket
from mcp_image_gen_local.engines.comfyui import follow as following
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient
from mcp_image_gen_local.engines.comfyui.events import (
    Disconnected,
    Ended,
    Event,
    NodeOutput,
    NodeRunning,
    Preview,
    Started,
    Step,
)
from mcp_image_gen_local.engines.comfyui.follow import Follower
from mcp_image_gen_local.storage.inputs import InputImages
from tests.comfyui_server import ComfyUIServer
from tests.engines.others import generate, graph, submit

OURS = "6fa459ea-ee8a-4ca4-894e-db77e160355e"
THEIRS = "16fd2706-8baf-433b-82eb-8c7fada847da"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    """Give an engine for the URL and close it."""
    made = ENGINE.make(ENGINE.settings(COMFYUI_URL=url))
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
async def comfy(comfyui: ComfyUIServer) -> AsyncIterator[Any]:
    async with opened(comfyui.url) as made:
        yield made


def planned(payload: Any) -> Plan:
    return Plan(seed=1, model="m", payload=payload)


def ticket(prompt_id: str) -> Ticket:
    return Ticket(host="http://gpu", id=prompt_id)


# -- graphs that ComfyUI does not take ----------------------------------------------------------------------------


async def test_a_half_valid_graph_is_refused(comfy, comfyui: ComfyUIServer):
    """A graph that ComfyUI would generate in part is refused and cancelled.

    It answers 200, drops the invalid output, and would call the rest a success.
    """
    half = graph()
    half["10"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "bad"}}
    comfyui.hold("pending")
    with pytest.raises(WorkflowRejected, match="node SaveImage: Required input is missing: images"):
        await comfy.submit(planned(half), OURS)
    assert comfyui.deleted == [OURS]
    assert comfyui.queue_remaining == 0
    await comfyui.until(lambda server: server.sockets == 0)


def cyclic() -> dict[str, Any]:
    cycle = graph()
    scale = {"image": ["20", 0], "upscale_method": "area", "width": 64, "height": 64, "crop": "disabled"}
    cycle["20"] = {"class_type": "ImageScale", "inputs": scale}
    cycle["9"]["inputs"]["images"] = ["20", 0]
    return cycle


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"ckpt_name": "nope.safetensors"}, ModelNotFound, "has no file 'nope.safetensors'"),
        ({"class_type": "NoSuchLoader"}, NodeMissing, "has no node 'NoSuchLoader'"),
        ({"cycle": True}, WorkflowRejected, "Prompt outputs failed validation ComfyUI's log says more"),
    ],
)
async def test_a_refusal_leaves_nothing_open(comfy, comfyui: ComfyUIServer, change, kind, text):
    """A refusal of ComfyUI's own is reported and leaves nothing open."""
    bad = cyclic() if "cycle" in change else graph()
    bad["1"]["class_type"] = change.get("class_type", "CheckpointLoaderSimple")
    bad["1"]["inputs"]["ckpt_name"] = change.get("ckpt_name", "sd_xl_base_1.0.safetensors")
    with pytest.raises(kind, match=text):
        await comfy.submit(planned(bad), OURS)
    assert comfyui.queue_remaining == 0
    await comfyui.until(lambda server: server.sockets == 0)


async def test_a_refusal_that_is_no_json_is_told(httpx2_mock):
    httpx2_mock.post("/prompt").respond(413, text="Maximum request body size 104857600 exceeded.")
    httpx2_mock.get("/ws").respond(404)
    async with opened("http://gpu:8188") as comfy:
        with pytest.raises(WorkflowRejected, match="too large"):
            await comfy.submit(planned(graph()), OURS)


async def test_a_lost_reply_is_found_in_the_queue(comfy, comfyui: ComfyUIServer):
    """A prompt whose reply was lost is found in the queue."""
    comfyui.hold("pending")
    comfyui.fail("lost_reply")
    await comfy.submit(planned(graph()), OURS)
    assert (len(comfyui.prompts), comfyui.queue_remaining) == (1, 1)


async def test_a_lost_reply_is_found_in_the_history(comfy, comfyui: ComfyUIServer):
    """A prompt whose reply was lost is found in the history as well.

    A quick job has left the queue before anybody looks.
    """
    done = await generate(comfyui, graph())
    comfyui.fail("refuse_500")
    await comfy.submit(planned(graph()), done)
    assert len([image async for image in comfy.fetch(ticket(done))]) == 1


async def test_a_plan_of_another_engine_is_a_mistake_of_ours(comfy):
    with pytest.raises(TypeError, match="another engine"):
        await comfy.submit(planned("a request body"), OURS)


async def test_a_comfyui_with_its_own_ids_is_too_old(httpx2_mock):
    """A ComfyUI that gives its own prompt ids is reported as too old.

    Before 0.3.45 the prompt_id in the request was not looked at; the job must not stay there unnoticed.
    """
    pending = {"queue_running": [], "queue_pending": [[1, THEIRS, {}, {}, []]]}
    empty = {"queue_running": [], "queue_pending": []}
    httpx2_mock.post("/prompt").respond(json={"prompt_id": THEIRS, "number": 1, "node_errors": {}})
    queues = iter([pending])
    httpx2_mock.get("/queue").mock(side_effect=lambda _: respx.MockResponse(200, json=next(queues, empty)))
    delete = httpx2_mock.post("/queue", json={"delete": [THEIRS]}).respond(200)
    httpx2_mock.get(f"/history/{THEIRS}").respond(json={})
    httpx2_mock.get("/ws").respond(404)
    async with opened("http://gpu:8188") as old:
        with pytest.raises(EngineAnswerUnusable, match=r"too old.*Update ComfyUI to 0\.3\.57"):
            await old.submit(planned(graph()), OURS)
    assert delete.call_count == 1


# -- a socket that does not open ----------------------------------------------------------------------------------


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, asyncio.Event, asyncio.Event]]:
    """Give a URL where connections are taken and never answered, and events: one was opened, one was closed."""
    connected, closed = asyncio.Event(), asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        while await reader.read(1000):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", connected, closed


async def test_a_cancelled_submission_leaves_nothing():
    """A submission that is cancelled while the socket opens leaves nothing open."""
    async with silent_server() as (url, connected, closed), opened(url) as stuck, asyncio.timeout(20):
        submission = asyncio.ensure_future(stuck.submit(planned(graph()), OURS))
        await connected.wait()
        submission.cancel()
        await closed.wait()


async def test_a_socket_that_never_opens_is_done_without(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "CONNECT_SECONDS", 0.05)
    async with silent_server() as (url, _, closed), opened(url) as stuck, asyncio.timeout(20):
        stream = stuck._stream
        assert await stream.subscribe(OURS)
        assert await stream.inbox(OURS).get() == Disconnected()
        await closed.wait()


async def test_a_flood_of_events_is_cut(comfy):
    """Of a flood the newest are left out: polling tells what they would have told."""
    stream = comfy._stream
    await stream.subscribe(OURS)  # connected: a test server that is stopped in mid-handshake leaves a socket behind
    inbox = stream.inbox(OURS)
    for _ in range(5000):
        stream._dispatch(OURS, Preview(b"x" * 1000))
        stream._dispatch(OURS, Started())
    assert inbox.qsize() <= socket.MAX_EVENTS
    assert sum(isinstance(inbox.get_nowait(), Preview) for _ in range(inbox.qsize())) <= socket.MAX_PREVIEWS


# -- cancelling ---------------------------------------------------------------------------------------------------


async def test_cancelling_a_loading_job_has_a_bound(comfy, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """Cancelling a job that is loading its model is not waited for without end."""
    comfyui.hold("loading")
    theirs = await submit(comfyui, graph())
    await comfyui.reached("loading")
    with monkeypatch.context() as patch:
        patch.setattr(queueing, "CANCEL_SECONDS", 0.1)
        assert await comfy.cancel(ticket(theirs)) is False
    assert set(comfyui.interrupted) == {theirs}
    comfyui.release("loading")
    assert await comfy.cancel(ticket(theirs)) is True


async def test_cancelling_the_unknown_succeeds(comfy, comfyui: ComfyUIServer):
    """Cancelling what ComfyUI does not know succeeds."""
    assert await comfy.cancel(ticket(OURS)) is True
    assert not [seen for seen in comfyui.requests if seen.method == "POST"]


# -- following ----------------------------------------------------------------------------------------------------


async def test_the_socket_alone_is_enough(comfy, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    """The socket alone reports steps previews and the end."""
    monkeypatch.setattr(following, "POLL_SECONDS", 5)
    comfyui.previews = True
    await comfy.submit(planned(graph()), OURS)
    told = [progress async for progress in comfy.follow(ticket(OURS))]
    assert "generating, step 2/2" in [progress.describe() for progress in told]
    assert [progress.preview[:3] for progress in told if progress.preview] == [b"\xff\xd8\xff"] * 2
    (image,) = [image async for image in comfy.fetch(ticket(OURS))]
    assert image.source.startswith(f"{comfyui.url}/view?filename={OURS}_00001_.png")


async def follow(comfyui: ComfyUIServer, prompt_id: str, *events: Event, nodes: Any = None) -> list[Progress]:
    """Follow the prompt with an inbox that holds the events; return the progress."""
    inbox: asyncio.Queue[Event] = asyncio.Queue()
    for event in events:
        inbox.put_nowait(event)
    client = ComfyUIClient(comfyui.url, {})
    try:
        return [progress async for progress in Follower(client, inbox, prompt_id, nodes or graph()).events()]
    finally:
        await client.aclose()


async def test_phases_in_words_steps_of_the_sampler(comfyui: ComfyUIServer):
    """Phases are reported in words and steps of the sampler alone."""
    theirs = await generate(comfyui, graph())
    nodes = graph()
    nodes["20"] = {"class_type": "ImageUpscaleWithModel", "inputs": {}}
    progress = await follow(
        comfyui, theirs, Started(), NodeRunning("1"), NodeRunning("7"), Step("7", 1, 2), NodeRunning("20"),
        Step("20", 3, 9), NodeRunning("unheard of"), Ended("success"), nodes=nodes,
    )  # fmt: skip
    assert [p.describe() for p in progress] == [
        "loading the model", "loading the model", "generating", "generating, step 1/2", "working", "working",
    ]  # fmt: skip
    assert {p.status for p in progress} == {JobStatus.RUNNING}


async def test_a_success_without_an_image_is_looked_up(comfyui: ComfyUIServer):
    """A success that names no image is looked up in a history that lags behind."""
    comfyui.fail("history_late", reads=3)
    theirs = await generate(comfyui, graph())
    assert await follow(comfyui, theirs, NodeOutput("3", ()), Ended("success")) == []


async def test_a_success_that_is_named_nowhere_is_a_failure(comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "HISTORY_DELAYS", (0, 0.001))
    with pytest.raises(GenerationFailed, match="neither names it nor keeps a history"):
        await follow(comfyui, OURS, Ended("success"))


@pytest.mark.parametrize("fault", ["stop", "html"])
async def test_a_comfyui_that_stays_away_is_given_up(comfyui: ComfyUIServer, fault):
    if fault == "html":
        comfyui.fail("html")
    else:
        await anyio.to_thread.run_sync(comfyui.stop)
    with pytest.raises(EngineUnreachable if fault == "stop" else EngineAnswerUnusable):
        await follow(comfyui, OURS, Disconnected())


# -- looking ------------------------------------------------------------------------------------------------------


async def test_the_check_tells_version_and_devices(comfy, comfyui: ComfyUIServer):
    comfyui.system_stats["devices"] = [
        {"name": "cuda:0 AMD Radeon RX 7900 XTX", "vram_total": 24 * 2**30},
        {"name": "privateuse", "vram_total": None},
    ]
    assert await comfy.check() == (
        f"ComfyUI 0.3.64 at {comfyui.url}, on cuda:0 AMD Radeon RX 7900 XTX (24 GiB), privateuse (0 GiB)"
    )


async def test_a_server_that_says_nothing_of_itself(comfy, comfyui: ComfyUIServer):
    """A server that reports nothing of itself is a ComfyUI all the same."""
    comfyui.system_stats.clear()
    assert await comfy.check() == f"ComfyUI of unknown version at {comfyui.url}, on an unknown device"


@pytest.mark.parametrize(
    ("change", "is_whole"), [(lambda png: png + b"notes" * 500, True), (lambda png: png[:-8], False)]
)
async def test_a_forgotten_file_is_known_by_its_end(comfy, comfyui: ComfyUIServer, change, is_whole):
    """Programs append notes to a finished image; one that was being written has no end."""
    comfyui.files.outputs[f"mcp-image-gen/{OURS}_00001_.png"] = change(comfyui.image(64, 64, 1, "", 0))
    assert (await comfy.lookup(ticket(OURS)) is not None) is is_whole


async def test_node_classes_are_asked_for_once(comfy, comfyui: ComfyUIServer):
    for _ in range(3):
        await comfy.plan(GenerationRequest(prompt="a fox"), InputImages([]))
    asked = [seen.path for seen in comfyui.requests if seen.path.startswith("/object_info/")]
    assert len(asked) == len(set(asked))


async def test_planning_twice_gives_the_same_error(comfy):
    """Planning the same request twice gives the same error."""
    for _ in range(2):
        with pytest.raises(ImageGenError, match="sampler='nope' is unknown"):
            await comfy.plan(GenerationRequest(prompt="a fox", sampler="nope"), InputImages([]))
