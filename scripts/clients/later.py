"""What an agent gets that calls again after its client gave up."""

import asyncio
import os

from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from scripts.clients.conversation import WANTED
from scripts.clients.protocol import calls
from scripts.clients.stand import Stand

ANSWER_SECONDS = 60


def call_again(stand: Stand) -> str:
    """Repeat the call at a new server, with the state of the old one; return what became of the image."""
    return asyncio.run(_call_again(stand))


async def _call_again(stand: Stand) -> str:
    before = len(stand.comfyui.prompts)
    _, request = calls(stand.log(), WANTED)[-1]
    command, *arguments = stand.server
    env = {**os.environ, **stand.server_env()}
    transport = StdioTransport(command=command, args=arguments, env=env, keep_alive=False)
    async with Client(transport, timeout=ANSWER_SECONDS) as client:
        await client.call_tool(WANTED, request["params"]["arguments"], raise_on_error=False)
    if not stand.images:
        return "image lost"
    return "image generated again" if len(stand.comfyui.prompts) > before else "image given to the next call"
