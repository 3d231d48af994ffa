"""The ComfyUI test double behaves as the recorded ComfyUI 0.3.64 did."""

import copy
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from httpx2.websockets import WebSocketDisconnect, WebSocketNetworkError, WebSocketUpgradeError
from PIL import Image

from tests.comfyui_nodes import options, recording
from tests.comfyui_server import ComfyUIServer

Json = dict[str, Any]
CHECKPOINTS = [
    *("broken.safetensors", "flux1-schnell-fp8.safetensors", "sd3.5_medium.safetensors", "sd_xl_base_1.0.safetensors"),
    *("sub dir/sd15 copy é.safetensors", "unknown_arch.safetensors", "v1-5-pruned-emaonly-fp16.safetensors"),
]


@pytest.fixture
def comfyui() -> Iterator[ComfyUIServer]:
    with ComfyUIServer(models={"checkpoints": CHECKPOINTS, "vae": ["ae.safetensors"]}) as server:
        yield server


@pytest.fixture
async def client(comfyui: ComfyUIServer) -> AsyncIterator[httpx2.AsyncClient]:
    # Without certificates, whose loading would take longer than most tests.
    async with httpx2.AsyncClient(base_url=comfyui.url, verify=False) as client:
        with anyio.fail_after(5):
            yield client


def recorded_graph(**sampler: Any) -> Json:
    """Return the SD 1.5 graph of the recordings, with other KSampler inputs."""
    (entry,) = recording("history_success.json").values()
    graph = copy.deepcopy(entry["prompt"][2])
    graph["7"]["inputs"].update(sampler)
    return graph


class Socket:
    """A client's socket that keeps what it hears."""

    def __init__(self, session: Any, client_id: str) -> None:
        self.client_id = client_id
        self.heard: list[Json] = []
        self._session = session

    async def hear(self) -> Json:
        event = await self._session.receive()
        data = event.data
        frame = {"type": int.from_bytes(data[:4], "big")} if isinstance(data, bytes | bytearray) else json.loads(data)
        self.heard.append(frame)
        return frame

    async def until_end(self) -> list[Json]:
        """Hear until `executing` null, and return all since the last call."""
        self.heard.clear()
        while True:
            message = await self.hear()
            if message["type"] == "executing" and message["data"]["node"] is None:
                return list(self.heard)


@asynccontextmanager
async def connected(client: httpx2.AsyncClient, client_id: str = "me") -> AsyncIterator[Socket]:
    async with client.websocket("/ws", params={"clientId": client_id}) as session:
        socket = Socket(session, client_id)
        await socket.hear()  # the greeting
        yield socket


async def submit(client: httpx2.AsyncClient, graph: Json, client_id: str | None = "me") -> str:
    body = {"prompt": graph} if client_id is None else {"prompt": graph, "client_id": client_id}
    response = await client.post("/prompt", json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["prompt_id"])


async def finished(comfyui: ComfyUIServer, client: httpx2.AsyncClient, prompt_id: str) -> Json:
    await comfyui.until(lambda server: server.queue_remaining == 0)
    return (await client.get(f"/history/{prompt_id}")).json()[prompt_id]


def shape(message: Json) -> Any:
    """Return a message without what differs from run to run."""
    data = message.get("data", {})
    nodes = data.get("nodes")
    state = {k: (v["value"], v["max"], v["state"]) for k, v in nodes.items()} if isinstance(nodes, dict) else nodes
    more = {name: data[name] for name in ("node", "value", "max", "executed", "node_type") if name in data}
    return message["type"], sorted(data), state, more


def keys(value: Any) -> Any:
    """Return the keys of nested dicts, and how long lists of messages are."""
    return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def recorded_messages(name: str) -> list[Json]:
    """Return a recording from after the greeting on."""
    return [m if "type" in m else {"type": m["binary"]} for m in recording(name)[1:]]


# -- events -------------------------------------------------------------------------------------------------------


async def test_a_run_sends_the_recorded_messages_in_the_recorded_order(comfyui, client):
    async with connected(client) as socket:
        await submit(client, recorded_graph(seed=1))
        await socket.until_end()  # the recording found the loader, texts and latent in the cache, too
        await submit(client, recorded_graph(seed=2))
        heard = await socket.until_end()
    assert [shape(m) for m in recorded_messages("ws_success.json")] == [shape(m) for m in heard]


