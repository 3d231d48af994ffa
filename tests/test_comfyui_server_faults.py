"""The ComfyUI test double stops, starts and fails as it is told to."""

import asyncio
import io

import httpx2
import pytest
from httpx2.websockets import WebSocketDisconnect, WebSocketNetworkError, WebSocketUpgradeError
from PIL import Image

from tests import comfyui_client
from tests.comfyui_client import Json, connected, finished, recorded_graph, submit
from tests.comfyui_server import ComfyUIServer

# The double with the recorded models, and an HTTP client of it.
comfyui, client = comfyui_client.comfyui, comfyui_client.client


GONE = (WebSocketDisconnect, WebSocketNetworkError)
LOST = (httpx2.RemoteProtocolError, httpx2.ReadError)


# -- life ---------------------------------------------------------------------------------------------------------


async def test_a_restart_keeps_outputs_alone(comfyui, client):
    """A restart drops sockets and forgets all but outputs."""
    await finished(comfyui, client, await submit(client, recorded_graph()))
    comfyui.hold("step:1")
    url = comfyui.url
    async with connected(client) as socket:
        running = await submit(client, recorded_graph(seed=2))
        await comfyui.reached("step:1")
        comfyui.restart()
        with pytest.raises(GONE):
            await socket.until_end()
    comfyui.release("step:1")
    assert comfyui.url == url
    assert (await client.get(f"/history/{running}")).json() == {}
    response = await client.post("/prompt", json={"prompt": recorded_graph(seed=3)})
    assert response.json()["number"] == 0
    entry = await finished(comfyui, client, response.json()["prompt_id"])
    assert entry["outputs"]["9"]["images"][0]["filename"] == "sd15_00002_.png"


async def test_a_stopped_server_refuses_connections(comfyui, client):
    comfyui.stop()
    with pytest.raises(httpx2.ConnectError):
        await client.get("/queue")
    comfyui.start()
    assert (await client.get("/queue")).status_code == 200


async def test_rendered_and_finished_survive_a_restart(comfyui, client):
    """What was rendered and finished is known after a restart."""
    first = await submit(client, recorded_graph(seed=1))
    cached = await submit(client, recorded_graph(seed=1))
    await comfyui.until(lambda server: server.queue_remaining == 0)
    comfyui.hold("finishing")
    cut_off = await submit(client, recorded_graph(seed=2))
    await comfyui.reached("finishing")
    comfyui.restart()
    comfyui.release("finishing")
    comfyui.fail("out_of_memory", times=1)
    failed = await submit(client, recorded_graph(seed=3))
    last = await submit(client, recorded_graph(seed=2))
    await comfyui.until(lambda server: len(server.finished) == 3)
    assert failed not in comfyui.rendered
    assert comfyui.rendered == [first, cut_off, last]
    assert comfyui.finished == [first, cached, last]


# -- the socket ---------------------------------------------------------------------------------------------------


def about_prompts(heard: list[Json]) -> list[str]:
    """Return the types of the messages that are no broadcast."""
    return [message["type"] for message in heard if message["type"] != "status"]


@pytest.mark.parametrize("after", [0, 1, 6])
async def test_a_socket_is_cut_after_messages(comfyui, client, after):
    """A socket is cut once after so many messages about prompts."""
    comfyui.fail("drop_socket", after=after)
    async with connected(client) as socket:
        await submit(client, recorded_graph(seed=1))
        with pytest.raises(GONE):
            await socket.until_end()
        assert len(about_prompts(socket.heard)) == after
    assert comfyui.faults == set()
    await comfyui.until(lambda server: server.sockets == server.queue_remaining == 0)
    async with connected(client) as socket:
        await submit(client, recorded_graph(seed=2))
        assert (await socket.until_end())[-1]["type"] == "executing"


async def test_only_the_named_socket_is_cut(comfyui, client):
    """Only the socket that was reported so much is cut and as often as asked."""
    comfyui.fail("drop_socket", after=1, times=2)
    async with connected(client, "other") as other:
        for seed in range(2):
            async with connected(client) as socket:
                await submit(client, recorded_graph(seed=seed))
                with pytest.raises(GONE):
                    await socket.until_end()
                assert about_prompts(socket.heard) == ["execution_start"]
            await comfyui.until(lambda server: server.sockets == 1 and server.queue_remaining == 0)
        await submit(client, recorded_graph(seed=2), "other")
        assert (await other.until_end())[-1]["type"] == "executing"


