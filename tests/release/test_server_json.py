"""server.json is what the MCP registry takes: the facts of its schema of 2025-12-11, and its rules beside them.

Source: modelcontextprotocol/static, schemas/2025-12-11/server.schema.json; modelcontextprotocol/registry,
docs/reference/server-json/official-registry-requirements.md.
"""

import json
import re
from urllib.parse import urlsplit

import jsonschema
import pytest

from mcp_image_gen_local import __version__
from mcp_image_gen_local.engine_kit.registry import all_variables
from scripts.links import package_page, project
from scripts.server_json import FILE, SCHEMA, text

ENTRY = json.loads(FILE.read_text("utf-8"))
(PACKAGE,) = ENTRY["packages"]
INPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "default": {"type": "string"},
        "placeholder": {"type": "string"},
        "isSecret": {"type": "boolean"},
    },
    "additionalProperties": False,
}
FACTS = {
    "type": "object",
    "required": ["$schema", "name", "description", "version"],
    "properties": {
        "$schema": {"const": SCHEMA},
        "name": {"type": "string", "minLength": 3, "maxLength": 200, "pattern": r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"},
        "title": {"type": "string", "minLength": 1, "maxLength": 100},
        "description": {"type": "string", "minLength": 1, "maxLength": 100},
        "version": {"type": "string", "maxLength": 255},
        "websiteUrl": {"type": "string"},
        "repository": {"type": "object", "required": ["url", "source"]},
        "packages": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["registryType", "identifier", "transport"],
                "properties": {
                    "registryType": {"enum": ["npm", "pypi", "oci", "nuget", "mcpb"]},
                    "identifier": {"type": "string"},
                    "version": {"type": "string", "minLength": 1, "not": {"const": "latest"}},
                    "runtimeHint": {"type": "string"},
                    "transport": {"type": "object", "required": ["type"], "properties": {"type": {"const": "stdio"}}},
                    "environmentVariables": {"type": "array", "items": INPUT},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}


def test_it_has_the_form_the_registry_takes():
    jsonschema.Draft7Validator(FACTS).validate(ENTRY)


def test_it_is_up_to_date():
    """`python3 scripts/dev.py tables` writes it again."""
    assert FILE.read_text("utf-8") == text()


def test_it_names_our_package_in_this_version():
    assert (PACKAGE["registryType"], PACKAGE["identifier"]) == ("pypi", "mcp-image-gen-local")
    assert PACKAGE["identifier"] == project()["name"]
    assert ENTRY["version"] == PACKAGE["version"] == __version__


def test_the_version_is_one_version_and_no_range():
    assert re.fullmatch(r"\d+\.\d+\.\d+[\w.+-]*", ENTRY["version"])


def test_its_addresses_are_addresses():
    for address in (ENTRY["repository"]["url"], ENTRY["websiteUrl"]):
        assert urlsplit(address).scheme == "https"
        assert urlsplit(address).hostname


def test_the_package_page_proves_the_name():
    """The registry looks for this text on the package's page on the index."""
    assert f"mcp-name: {ENTRY['name']}" in package_page(__version__)


def test_it_lists_every_variable_once():
    assert [each["name"] for each in PACKAGE["environmentVariables"]] == list(all_variables())


@pytest.mark.parametrize("name", ["IMAGE_GEN_HTTP_TOKEN", "COMFYUI_TOKEN", "COMFYUI_HEADERS"])
def test_a_credential_is_secret(name: str):
    (entry,) = (each for each in PACKAGE["environmentVariables"] if each["name"] == name)
    assert entry["isSecret"]
    assert "default" not in entry
