"""What the tests of the ComfyUI test double share: a client, its socket, and the recordings to compare with."""

import copy
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from tests.comfyui_nodes import recording
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

    async def ping(self) -> None:
        """Return when the server has answered a ping."""
        pong = await self._session.ping()
        await pong.wait()

    async def say(self, message: Json) -> None:
        await self._session.send_json(message)

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