async def test_a_socket_goes_silent_after_messages(comfyui, client):
    """A socket goes silent after so many messages about prompts until it is healed."""
    comfyui.fail("deaf_socket", after=2)
    comfyui.hold("step:1")
    async with connected(client) as socket:
        await submit(client, recorded_graph())
        await comfyui.reached("step:1")
        await client.get("/queue")  # by now what the first step told has gone its way
        comfyui.heal("deaf_socket")
        comfyui.release("step:1")
        heard = await socket.until_end()
    assert about_prompts(heard)[:2] == ["execution_start", "execution_cached"]
    assert next(m["data"]["value"] for m in heard if m["type"] == "progress") == 2


async def test_socket_faults(comfyui, client):
    """Socket faults drop deafen or refuse the socket."""
    comfyui.fail("drop_socket", at="step:1", times=1)
    async with connected(client) as socket:
        await submit(client, recorded_graph())
        with pytest.raises(GONE):
            await socket.until_end()
        assert socket.heard[-1]["type"] == "progress"
    await comfyui.until(lambda server: server.sockets == 0 and server.queue_remaining == 0)
    comfyui.fail("deaf_socket")
    async with connected(client) as socket:
        await finished(comfyui, client, await submit(client, recorded_graph(seed=4)))
        await socket.ping()
        comfyui.heal("deaf_socket")
        await submit(client, recorded_graph(seed=5))
        assert [m["data"]["status"]["exec_info"]["queue_remaining"] for m in [await socket.hear()]] == [1]
    comfyui.fail("no_socket")
    with pytest.raises(WebSocketUpgradeError):
        await connected(client).__aenter__()


# -- requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "queued"), [("lost_reply", 1), ("reply_500", 1), ("refuse_500", 0)])
async def test_a_lost_reply_may_hide_a_queued_prompt(comfyui, client, fault, queued):
    comfyui.fail(fault)
    comfyui.hold("pending")
    try:
        response = await client.post("/prompt", json={"prompt": recorded_graph(), "prompt_id": "mine"})
        assert response.status_code == 500
        assert response.headers["content-type"].startswith("text/plain")
    except httpx2.RemoteProtocolError:
        assert fault == "lost_reply"
    assert comfyui.queue_remaining == queued


async def test_a_lost_request_is_cut_and_queues_nothing(comfyui, client):
    comfyui.fail("lost_request", times=1)
    with pytest.raises(LOST):
        await submit(client, recorded_graph())
    assert comfyui.queue_remaining == 0
    assert comfyui.prompts == []
    assert [(seen.method, seen.path) for seen in comfyui.requests] == [("POST", "/prompt")]
    await finished(comfyui, client, await submit(client, recorded_graph()))


async def test_a_late_prompt_is_queued(comfyui, client):
    """A late prompt is queued when its client has given up."""
    comfyui.hold("pending")
    comfyui.fail("late_prompt", seconds=0.2, times=1)
    with pytest.raises(LOST):
        await submit(client, recorded_graph())
    assert (await client.get("/queue")).json() == {"queue_running": [], "queue_pending": []}
    await comfyui.until(lambda server: server.queue_remaining == 1)
    assert len(comfyui.prompts) == 1


async def test_a_stalled_comfyui_answers_when_it_is_healed(comfyui, client):
    comfyui.fail("stalled")
    asked = [asyncio.ensure_future(client.get(path)) for path in ("/queue", "/history/unknown")]
    await comfyui.until(lambda server: len(server.requests) == 2)
    assert (await client.get("/prompt")).status_code == 200
    assert not any(answer.done() for answer in asked)
    comfyui.heal("stalled")
    assert [(await answer).status_code for answer in asked] == [200, 200]


@pytest.mark.parametrize("path", ["/prompt", "POST /prompt", "/"])
async def test_a_stalled_request_ends_with_the_server(comfyui, client, path):
    """Another request can stall and ends with the server."""
    comfyui.fail("stalled", paths=(path,), times=1)
    submission = asyncio.ensure_future(submit(client, recorded_graph()))
    await comfyui.until(lambda server: server.requests and not server.faults)
    assert (await client.get("/queue")).json()["queue_pending"] == []
    comfyui.stop()
    with pytest.raises(LOST):
        await submission
    assert comfyui.prompts == []


