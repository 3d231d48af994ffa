"""The ready configuration files, and the examples for clients, start this server with settings it has."""

import json
import shlex
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from mcp_image_gen_local.engine_kit.registry import all_variables
from mcp_image_gen_local.settings import load_settings
from tests.docs.documents import ROOT, blocks, sections_with_code

READY = {".mcp.json": "mcpServers", ".roo/mcp.json": "mcpServers", ".vscode/mcp.json": "servers"}
COMMAND = ["mcp-image-gen"]
ADDRESS = "http://127.0.0.1:8765/mcp"  #: what `mcp-image-gen serve --http` prints
SERVER_KEYS = ("mcpServers", "servers", "mcp", "context_servers", "mcp_servers", "extensions")
MARGIN_SECONDS = 20
CLIENTS = ROOT / "docs" / "how-to" / "clients.md"
FORMATS: dict[str, Callable[[str], Any]] = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}


@pytest.mark.parametrize(("file", "key"), READY.items())
def test_a_ready_file_starts_the_command(file: str, key: str):
    (server,) = json.loads((ROOT / file).read_text("utf-8"))[key].values()
    assert (server["type"], command_of(server)) == ("stdio", COMMAND)
    assert server["env"]["COMFYUI_URL"] == "http://127.0.0.1:8188"
    load_settings(**server["env"])


@pytest.mark.parametrize("file", READY)
def test_a_ready_file_sets_variables_that_exist(file: str):
    (servers,) = json.loads((ROOT / file).read_text("utf-8")).values()
    assert {name for server in servers.values() for name in server["env"]} <= set(all_variables())


def test_roo_waits_longer_than_the_server():
    """Roo Code counts in seconds and takes 1 to 3600."""
    (server,) = json.loads((ROOT / ".roo/mcp.json").read_text("utf-8"))["mcpServers"].values()
    assert 1 <= server["timeout"] <= 3600
    assert float(server["env"]["IMAGE_GEN_WAIT_SECONDS"]) + MARGIN_SECONDS <= server["timeout"]


@pytest.mark.parametrize("language", FORMATS)
def test_each_block_parses_as_its_format(language: str):
    """Every block of clients.md in this format can be read and names at least one server."""
    texts = blocks(CLIENTS.read_text("utf-8"), language)
    assert texts
    for text in texts:
        assert list(servers_of(FORMATS[language](text))), text


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/clients.md"])
def test_each_block_starts_the_server(page: str):
    """It starts the command with settings that can be read, or connects to the address of `serve --http`."""
    text = (ROOT / page).read_text("utf-8")
    entries = [s for language, parse in FORMATS.items() for b in blocks(text, language) for s in servers_of(parse(b))]
    assert entries
    for server in entries:
        if address := server.get("url", server.get("httpUrl")):
            assert address == ADDRESS
        else:
            assert command_of(server) == COMMAND
            load_settings(**environment_of(server))


def test_each_shell_command_is_complete():
    """What clients.md adds by a command line ends with the server's command."""
    lines = [line for block in blocks(CLIENTS.read_text("utf-8"), "sh") for line in block.splitlines()]
    added = [shlex.split(line) for line in lines if " mcp add " in line]
    assert added
    assert all(words[words.index("--") + 1 :] == COMMAND for words in added)


def test_a_block_waits_less_than_its_client():
    """A limit in a block, seconds or milliseconds, is 20 seconds above IMAGE_GEN_WAIT_SECONDS or more."""
    text = CLIENTS.read_text("utf-8")
    for language, parse in FORMATS.items():
        for server in (s for block in blocks(text, language) for s in servers_of(parse(block))):
            limit = server.get("tool_timeout_sec", server.get("timeout"))
            if limit and (wait := environment_of(server).get("IMAGE_GEN_WAIT_SECONDS")):
                seconds = limit / 1000 if limit > 3600 else limit
                assert float(wait) + MARGIN_SECONDS <= seconds, server


def test_each_client_has_the_facts_in_order():
    """A client's section has a file; those with a block of their own say limit, images and approval."""
    for heading, text in sections_with_code(CLIENTS.read_text("utf-8")).items():
        if not text.strip().startswith("File: "):
            continue
        if "Not tested." not in text:
            assert "**Time limit:**" in text, heading
            assert "**Images" in text, heading
            assert "pproval:**" in text, heading


def test_the_table_names_each_client_section():
    """Every client with a file or a limit of its own stands in the table of clients.md."""
    text = CLIENTS.read_text("utf-8")
    table = text[: text.index("## Time limits")]
    sections = sections_with_code(text)
    named = [heading for heading, body in sections.items() if "**Time limit:**" in body]
    assert [heading for heading in named if f"| [{heading.replace(' and ', ', ')}](#" not in table] == []


def command_of(server: dict[str, Any]) -> list[str]:
    """Return the command line that starts the server."""
    command = server.get("command", server.get("cmd"))
    return command if isinstance(command, list) else [command, *server["args"]]


def environment_of(server: dict[str, Any]) -> dict[str, str]:
    """Return the variables that the client sets."""
    return next((server[key] for key in ("env", "environment", "envs") if key in server), {})


def servers_of(example: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every entry of a server, whatever the client calls the table or list it stands in."""
    for key in SERVER_KEYS:
        found = example.get(key, {})
        yield from found if isinstance(found, list) else found.values()