async def test_the_same_graph_again_tells_of_the_same_file_and_saves_nothing(comfyui, client):
    async with connected(client) as socket:
        await submit(client, recorded_graph())
        await socket.until_end()
        files = dict(comfyui.files.outputs)
        prompt_id = await submit(client, recorded_graph())
        heard = await socket.until_end()
    assert [shape(m) for m in recorded_messages("ws_cached.json")] == [shape(m) for m in heard]
    assert files == comfyui.files.outputs
    entry = (await client.get(f"/history/{prompt_id}")).json()[prompt_id]
    assert entry["outputs"] == {
        "9": {"images": [{"filename": "sd15_00001_.png", "subfolder": "lab", "type": "output"}]}
    }


async def test_another_prefix_runs_the_save_node_only(comfyui, client):
    graph = recorded_graph()
    async with connected(client) as socket:
        await submit(client, graph)
        await socket.until_end()
        graph["9"]["inputs"]["filename_prefix"] = "lab/other"
        await submit(client, graph)
        heard = await socket.until_end()
    recorded = [shape(m) for m in recording("ws_cached_new_prefix.json")]
    assert recorded == [shape(m) for m in heard]


async def test_an_interrupt_takes_effect_at_the_next_step_as_recorded(comfyui, client):
    comfyui.hold("step:3")
    async with connected(client) as socket:
        prompt_id = await submit(client, recorded_graph(steps=60))
        await comfyui.reached("step:3")
        await client.post("/interrupt", json={"prompt_id": prompt_id})
        heard = await socket.until_end()
    entry = (await client.get(f"/history/{prompt_id}")).json()[prompt_id]
    recorded, heard = recorded_messages("ws_interrupted.json"), [shape(m) for m in heard]
    # ComfyUI keeps the executed nodes in a set; ours come in order.
    recorded[-3]["data"]["executed"] = ["1", "6", "5", "4"]
    assert [shape(m) for m in recorded] == heard
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert comfyui.interrupted == [prompt_id]


async def test_an_interrupt_of_a_waiting_prompt_does_nothing(comfyui, client):
    comfyui.hold("pending")
    prompt_id = await submit(client, recorded_graph())
    await comfyui.reached("pending")
    await client.post("/interrupt", json={"prompt_id": prompt_id})
    comfyui.release("pending")
    entry = await finished(comfyui, client, prompt_id)
    assert entry["status"]["status_str"] == "success"
    assert comfyui.interrupted == []


async def test_an_interrupt_during_loading_waits_for_the_load(comfyui, client):
    comfyui.hold("loading")
    prompt_id = await submit(client, recorded_graph())
    await comfyui.reached("loading")
    await client.post("/interrupt")
    assert comfyui.queue_remaining == 1
    comfyui.release("loading")
    entry = await finished(comfyui, client, prompt_id)
    kind, data = entry["status"]["messages"][-1]
    assert (kind, data["node_id"]) == ("execution_interrupted", "6")


async def test_without_client_id_progress_goes_to_all_and_no_end_is_told(comfyui, client):
    async with connected(client, "a") as a, connected(client, "b") as b:
        await submit(client, recorded_graph(seed=1), None)
        await comfyui.until(lambda server: server.queue_remaining == 0)
        await submit(client, recorded_graph(seed=2), None)
        recorded = [shape(m) for m in recorded_messages("ws_no_client_id.json")]
        for socket in (a, b):
            while socket.heard[-1]["type"] != "status" or len([m for m in socket.heard if m["type"] == "status"]) < 7:
                await socket.hear()
            assert recorded == [shape(m) for m in socket.heard[-len(recorded) :]]


async def test_another_client_sees_status_only(comfyui, client):
    async with connected(client, "other") as other:
        await submit(client, recorded_graph())
        recorded = [shape(m) for m in recorded_messages("ws_other_client.json")]
        assert recorded == [shape(await other.hear()) for _ in recorded]


async def test_previews_come_after_their_progress_and_with_metadata_before_it(comfyui, client):
    comfyui.previews = True
    async with connected(client) as socket:
        await submit(client, recorded_graph(steps=3))
        recorded = [m["type"] for m in recorded_messages("ws_previews.json")]
        assert recorded == [m["type"] for m in await socket.until_end()]
        await socket._session.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        assert (await socket.hear())["type"] == "feature_flags"
        await submit(client, recorded_graph(steps=1, seed=5))
        types = [m["type"] for m in await socket.until_end()]
        assert types[types.index(4) - 1 : types.index(4) + 2] == ["progress_state", 4, "progress"]


async def test_save_image_websocket_streams_pictures_and_leaves_no_output(comfyui, client):
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 2, "color": 255}},
        "9": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}},
    }
    async with connected(client) as socket:
        prompt_id = await submit(client, graph)
        heard = await socket.until_end()
    recorded = recorded_messages("ws_save_image_websocket.json")
    assert [m["type"] for m in recorded] == [m["type"] for m in heard]
    assert comfyui.history[prompt_id]["outputs"] == {}


