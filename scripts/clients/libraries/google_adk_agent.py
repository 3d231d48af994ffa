"""Asks an agent of Google ADK once; the model speaks Gemini's API."""

import asyncio
import os
import sys

from google.adk.agents import LlmAgent
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset, StdioConnectionParams
from mcp import StdioServerParameters


async def main() -> None:
    """Print what the agent does."""
    limit = os.environ["LIMIT"]
    options = {"timeout": float(limit)} if limit else {}
    parameters = StdioServerParameters(command=os.environ["SERVER"])
    tools = McpToolset(connection_params=StdioConnectionParams(server_params=parameters, **options))
    agent = LlmAgent(name="painter", model="gemini-2.5-flash", tools=[tools])
    await InMemoryRunner(agent).run_debug(sys.argv[1])
    await tools.close()


asyncio.run(main())
