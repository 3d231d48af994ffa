"""What tools/list sends: little, complete, and valid."""

import json
from typing import Any

import jsonschema
import mcp.types
import pytest

from tests.conftest import Caller

CORE = ["cancel_generation", "generate_image", "get_generation_status", "get_output_directory", "list_available_models"]
MAX_BYTES = 6_000  #: local LLMs have short contexts


@pytest.fixture
async def tools(caller: Caller) -> dict[str, mcp.types.Tool]:
    return {tool.name: tool for tool in await caller.client.list_tools()}


async def test_there_are_five_core_tools(tools: dict[str, mcp.types.Tool]):
    assert sorted(tools) == CORE


async def test_every_tool_says_in_short_what_it_does(tools: dict[str, mcp.types.Tool]):
    for tool in tools.values():
        assert tool.description.endswith(".")
        assert len(tool.description) < 300
        assert tool.title


async def test_every_argument_is_described(tools: dict[str, mcp.types.Tool]):
    for tool in tools.values():
        for name, schema in tool.input_schema.get("properties", {}).items():
            assert schema.get("description"), (tool.name, name)


async def test_tools_list_stays_small(caller: Caller):
    result = await caller.client.list_tools_mcp()
    sent = json.dumps(result.model_dump(mode="json", by_alias=True, exclude_none=True), separators=(",", ":"))
    assert len(sent.encode()) <= MAX_BYTES


async def test_no_tool_has_an_output_schema(tools: dict[str, mcp.types.Tool]):
    """Several clients drop the image where structured content comes along."""
    assert {tool.output_schema for tool in tools.values()} == {None}


async def test_reading_tools_are_marked(tools: dict[str, mcp.types.Tool]):
    """Reading tools are marked as such and none reaches the open world."""
    reads = {name: tool.annotations.read_only_hint for name, tool in tools.items()}
    assert reads == {name: name not in ("generate_image", "cancel_generation") for name in CORE}
    assert {tool.annotations.open_world_hint for tool in tools.values()} == {False}
    generation = tools["generate_image"].annotations
    assert (generation.destructive_hint, generation.idempotent_hint) == (False, False)


async def test_input_schemas_are_valid_open_and_plain(tools: dict[str, mcp.types.Tool]):
    for tool in tools.values():
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert tool.input_schema["type"] == "object"
        assert "additionalProperties" not in tool.input_schema  # clients add arguments of their own
        for about in tool.input_schema.get("properties", {}).values():
            assert about["type"] in ("string", "integer", "number")
        optional = {n for n, about in tool.input_schema.get("properties", {}).items() if about.get("nullable")}
        assert optional == set(tool.input_schema.get("properties", {})) - set(tool.input_schema.get("required", []))


async def test_argument_names_and_defaults_are_fixed(tools: dict[str, mcp.types.Tool]):
    """The names and defaults of the arguments are fixed.

    They are an interface: prompts, skills and users' habits depend on them.
    """
    generation = tools["generate_image"].input_schema
    assert generation["required"] == ["prompt"]
    assert {name: schema.get("default", "none") for name, schema in generation["properties"].items()} == {
        "prompt": "none",
        "negative_prompt": "none",
        "width": "none",
        "height": "none",
        "aspect_ratio": "none",
        "steps": "none",
        "seed": "none",
        "cfg": "none",
        "guidance": "none",
        "model": "none",
        "batch_size": 1,
        "sampler": "none",
        "scheduler": "none",
        "init_image": "none",
        "denoise": "none",
    }
    assert tools["get_generation_status"].input_schema["required"] == ["prompt_id"]
    assert not tools["list_available_models"].input_schema.get("properties")
    assert not tools["get_output_directory"].input_schema.get("properties")


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [
        ({"prompt": "x"}, True),
        ({"prompt": "x", "seed": 2**64 - 1, "cfg": 3.5}, True),
        ({}, False),
        ({"prompt": 5}, False),
        ({"prompt": "x", "toolCallId": "1"}, True),
        ({"prompt": "x", "width": "wide"}, False),
    ],
)
async def test_arguments_validate_against_the_schema(
    tools: dict[str, mcp.types.Tool], arguments: dict[str, Any], valid: bool
):
    """A client can check arguments against the schema."""
    validator = jsonschema.Draft202012Validator(tools["generate_image"].input_schema)
    assert validator.is_valid(arguments) is valid


async def test_the_server_introduces_itself(caller: Caller):
    assert caller.client.server_info.name == "mcp-image-gen"
    assert "generate_image" in caller.client.instructions
    assert "get_generation_status" in caller.client.instructions