async def test_a_newer_socket_goes_deaf_when_the_older_of_the_same_client_closes(comfyui, client):
    async with client.websocket("/ws?clientId=me") as older:
        await older.receive()
        async with connected(client) as newer:
            await older.close()
            await comfyui.until(lambda server: server.sockets == 1)
            await finished(comfyui, client, await submit(client, recorded_graph()))
            pong = await newer._session.ping()
            await pong.wait()
            assert [m["type"] for m in newer.heard] == ["status"]
    assert comfyui.client_ids == ["me", "me"]


async def test_a_reconnected_client_is_told_the_node_at_work(comfyui, client):
    comfyui.hold("step:1")
    await submit(client, recorded_graph())
    await comfyui.reached("step:1")
    async with connected(client) as socket:
        assert await socket.hear() == {"type": "executing", "data": {"node": "7"}}


# -- history and errors -------------------------------------------------------------------------------------------


async def test_a_finished_prompt_has_the_recorded_history_entry(comfyui, client):
    prompt_id = await submit(client, recorded_graph())
    entry = await finished(comfyui, client, prompt_id)
    (recorded,) = recording("history_success.json").values()
    assert keys(recorded) == keys(entry)
    assert recorded["outputs"]["9"]["images"][0] | {"filename": ""} == entry["outputs"]["9"]["images"][0] | {
        "filename": ""
    }
    assert recorded["prompt"][2] == entry["prompt"][2]
    assert [m[0] for m in recorded["status"]["messages"]] == [m[0] for m in entry["status"]["messages"]]


async def test_the_file_is_written_before_anything_is_told_of_it(comfyui, client):
    comfyui.hold("saving")
    comfyui.hold("finishing")
    prompt_id = await submit(client, recorded_graph())
    await comfyui.reached("saving")
    assert list(comfyui.files.outputs) == []
    comfyui.release("saving")
    await comfyui.reached("finishing")
    assert list(comfyui.files.outputs) == ["lab/sd15_00001_.png"]
    assert (await client.get(f"/history/{prompt_id}")).json() == {}


async def test_a_failing_loader_is_told_and_kept_as_recorded(comfyui, client):
    comfyui.fail("node_error")
    async with connected(client) as socket:
        prompt_id = await submit(client, recorded_graph())
        heard = await socket.until_end()
    recorded = recorded_messages("ws_error_unknown_arch.json")
    assert [m["type"] for m in recorded] == [m["type"] for m in heard]
    (recorded_entry,) = recording("history_error_unknown_arch.json").values()
    ours = comfyui.history[prompt_id]["status"]["messages"][-1][1]
    theirs = recorded_entry["status"]["messages"][-1][1]
    assert sorted(theirs) == sorted(ours)
    same = ("node_id", "node_type", "executed", "exception_message", "exception_type")
    assert [theirs[name] for name in same] == [ours[name] for name in same]


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("cuda", "torch.OutOfMemoryError", "Allocation on device 0"),
        ("rocm", "torch.OutOfMemoryError", "HIP out of memory"),
        ("cpu", "RuntimeError", "DefaultCPUAllocator"),
    ],
)
async def test_out_of_memory_is_an_execution_error_at_the_sampler(comfyui, client, text, kind, part):
    comfyui.fail("out_of_memory", text=text)
    prompt_id = await submit(client, recorded_graph())
    entry = await finished(comfyui, client, prompt_id)
    name, data = entry["status"]["messages"][-1]
    assert (name, data["node_id"], data["exception_type"]) == ("execution_error", "7", kind)
    assert part in data["exception_message"]
    assert data["exception_message"].endswith("\n")


async def test_an_output_outside_the_folder_fails_and_keeps_the_earlier_output(comfyui, client):
    (recorded,) = recording("history_error_partial_outputs.json").values()
    prompt_id = await submit(client, recorded["prompt"][2])
    entry = await finished(comfyui, client, prompt_id)
    ours, theirs = (e["status"]["messages"][-1][1]["exception_message"] for e in (entry, recorded))
    assert theirs == ours
    assert keys(recorded["outputs"]) == keys(entry["outputs"])
    assert recorded["meta"] == entry["meta"]


# -- refusals -----------------------------------------------------------------------------------------------------


def changed(node_id: str, **inputs: Any) -> Callable[[Json], None]:
    """Return a change of a node's inputs; None as a value deletes one."""

    def change(graph: Json) -> None:
        graph[node_id]["inputs"].update(inputs)
        graph[node_id]["inputs"] = {k: v for k, v in graph[node_id]["inputs"].items() if v is not None}

    return change


