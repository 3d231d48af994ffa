"""Another client of the same ComfyUI."""

import uuid
from typing import Any

import httpx2

from tests.comfyui_nodes import recording
from tests.comfyui_server import ComfyUIServer


async def post(comfyui: ComfyUIServer, path: str, body: Any) -> httpx2.Response:
    """Send JSON to ComfyUI past the code under test."""
    # Without certificates, whose loading would take longer than most tests.
    async with httpx2.AsyncClient(base_url=comfyui.url, verify=False) as client:
        return await client.post(path, json=body)


async def submit(comfyui: ComfyUIServer, graph: dict[str, Any]) -> str:
    """Queue the graph and return its prompt_id."""
    prompt_id = str(uuid.uuid4())
    reply = await post(comfyui, "/prompt", {"prompt": graph, "prompt_id": prompt_id, "client_id": "somebody-else"})
    assert reply.status_code == 200, reply.text
    return prompt_id


async def generate(comfyui: ComfyUIServer, graph: dict[str, Any]) -> str:
    """Queue the graph, wait until it has ended, and return its prompt_id."""
    prompt_id = await submit(comfyui, graph)
    await comfyui.until(lambda server: prompt_id in server.history)
    return prompt_id


def graph(name: str = "sdxl", **sampler: Any) -> dict[str, Any]:
    """Return a recorded graph, its sampler's inputs changed."""
    found: dict[str, Any] = recording(f"graphs/{name}.json")
    if "7" in found:
        found["7"]["inputs"].update(sampler)
    return found
