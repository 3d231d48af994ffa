"""ComfyUI over HTTP: requests out, parsed answers in, foreign errors translated. No thinking here.

Source of the API facts: ComfyUI server.py and observed traffic of 0.3.64; newer servers answer the same routes.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx2

from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineRefused,
    EngineStalled,
    EngineUnreachable,
    ImageGone,
)

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0  #: one answer; ComfyUI answers in milliseconds even while it samples
SUBMIT_SECONDS = 30.0  #: the whole of POST /prompt
ASK_SECONDS = 5.0  #: the whole of a question that is asked again soon
VIEW_SECONDS = 120.0  #: the whole of one image, however slowly it trickles in
ATTEMPTS_TO_VIEW = 3


class SubmitUncertain(Exception):
    """`POST /prompt` gave no usable reply, so nobody knows whether the prompt is queued.

    Attributes:
        cut: The connection ended; a prompt that is not queued by now will not be.
    """

    def __init__(self, message: str, *, cut: bool = False) -> None:
        super().__init__(message)
        self.cut = cut


class ComfyUIClient:
    """One connection pool to one ComfyUI."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        #: for people: without the user and password that may stand in the real one
        self.url = str(httpx2.URL(url).copy_with(userinfo=b"")).rstrip("/")
        self._asking: asyncio.Task[dict[str, Any]] | None = None
        # trust_env=False: the engine is the user's own; a system-wide proxy has no business in between.
        self.http = httpx2.AsyncClient(
            base_url=url,
            headers=dict(headers),
            timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=16),
            trust_env=False,
            verify=url.startswith("https:"),  # without TLS there is nothing to verify, and loading CAs takes 0.1 s
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._asking:
            self._asking.cancel()
        await self.http.aclose()

    async def system_stats(self) -> dict[str, Any]:
        """Return version and devices."""
        return await self._quickly("/system_stats")

    async def object_info(self, class_type: str) -> dict[str, Any] | None:
        """Return the node class's description; None if the server lacks the class (it answers `{}`)."""
        found = self._object(await self._get(f"/object_info/{quote(class_type, safe='')}"))
        info = found.get(class_type)
        return info if isinstance(info, dict) else None

    async def queue(self) -> dict[str, Any]:
        """Return `queue_running` and `queue_pending`; jobs that ask at the same time get one answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._quickly("/queue"), name="comfyui-queue")
            self._asking.add_done_callback(_retrieve)  # whoever asked may be gone by then
        return await asyncio.shield(self._asking)

    async def queue_remaining(self) -> int:
        """Return how many prompts run or wait, without their graphs."""
        remaining = ((await self._quickly("/prompt")).get("exec_info") or {}).get("queue_remaining")
        return remaining if isinstance(remaining, int) else 0

    async def view_end(self, image: Mapping[str, str]) -> bytes | None:
        """Return the last bytes of an output file, at least 12 if it has as many; None if there is no such file."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reply = await self.http.get("/view", params=dict(image), headers={"Range": "bytes=-12"})
        except TimeoutError as error:
            raise self._stalled() from error
        except httpx2.HTTPError as error:
            raise self.unreachable() from error
        self._check_access(reply)
        return reply.content if reply.status_code in (200, 206) else None

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """Return the history entry; None before the end, after a restart, and for unknown ids alike."""
        entry = (await self._quickly(f"/history/{quote(prompt_id, safe='')}")).get(prompt_id)
        return entry if isinstance(entry, dict) else None

    async def _quickly(self, path: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return self._object(await self._get(path))
        except TimeoutError as error:
            raise self._stalled() from error

    def _stalled(self) -> EngineStalled:
        return EngineStalled(
            f"ComfyUI at {self.url} accepts connections but did not respond within {ASK_SECONDS:g} s.",
            hint="It may be reading a large model; if it hangs, restart it.",
        )

    async def queue_prompt(self, graph: Mapping[str, Any], *, prompt_id: str, client_id: str) -> httpx2.Response:
        """Send the graph and return the raw reply, of status 200 or 4xx.

        Raises:
            SubmitUncertain: the reply was lost or is a 5xx; ComfyUI may have queued the prompt all the same.
            EngineUnreachable: no connection could be made, so nothing was queued.
        """
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        try:
            async with asyncio.timeout(SUBMIT_SECONDS):
                reply = await self.http.post("/prompt", json=body)
        except TimeoutError as error:
            message = f"no reply within {SUBMIT_SECONDS:g} s"
            raise SubmitUncertain(message) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise self.unreachable() from error
        except httpx2.HTTPError as error:
            cut = not isinstance(error, httpx2.TimeoutException)
            raise SubmitUncertain(str(error) or type(error).__name__, cut=cut) from error
        if reply.status_code >= 500:
            message = f"HTTP {reply.status_code}: {reply.text[:200]}"
            raise SubmitUncertain(message)
        self._check_access(reply)
        return reply

    async def delete_pending(self, prompt_id: str) -> None:
        """Take the prompt from the queue; no effect on a running or unknown one."""
        await self._post("/queue", {"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        """Interrupt the prompt if it is the one that runs; takes effect at the next step or node."""
        await self._post("/interrupt", {"prompt_id": prompt_id})

    async def upload_image(self, data: bytes, name: str) -> str:
        """Put an image into ComfyUI's input folder and return the name it got there.

        The same name with the same bytes is the same file; with other bytes ComfyUI gives it another name.
        """
        try:
            reply = await self.http.post("/upload/image", files={"image": (name, data)}, data={"type": "input"})
        except httpx2.HTTPError as error:
            raise self.unreachable() from error
        stored = self._object(self._check(reply))
        return "/".join(part for part in (str(stored.get("subfolder") or ""), str(stored.get("name"))) if part)

    async def view(self, image: Mapping[str, str]) -> bytes:
        """Return the bytes of one output file; a reply cut short is asked for again.

        Raises:
            ImageGone: ComfyUI no longer has the file.
            EngineAnswerUnusable: it cannot hand the file out, or not within 120 s.
        """
        try:
            async with asyncio.timeout(VIEW_SECONDS):
                reply = await self._view(image)
        except TimeoutError as error:
            raise EngineAnswerUnusable(
                f"ComfyUI did not hand out the image {image['filename']!r} within {VIEW_SECONDS:g} s.",
                hint=f"Is the network slow? The image lies at {self.view_url(image)}",
            ) from error
        self._check_access(reply)
        if reply.status_code >= 500:
            raise EngineAnswerUnusable(
                f"ComfyUI failed to hand out the image {image['filename']!r} (HTTP {reply.status_code}).",
                hint="ComfyUI's log says more; the file lies in its output folder.",
            )
        if reply.status_code != 200:
            raise ImageGone(
                f"ComfyUI returned HTTP {reply.status_code} for its output image {image['filename']!r}.",
                hint="The file was deleted or renamed there; generate it again with another seed.",
            )
        return reply.content

    async def _view(self, image: Mapping[str, str]) -> httpx2.Response:
        """Return the first usable reply, else the last one."""
        for attempt in range(ATTEMPTS_TO_VIEW):
            is_last = attempt + 1 == ATTEMPTS_TO_VIEW
            try:
                reply = await self.http.get("/view", params=dict(image))
            except httpx2.HTTPError as error:
                if is_last:
                    raise self.unreachable() from error
            else:
                if reply.status_code < 500 or is_last:
                    return reply
            await asyncio.sleep(0.1 * attempt)
        raise AssertionError("unreachable")

    def view_url(self, image: Mapping[str, str]) -> str:
        """Return the address under which a person can open one output file."""
        return f"{self.url}/view?{httpx2.QueryParams(dict(image))}"

    def unreachable(self) -> EngineUnreachable:
        """Return the error for a ComfyUI that does not answer."""
        return EngineUnreachable(f"ComfyUI not reachable at {self.url}. Start with: python main.py --listen")

    async def _get(self, path: str) -> httpx2.Response:
        try:
            reply = await self.http.get(path)
        except httpx2.HTTPError as error:
            raise self.unreachable() from error
        return self._check(reply)

    async def _post(self, path: str, body: Mapping[str, Any]) -> None:
        try:
            reply = await self.http.post(path, json=body)
        except httpx2.HTTPError as error:
            raise self.unreachable() from error
        self._check(reply)

    def _check_access(self, reply: httpx2.Response) -> None:
        if reply.status_code in (401, 403, 407) or reply.is_redirect:
            raise EngineRefused(
                f"{self.url} refused access (HTTP {reply.status_code}).",
                hint="Set COMFYUI_TOKEN or COMFYUI_HEADERS to what the proxy before ComfyUI expects.",
            )

    def _check(self, reply: httpx2.Response) -> httpx2.Response:
        self._check_access(reply)
        if reply.status_code != 200:
            raise EngineAnswerUnusable(
                f"{reply.request.url} answered HTTP {reply.status_code}.",
                hint="Is COMFYUI_URL the address of ComfyUI itself? Its log says more.",
            )
        return reply

    def _object(self, reply: httpx2.Response) -> dict[str, Any]:
        try:
            body = reply.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise EngineAnswerUnusable(
                f"{reply.request.url} answered something other than ComfyUI's JSON.",
                hint="COMFYUI_URL must be the address of ComfyUI itself, not of a login page or another program.",
            )
        return body


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Look at how the task ended, so that asyncio does not complain that nobody did."""
    if not task.cancelled():
        task.exception()