def replaced(node_id: str, node: Any) -> Callable[[Json], None]:
    return lambda graph: graph.__setitem__(node_id, node)


REFUSALS: dict[str, Callable[[Json], Any]] = {
    "bad_link_len": changed("7", model=["1"]),
    "bad_link_node": changed("7", model=["99", 0]),
    "bad_link_slot": changed("7", model=["1", 9]),
    "bad_sampler": changed("7", sampler_name="nope"),
    "batch_5000": changed("6", batch_size=5000),
    "cfg_too_big": changed("7", cfg=101.0),
    "cycle": changed("7", latent_image=["7", 0]),
    "denoise_2": changed("7", denoise=2.0),
    "empty_prompt_obj": lambda graph: graph.clear(),
    "int_node_link": changed("9", images=[1, 0]),
    "missing_class_type": lambda graph: graph["7"].pop("class_type"),
    "missing_inputs_key": lambda graph: graph["9"].pop("inputs"),
    "missing_model_name": changed("1", ckpt_name="nope.safetensors"),
    "missing_required": changed("7", model=None),
    "no_outputs": lambda graph: graph.pop("9"),
    "node_is_string": replaced("1", "x"),
    "seed_negative": changed("7", seed=-1),
    "seed_too_big": changed("7", seed=2**64),
    "type_mismatch": changed("7", model=["1", 1]),
    "unknown_class": lambda graph: graph["7"].update(class_type="NoSuchSampler"),
    "value_too_big": changed("7", steps=10001),
    "value_too_small": changed("7", steps=0),
    "width_17000": changed("6", width=17000),
    "width_8": changed("6", width=8),
    "wrong_type_int": changed("7", steps="many"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_bad_graph_is_refused_with_the_recorded_body(comfyui, client, name):
    graph = recorded_graph()
    REFUSALS[name](graph)
    recorded = recording(f"prompt_fail/{name}.json")
    response = await client.post("/prompt", json={"prompt": graph})
    assert (recorded["status"], recorded["body"]) == (response.status_code, response.json())
    assert comfyui.queue_remaining == 0


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("raw_malformed_json", b"{"),
        ("raw_empty_body", b""),
        ("raw_json_null", b"null"),
        ("raw_invalid_utf8", b'{"prompt": "\xff"}'),
        ("raw_bad_number", b'{"prompt": {}, "number": "abc"}'),
        ("prompt_is_list", b'{"prompt": []}'),
        ("prompt_null", b'{"prompt": null}'),
        ("raw_json_list", b"[]"),
        ("raw_empty_object", b"{}"),
    ],
)
async def test_a_bad_body_is_refused_as_recorded(client, name, body):
    recorded = recording(f"prompt_fail/{name}.json")
    response = await client.post("/prompt", content=body)
    answer = response.json() if isinstance(recorded["body"], dict) else response.text
    assert (recorded["status"], recorded["body"]) == (response.status_code, answer)


async def test_one_invalid_output_of_two_is_dropped_with_a_200(comfyui, client):
    graph = recorded_graph()
    graph["10"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    del graph["9"]["inputs"]["images"]
    response = await client.post("/prompt", json={"prompt": graph})
    assert recording("prompt_fail/one_of_two_outputs_bad.json")["body"]["node_errors"] == response.json()["node_errors"]
    entry = await finished(comfyui, client, response.json()["prompt_id"])
    assert list(entry["outputs"]) == ["10"]


# -- queue, files, catalogue --------------------------------------------------------------------------------------


async def test_waiting_prompts_queue_up_in_order_and_can_be_deleted(comfyui, client):
    comfyui.hold("step:1")
    ids = [await submit(client, recorded_graph(seed=seed)) for seed in range(4)]
    await comfyui.reached("step:1")
    queue = (await client.get("/queue")).json()
    assert keys(recording("queue_running_and_pending.json")) == keys(queue)
    assert [ids[0], *ids[1:]] == [item[1] for item in queue["queue_running"] + queue["queue_pending"]]
    await client.post("/queue", json={"delete": [ids[2], ids[0], "unknown"]})
    assert comfyui.deleted == [ids[2]]
    comfyui.release("step:1")
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert [ids[0], ids[1], ids[3]] == list(comfyui.history)


async def test_sizes_are_rounded_down_and_a_batch_gives_as_many_different_files(comfyui, client):
    graph = recorded_graph()
    graph["6"] = {"class_type": "EmptySD3LatentImage", "inputs": {"width": 78, "height": 65, "batch_size": 2}}
    prompt_id = await submit(client, graph)
    images = (await finished(comfyui, client, prompt_id))["outputs"]["9"]["images"]
    contents = [(await client.get("/view", params=image)).content for image in images]
    with Image.open(io.BytesIO(contents[0])) as picture:
        assert picture.size == (64, 64)
        assert json.loads(picture.info["prompt"]) == graph
    assert len(set(contents)) == 2
    assert (await client.get("/view", params={"filename": f"lab/{images[0]['filename']}"})).status_code == 404


async def test_image_to_image_starts_from_the_uploaded_picture(comfyui, client):
    file = io.BytesIO()
    Image.new("RGB", (40, 24), "red").save(file, "PNG")
    uploads = [
        await client.post("/upload/image", files={"image": ("a.png", data, "image/png")})
        for data in (file.getvalue(), file.getvalue(), b"other")
    ]
    assert [u.json()["name"] for u in uploads] == ["a.png", "a.png", "a (1).png"]
    graph = recorded_graph(denoise=0.1)
    graph["2"] = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    graph["6"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["2", 0], "vae": ["1", 2]}}
    image = (await finished(comfyui, client, await submit(client, graph)))["outputs"]["9"]["images"][0]
    with Image.open(io.BytesIO((await client.get("/view", params=image)).content)) as picture:
        assert picture.size == (40, 24)
        assert picture.getpixel((20, 12))[0] > 200


