"""A FastMCP server with our tools' names, arguments and descriptions, and nothing behind them: the floor."""

from pathlib import Path

from mcp_image_gen_local.app import App
from mcp_image_gen_local.server import INSTRUCTIONS

SOURCE = """
import asyncio
from typing import Annotated
from fastmcp import Context, FastMCP
from fastmcp.tools import ToolResult
from mcp.types import ToolAnnotations
from pydantic import Field

server = FastMCP("bare", {instructions!r}, version="0")

{tools}

asyncio.run(server.run_async("stdio", show_banner=False, log_level="warning"))
"""


async def write(path: Path) -> None:
    """Write the bare server; its signatures are read from ours, so that they cannot drift apart."""
    from mcp_image_gen_local.server import build_server
    from mcp_image_gen_local.settings import load_settings

    settings = load_settings()
    tools = await build_server(settings, App(settings)).list_tools()
    parts = [_tool(tool.name, tool.description or "", tool.parameters) for tool in tools]
    path.write_text(SOURCE.format(instructions=INSTRUCTIONS, tools="\n".join(parts)))


def _tool(name: str, description: str, schema: dict) -> str:
    arguments = ", ".join(_argument(n, p) for n, p in schema["properties"].items())
    return (
        f"@server.tool(description={description!r}, annotations=ToolAnnotations(read_only_hint=True))\n"
        f"async def {name}(ctx: Context{', ' if arguments else ''}{arguments}) -> ToolResult:\n"
        f"    return ToolResult(content=[])\n"
    )


def _argument(name: str, prop: dict) -> str:
    python = {"string": "str", "integer": "int", "number": "float"}[prop["type"]]
    default = f" = {prop.get('default')!r}" if prop.get("nullable") else ""
    return f"{name}: Annotated[{python}, Field(description={prop['description']!r})]{default}"
