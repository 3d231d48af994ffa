"""What a start loads, and what the first call loads beside the event loop."""

import subprocess
import sys
import threading
import tomllib
import types

import pytest

from mcp_image_gen_local.server import clients, tolerance_table
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

#: Not loaded before the first call.
LATE = ("PIL", "numpy", "onnxruntime", "mcp_image_gen_local.engines.comfyui.engine")
LISTED = """
import asyncio, sys
from fastmcp import Client
from mcp_image_gen_local.server import build_server
from mcp_image_gen_local.settings import load_settings

async def main():
    async with Client(build_server(load_settings()), mode=sys.argv[1]) as client:
        assert len(await client.list_tools()) == 5
        print([name for name in sys.argv[2:] if name in sys.modules])

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_start_loads_little(mode: str):
    """In both protocol eras, up to the list of tools."""
    command = [sys.executable, "-c", LISTED, mode, *LATE]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


async def test_lists_are_whole(caller: Caller):
    """They do not pass through FastMCP's rules of visibility."""
    assert len(await caller.client.list_tools()) == 5
    assert [str(resource.uri) for resource in await caller.client.list_resources()] == ["jobs://recent"]
    assert len(await caller.client.list_resource_templates()) == 2
    assert await caller.client.list_prompts() == []


async def test_a_wrong_engine_is_reported_by_the_call(connect, comfyui: ComfyUIServer):
    """What the warm-up stumbles over is the call's to report."""
    caller = await connect(IMAGE_GEN_ENGINE="nobody")
    assert (await caller.generate()).code == "settings_invalid"
    assert comfyui.requests == []


@pytest.mark.parametrize("module", [tolerance_table, clients])
async def test_tables_are_read_beside_the_event_loop(connect, monkeypatch: pytest.MonkeyPatch, module):
    """Also when a client calls before it lists."""
    threads = []

    def loads(text: str):
        threads.append(threading.current_thread())
        return tomllib.loads(text)

    tolerance_table.table.cache_clear()
    clients.profiles.cache_clear()
    monkeypatch.setattr(module, "tomllib", types.SimpleNamespace(loads=loads))
    assert (await (await connect()).generate()).facts["status"] == "done"
    assert len(threads) == 1
    assert threading.current_thread() not in threads
