"""Asks an agent of smolagents once; the model speaks Chat Completions."""

import os
import sys

from mcp import StdioServerParameters
from smolagents import MCPClient, OpenAIServerModel, ToolCallingAgent

limit = os.environ["LIMIT"]
options = {"client_session_timeout_seconds": float(limit)} if limit else {}
model = OpenAIServerModel(model_id=os.environ["MODEL"], api_base=os.environ["MODEL_URL"], api_key="none")
parameters = StdioServerParameters(command=os.environ["SERVER"])
with MCPClient(parameters, adapter_kwargs=options, structured_output=False) as tools:
    print(ToolCallingAgent(tools=tools, model=model, max_steps=3).run(sys.argv[1]))
