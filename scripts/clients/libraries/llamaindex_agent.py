"""Asks an agent of LlamaIndex once; the model speaks Chat Completions."""

import asyncio
import os
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai import OpenAI
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec


async def main() -> None:
    """Print the agent's answer."""
    limit = os.environ["LIMIT"]
    options = {"timeout": int(limit)} if limit else {}
    tools = await McpToolSpec(client=BasicMCPClient(os.environ["SERVER"], **options)).to_tool_list_async()
    model = OpenAI(model=os.environ["MODEL"], api_base=os.environ["MODEL_URL"], api_key="none")
    print(await FunctionAgent(tools=tools, llm=model, timeout=None).run(sys.argv[1]))


asyncio.run(main())
