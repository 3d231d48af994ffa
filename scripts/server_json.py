"""The MCP registry's entry: `python -m scripts.server_json` writes server.json from pyproject.toml and the settings."""

import json
from typing import Any

from pydantic.fields import FieldInfo

from mcp_image_gen_local import __version__
from mcp_image_gen_local.engine_kit.registry import all_variables
from scripts.links import ROOT, project, registry_name

SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
FILE = ROOT / "server.json"


def server_json() -> dict[str, Any]:
    """Return the entry. The registry takes at most 100 characters of description."""
    about = project()
    return {
        "$schema": SCHEMA,
        "name": registry_name(),
        "title": "Image generation on your own hardware",
        "description": "Generates images on hardware you own: ComfyUI, or a small built-in model. No cloud.",
        "version": __version__,
        "repository": {"url": about["urls"]["Repository"], "source": "github"},
        "websiteUrl": about["urls"]["Documentation"],
        "packages": [
            {
                "registryType": "pypi",
                "identifier": about["name"],
                "version": __version__,
                "runtimeHint": "uvx",
                "transport": {"type": "stdio"},
                "environmentVariables": [variable(name, info) for name, (_, _, info) in all_variables().items()],
            }
        ],
    }


def variable(name: str, info: FieldInfo) -> dict[str, Any]:
    """Return a setting as the registry describes it; a default that depends on the machine is left out."""
    entry: dict[str, Any] = {"name": name, "description": info.description}
    if info.default and not info.default_factory:
        entry["default"] = str(info.default)
    elif info.examples:
        entry["placeholder"] = info.examples[0]
    if "SecretStr" in str(info.annotation):
        entry["isSecret"] = True
    return entry


def text() -> str:
    """Return the file's text."""
    return json.dumps(server_json(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