async def test_model_lists_are_live_and_have_both_combo_shapes(comfyui, client):
    comfyui.models["upscale_models"] = ["b.pth", "a.pth"]
    info = (await client.get("/api/object_info")).json()
    required = info["UpscaleModelLoader"]["input"]["required"]["model_name"]
    assert required[0] == "COMBO"
    assert options(required) == ["a.pth", "b.pth"] == (await client.get("/models/upscale_models")).json()
    assert info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] == CHECKPOINTS
    comfyui.remove_node("UpscaleModelLoader")
    assert (await client.get("/object_info/UpscaleModelLoader")).json() == {}


async def test_unknown_routes_answer_404_to_get_and_405_to_post(client):
    got, posted = await client.get("/api/jobs"), await client.post("/api/jobs")
    assert (got.status_code, got.content) == (404, b"")
    assert (posted.status_code, posted.text) == (405, "405: Method Not Allowed")


# -- faults and life ----------------------------------------------------------------------------------------------


async def test_a_restart_drops_sockets_and_forgets_all_but_outputs(comfyui, client):
    await finished(comfyui, client, await submit(client, recorded_graph()))
    comfyui.hold("step:1")
    url = comfyui.url
    async with connected(client) as socket:
        running = await submit(client, recorded_graph(seed=2))
        await comfyui.reached("step:1")
        comfyui.restart()
        with pytest.raises((WebSocketDisconnect, WebSocketNetworkError)):
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


async def test_socket_faults_drop_deafen_or_refuse_the_socket(comfyui, client):
    comfyui.fail("drop_socket", at="step:1", times=1)
    async with connected(client) as socket:
        await submit(client, recorded_graph())
        with pytest.raises((WebSocketDisconnect, WebSocketNetworkError)):
            await socket.until_end()
        assert socket.heard[-1]["type"] == "progress"
    await comfyui.until(lambda server: server.sockets == 0 and server.queue_remaining == 0)
    comfyui.fail("deaf_socket")
    async with connected(client) as socket:
        await finished(comfyui, client, await submit(client, recorded_graph(seed=4)))
        pong = await socket._session.ping()
        await pong.wait()
        comfyui.heal("deaf_socket")
        await submit(client, recorded_graph(seed=5))
        assert [m["data"]["status"]["exec_info"]["queue_remaining"] for m in [await socket.hear()]] == [1]
    comfyui.fail("no_socket")
    with pytest.raises(WebSocketUpgradeError):
        await connected(client).__aenter__()


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


async def test_history_and_view_faults_last_as_long_as_they_say(comfyui, client):
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


async def test_a_black_picture_is_a_success(comfyui, client):
    comfyui.fail("black")
    entry = await finished(comfyui, client, await submit(client, recorded_graph()))
    content = (await client.get("/view", params=entry["outputs"]["9"]["images"][0])).content
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.getextrema() == ((0, 0), (0, 0), (0, 0))


def test_a_misspelt_fault_or_point_is_refused():
    server = ComfyUIServer()
    with pytest.raises(ValueError, match="drop_socket"):
        server.fail("dropped_socket")
    with pytest.raises(ValueError, match="loading"):
        server.hold("step")
