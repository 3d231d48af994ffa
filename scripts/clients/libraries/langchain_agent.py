"""Asks an agent of LangChain once; the model speaks Chat Completions."""

import asyncio
import os
import sys
from datetime import timedelta

from langchain.agents import create_agent
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI


async def main() -> None:
    """Print the agent's answer."""
    model = ChatOpenAI(model=os.environ["MODEL"], base_url=os.environ["MODEL_URL"], api_key="none")
    limit = os.environ["LIMIT"]
    options = {"session_kwargs": {"read_timeout_seconds": timedelta(seconds=float(limit))}} if limit else {}
    server = {"transport": "stdio", "command": os.environ["SERVER"], "args": [], **options}
    async with MultiServerMCPClient({"image-gen": server}).session("image-gen") as session:
        agent = create_agent(model, await load_mcp_tools(session))
        answer = await agent.ainvoke({"messages": [("user", sys.argv[1])]})
    print(answer["messages"][-1].content)


asyncio.run(main())
