"""The ready configuration files, and the examples for clients, start this server with settings it has."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_image_gen_local.engine_kit.registry import all_variables
from mcp_image_gen_local.settings import load_settings
from tests.docs.documents import ROOT, blocks

READY = {".mcp.json": "mcpServers", ".roo/mcp.json": "mcpServers", ".vscode/mcp.json": "servers"}
COMMANDS = (["mcp-image-gen"],)
MARGIN_SECONDS = 10


@pytest.mark.parametrize(("file", "key"), READY.items())
def test_a_ready_file_starts_the_command(file: str, key: str):
    (server,) = json.loads((ROOT / file).read_text("utf-8"))[key].values()
    assert (server["type"], server["command"], server["args"]) == ("stdio", "mcp-image-gen", [])
    assert server["env"]["COMFYUI_URL"] == "http://127.0.0.1:8188"
    load_settings(**server["env"])


@pytest.mark.parametrize("file", READY)
def test_a_ready_file_sets_only_variables_that_exist(file: str):
    (servers,) = json.loads((ROOT / file).read_text("utf-8")).values()
    assert {name for server in servers.values() for name in server["env"]} <= set(all_variables())


def test_roo_waits_longer_than_the_server():
    """Roo Code counts in seconds and takes 1 to 3600."""
    (server,) = json.loads((ROOT / ".roo/mcp.json").read_text("utf-8"))["mcpServers"].values()
    assert 1 <= server["timeout"] <= 3600
    assert float(server["env"]["IMAGE_GEN_WAIT_SECONDS"]) + MARGIN_SECONDS <= server["timeout"]


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/clients.md"])
def test_each_example_for_a_client_starts_the_server(page: str):
    entries = list(servers_of((ROOT / page).read_text("utf-8")))
    assert entries
    for server in entries:
        command = server["command"]
        assert (command if isinstance(command, list) else [command, *server["args"]]) in COMMANDS
        load_settings(**server.get("env", server.get("environment", {})))


def servers_of(text: str) -> Iterator[dict[str, Any]]:
    """Yield every entry of a server in the examples, whatever the client calls the table it stands in."""
    examples = [*map(json.loads, blocks(text, "json")), *map(tomllib.loads, blocks(text, "toml"))]
    for example in examples:
        for key in ("mcpServers", "servers", "mcp", "context_servers", "mcp_servers"):
            yield from example.get(key, {}).values()
