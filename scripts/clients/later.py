"""Looks whether the next server finds an image that nobody waited for."""

import asyncio
import os

from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from scripts.clients.stand import Stand

LEASE_SECONDS = 16  #: after the last sign of life of a server, until another one may take its job
FIND_SECONDS = 10


def collect(stand: Stand) -> bool:
    """Return whether a new server, with the state of the old one, saves an image."""
    return asyncio.run(_collect(stand))


async def _collect(stand: Stand) -> bool:
    await asyncio.sleep(LEASE_SECONDS)
    env = {**os.environ, **stand.server_env()}
    command, *arguments = stand.server
    transport = StdioTransport(command=command, args=arguments, env=env, keep_alive=False)
    async with Client(transport) as client:
        await client.call_tool("list_available_models")
        return await asyncio.to_thread(stand.wait, lambda: bool(stand.images), FIND_SECONDS)
