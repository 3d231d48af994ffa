"""What `doctor` asks ComfyUI beside its check."""

import asyncio
import re
import uuid
from collections.abc import Sequence

import httpx2

from mcp_image_gen_local.domain.errors import EngineAnswerUnusable
from mcp_image_gen_local.domain.finding import Finding, Level
from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient
from mcp_image_gen_local.engines.comfyui.settings import ComfyUISettings

SECONDS = 5.0  #: for each question
PAGE_BYTES = 64 * 1024  #: of another program's page that are looked at
TITLE = re.compile(rb"(?is)<title[^>]*>(.*?)</title")


async def diagnose(settings: ComfyUISettings, failure: Exception | None) -> Sequence[Finding]:
    """Return whether the WebSocket passes; after a failure, what answers at the address, if anything does."""
    client = ComfyUIClient(settings.url, settings.request_headers)
    try:
        if failure is None:
            return [await _socket(client)]
        return await _stranger(client) if isinstance(failure, EngineAnswerUnusable) else []
    finally:
        await client.aclose()


async def _socket(client: ComfyUIClient) -> Finding:
    address = "ws" + client.url.removeprefix("http") + "/ws"  # the client adds user and password
    try:
        async with asyncio.timeout(SECONDS), client.http.websocket(address, params={"clientId": uuid.uuid4().hex}):
            return Finding(subject="socket", text="ComfyUI's WebSocket can be reached: progress comes at once")
    except Exception as error:  # however it fails, jobs go on by polling
        text = (
            f"ComfyUI's WebSocket at {client.url} cannot be reached ({_reason(error)}): progress comes by polling, "
            "without steps. Let the proxy before ComfyUI pass WebSockets (docs/how-to/remote-comfyui-behind-a-proxy.md)"
        )
        return Finding(subject="socket", level=Level.WARN, text=text)


def _reason(error: Exception) -> str:
    """Return kind and status alone: the whole text may hold the address with its password."""
    reply = getattr(error, "response", None)
    return f"HTTP {reply.status_code}" if isinstance(reply, httpx2.Response) else type(error).__name__


async def _stranger(client: ComfyUIClient) -> list[Finding]:
    """Return what the program that is not ComfyUI says of itself."""
    try:
        async with asyncio.timeout(SECONDS), client.http.stream("GET", "/") as reply:
            page = b""
            async for piece in reply.aiter_raw(PAGE_BYTES):
                page += piece
                if len(page) >= PAGE_BYTES:
                    break
    except (httpx2.HTTPError, TimeoutError):
        return []
    title = TITLE.search(page)
    facts = [
        f"HTTP {reply.status_code}",
        clean(reply.headers.get("content-type"), 60),
        f"server {clean(reply.headers['server'], 60)!r}" if "server" in reply.headers else "",
        f"{clean((title[1] if title else page[:200]).decode('utf-8', 'replace'), 80)!r}",
    ]
    text = f"{client.url} answers: {', '.join(fact for fact in facts if fact)}"
    return [Finding(subject="answer", level=Level.WARN, text=text)]