async def test_a_handshake_can_stall_until_its_client_leaves(comfyui, client):
    comfyui.fail("stalled", paths=("/ws",))
    opening = asyncio.ensure_future(connected(client).__aenter__())
    await comfyui.until(lambda server: server.requests)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    assert comfyui.client_ids == []
    comfyui.heal("stalled")
    async with connected(client):
        assert comfyui.sockets == 1


async def test_history_and_view_faults_last(comfyui, client):
    """History and view faults last as long as they say."""
    comfyui.fail("history_late", reads=2)
    prompt_id = await submit(client, recorded_graph())
    await comfyui.until(lambda server: server.queue_remaining == 0)
    reads = [(await client.get(f"/history/{prompt_id}")).json() for _ in range(3)]
    assert [bool(read) for read in reads] == [False, False, True]
    image = reads[-1][prompt_id]["outputs"]["9"]["images"][0]
    comfyui.fail("truncated_view", at=50, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get("/view", params=image)
    comfyui.fail("file_gone", times=1)
    comfyui.fail("view_500", times=1)
    statuses = [(await client.get("/view", params=image)).status_code for _ in range(3)]
    assert statuses == [500, 404, 200]
    assert comfyui.faults == {"history_late"}


async def saved_image(comfyui: ComfyUIServer, client: httpx2.AsyncClient) -> Json:
    """Generate an image and return what /view wants to know of it."""
    entry = await finished(comfyui, client, await submit(client, recorded_graph()))
    return entry["outputs"]["9"]["images"][0]


async def test_a_short_file_comes_whole(comfyui, client):
    """A file shorter than its truncation comes whole over a connection that lives on."""
    image = await saved_image(comfyui, client)
    (whole,) = comfyui.files.outputs.values()
    comfyui.fail("truncated_view", at=len(whole))
    for _ in range(2):
        assert (await client.get("/view", params=image)).content == whole
    comfyui.fail("truncated_view", at=len(whole) - 1, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get("/view", params=image)
    assert (await client.get("/view", params=image)).content == whole


async def test_a_slow_view_trickles_until_its_client_leaves(comfyui, client):
    image = await saved_image(comfyui, client)
    (whole,) = comfyui.files.outputs.values()
    comfyui.fail("slow_view", seconds=60, times=1)
    async with client.stream("GET", "/view", params=image) as response:
        assert response.headers["content-length"] == str(len(whole))
        assert await anext(response.aiter_raw()) == whole[:1]
    comfyui.fail("slow_view", chunk=len(whole) // 2, seconds=0)
    assert (await client.get("/view", params=image)).content == whole


# -- runs ---------------------------------------------------------------------------------------------------------


async def test_a_stuck_sampler_ends_by_an_interrupt(comfyui, client):
    comfyui.fail("stuck")
    async with connected(client) as socket:
        prompt_id = await submit(client, recorded_graph())
        while (await socket.hear())["data"].get("node") != "7":
            pass
        await client.post("/interrupt", json={"prompt_id": prompt_id})
        assert (await socket.until_end())[0]["type"] == "execution_interrupted"


async def test_a_login_wall_answers_everything(comfyui, client):
    comfyui.fail("unauthorized", header=("Authorization", "Bearer x"))
    assert (await client.get("/queue")).status_code == 401
    with pytest.raises(WebSocketUpgradeError):
        await connected(client).__aenter__()
    assert (await client.get("/queue", headers={"Authorization": "Bearer x"})).status_code == 200
    comfyui.heal("unauthorized")
    comfyui.fail("html")
    assert (await client.post("/prompt", json={})).headers["content-type"].startswith("text/html")
    with pytest.raises(WebSocketUpgradeError):
        await connected(client).__aenter__()


async def test_a_black_image_is_a_success(comfyui, client):
    comfyui.fail("black")
    entry = await finished(comfyui, client, await submit(client, recorded_graph()))
    content = (await client.get("/view", params=entry["outputs"]["9"]["images"][0])).content
    with Image.open(io.BytesIO(content)) as image:
        assert image.getextrema() == ((0, 0), (0, 0), (0, 0))


def test_a_misspelt_fault_or_point_is_refused():
    server = ComfyUIServer()
    with pytest.raises(ValueError, match="drop_socket"):
        server.fail("dropped_socket")
    with pytest.raises(ValueError, match="loading"):
        server.hold("step")
