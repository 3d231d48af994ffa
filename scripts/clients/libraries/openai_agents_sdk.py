"""Asks an agent of the OpenAI Agents SDK once; the model speaks Responses, the SDK's default."""

import asyncio
import os
import sys

from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI


async def main() -> None:
    """Print the agent's answer."""
    set_tracing_disabled(disabled=True)
    client = AsyncOpenAI(base_url=os.environ["MODEL_URL"], api_key="none")
    model = OpenAIResponsesModel(model=os.environ["MODEL"], openai_client=client)
    limit = os.environ["LIMIT"]
    options = {"client_session_timeout_seconds": float(limit)} if limit else {}
    async with MCPServerStdio(params={"command": os.environ["SERVER"]}, **options) as server:
        result = await Runner.run(Agent(name="painter", model=model, mcp_servers=[server]), sys.argv[1])
    print(result.final_output)


asyncio.run(main())
