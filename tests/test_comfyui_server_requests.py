"""The ComfyUI test double takes, refuses and answers requests as the recorded ComfyUI 0.3.64 did."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from tests import comfyui_client
from tests.comfyui_client import CHECKPOINTS, Json, finished, keys, recorded_graph, submit
from tests.comfyui_nodes import options, recording

# The double with the recorded models, and an HTTP client of it.
comfyui, client = comfyui_client.comfyui, comfyui_client.client


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


async def test_one_invalid_output_is_dropped(comfyui, client):
    """One invalid output of two is dropped with a 200."""
    graph = recorded_graph()
    graph["10"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    del graph["9"]["inputs"]["images"]
    response = await client.post("/prompt", json={"prompt": graph})
    assert recording("prompt_fail/one_of_two_outputs_bad.json")["body"]["node_errors"] == response.json()["node_errors"]
    entry = await finished(comfyui, client, response.json()["prompt_id"])
    assert list(entry["outputs"]) == ["10"]


# -- queue, files, catalogue --------------------------------------------------------------------------------------


async def test_waiting_prompts_can_be_deleted(comfyui, client):
    """Waiting prompts queue up in order and can be deleted."""
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


async def test_sizes_round_down_and_batches_differ(comfyui, client):
    """Sizes are rounded down and a batch gives as many different files."""
    graph = recorded_graph()
    graph["6"] = {"class_type": "EmptySD3LatentImage", "inputs": {"width": 78, "height": 65, "batch_size": 2}}
    prompt_id = await submit(client, graph)
    images = (await finished(comfyui, client, prompt_id))["outputs"]["9"]["images"]
    contents = [(await client.get("/view", params=image)).content for image in images]
    with Image.open(io.BytesIO(contents[0])) as opened:
        assert opened.size == (64, 64)
        assert json.loads(opened.info["prompt"]) == graph
    assert len(set(contents)) == 2
    assert (await client.get("/view", params={"filename": f"lab/{images[0]['filename']}"})).status_code == 404


async def test_image_to_image_starts_from_the_uploaded_image(comfyui, client):
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
    with Image.open(io.BytesIO((await client.get("/view", params=image)).content)) as opened:
        assert opened.size == (40, 24)
        assert opened.getpixel((20, 12))[0] > 200


async def test_model_lists_have_both_combo_shapes(comfyui, client):
    """Model lists are live and have both combo shapes."""
    comfyui.models["upscale_models"] = ["b.pth", "a.pth"]
    info = (await client.get("/api/object_info")).json()
    required = info["UpscaleModelLoader"]["input"]["required"]["model_name"]
    assert required[0] == "COMBO"
    assert options(required) == ["a.pth", "b.pth"] == (await client.get("/models/upscale_models")).json()
    assert info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] == CHECKPOINTS
    comfyui.remove_node("UpscaleModelLoader")
    assert (await client.get("/object_info/UpscaleModelLoader")).json() == {}


async def test_unknown_routes_answer_404_and_405(client):
    """Unknown routes answer 404 to get and 405 to post."""
    got, posted = await client.get("/api/jobs"), await client.post("/api/jobs")
    assert (got.status_code, got.content) == (404, b"")
    assert (posted.status_code, posted.text) == (405, "405: Method Not Allowed")
