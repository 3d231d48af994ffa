"""The benchmarks' bare server stays comparable with ours."""

import runpy
from pathlib import Path

import pytest
from fastmcp import FastMCP

from bench import bare
from tests.conftest import Caller


async def test_the_bare_server_has_our_tools(caller: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    await bare.write(tmp_path / "bare.py")
    monkeypatch.setattr("asyncio.run", lambda serving: serving.close())  # it would serve on stdin
    server = runpy.run_path(str(tmp_path / "bare.py"))["server"]
    assert isinstance(server, FastMCP)
    arguments = {tool.name: list(tool.parameters["properties"]) for tool in await server.list_tools()}
    ours = await caller.client.list_tools()
    assert arguments == {tool.name: list(tool.input_schema["properties"]) for tool in ours}
