"""Asks an agent of pydantic-ai once; the model speaks Chat Completions."""

import asyncio
import os
import sys

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def main() -> None:
    """Print the agent's answer."""
    provider = OpenAIProvider(base_url=os.environ["MODEL_URL"], api_key="none")
    model = OpenAIChatModel(os.environ["MODEL"], provider=provider)
    limit = os.environ["LIMIT"]
    options = {"read_timeout": float(limit)} if limit else {}
    toolset = MCPToolset(StdioTransport(os.environ["SERVER"], []), **options)
    async with Agent(model, toolsets=[toolset]) as agent:
        print((await agent.run(sys.argv[1])).output)


asyncio.run(main())
