"""The ComfyUI test double tells and keeps of a run what the recorded ComfyUI 0.3.64 did."""

import pytest

from tests import comfyui_client
from tests.comfyui_client import connected, finished, keys, recorded_graph, recorded_messages, shape, submit
from tests.comfyui_nodes import recording

# The double with the recorded models, and an HTTP client of it.
comfyui, client = comfyui_client.comfyui, comfyui_client.client


# -- events -------------------------------------------------------------------------------------------------------


async def test_messages_come_in_the_recorded_order(comfyui, client):
    """A run sends the recorded messages in the recorded order."""
    async with connected(client) as socket:
        await submit(client, recorded_graph(seed=1))
        await socket.until_end()  # the recording found the loader, texts and latent in the cache, too
        await submit(client, recorded_graph(seed=2))
        heard = await socket.until_end()
    assert [shape(m) for m in recorded_messages("ws_success.json")] == [shape(m) for m in heard]


async def test_the_same_graph_saves_nothing(comfyui, client):
    """The same graph again reports of the same file and saves nothing."""
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


async def test_an_interrupt_waits_for_the_step(comfyui, client):
    """An interrupt takes effect at the next step as recorded."""
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


async def test_an_interrupt_waits_for_the_load(comfyui, client):
    """An interrupt during loading waits for the load."""
    comfyui.hold("loading")
    prompt_id = await submit(client, recorded_graph())
    await comfyui.reached("loading")
    await client.post("/interrupt")
    assert comfyui.queue_remaining == 1
    comfyui.release("loading")
    entry = await finished(comfyui, client, prompt_id)
    kind, data = entry["status"]["messages"][-1]
    assert (kind, data["node_id"]) == ("execution_interrupted", "6")


async def test_without_client_id_no_end_is_sent(comfyui, client):
    """Without client id progress goes to all and no end is reported."""
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


async def test_previews_follow_their_progress(comfyui, client):
    """Previews come after their progress and with metadata before it."""
    comfyui.previews = True
    async with connected(client) as socket:
        await submit(client, recorded_graph(steps=3))
        recorded = [m["type"] for m in recorded_messages("ws_previews.json")]
        assert recorded == [m["type"] for m in await socket.until_end()]
        await socket.say({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        assert (await socket.hear())["type"] == "feature_flags"
        await submit(client, recorded_graph(steps=1, seed=5))
        types = [m["type"] for m in await socket.until_end()]
        assert types[types.index(4) - 1 : types.index(4) + 2] == ["progress_state", 4, "progress"]


async def test_save_image_websocket_streams_images(comfyui, client):
    """Save image websocket streams images and leaves no output."""
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


async def test_an_older_socket_silences_the_newer(comfyui, client):
    """A newer socket goes deaf when the older of the same client closes."""
    async with client.websocket("/ws?clientId=me") as older:
        await older.receive()
        async with connected(client) as newer:
            await older.close()
            await comfyui.until(lambda server: server.sockets == 1)
            await finished(comfyui, client, await submit(client, recorded_graph()))
            await newer.ping()
            assert [m["type"] for m in newer.heard] == ["status"]
    assert comfyui.client_ids == ["me", "me"]


async def test_a_reconnected_client_is_told_the_node_at_work(comfyui, client):
    comfyui.hold("step:1")
    await submit(client, recorded_graph())
    await comfyui.reached("step:1")
    async with connected(client) as socket:
        assert await socket.hear() == {"type": "executing", "data": {"node": "7"}}


# -- history and errors -------------------------------------------------------------------------------------------


async def test_a_finished_prompt_has_its_history(comfyui, client):
    """A finished prompt has the recorded history entry."""
    prompt_id = await submit(client, recorded_graph())
    entry = await finished(comfyui, client, prompt_id)
    (recorded,) = recording("history_success.json").values()
    assert keys(recorded) == keys(entry)
    assert recorded["outputs"]["9"]["images"][0] | {"filename": ""} == entry["outputs"]["9"]["images"][0] | {
        "filename": ""
    }
    assert recorded["prompt"][2] == entry["prompt"][2]
    assert [m[0] for m in recorded["status"]["messages"]] == [m[0] for m in entry["status"]["messages"]]


async def test_the_file_is_written_before_the_message(comfyui, client):
    """The file is written before anything is reported of it."""
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
async def test_out_of_memory_at_the_sampler(comfyui, client, text, kind, part):
    """Out of memory is an execution error at the sampler."""
    comfyui.fail("out_of_memory", text=text)
    prompt_id = await submit(client, recorded_graph())
    entry = await finished(comfyui, client, prompt_id)
    name, data = entry["status"]["messages"][-1]
    assert (name, data["node_id"], data["exception_type"]) == ("execution_error", "7", kind)
    assert part in data["exception_message"]
    assert data["exception_message"].endswith("\n")


async def test_an_output_outside_the_folder(comfyui, client):
    """An output outside the folder fails and keeps the earlier output."""
    (recorded,) = recording("history_error_partial_outputs.json").values()
    prompt_id = await submit(client, recorded["prompt"][2])
    entry = await finished(comfyui, client, prompt_id)
    ours, theirs = (e["status"]["messages"][-1][1]["exception_message"] for e in (entry, recorded))
    assert theirs == ours
    assert keys(recorded["outputs"]) == keys(entry["outputs"])
    assert recorded["meta"] == entry["meta"]
