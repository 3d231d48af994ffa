"""ComfyUI's routes: requests out, checked values in, foreign errors translated. No thinking here.

Source of the API facts: ComfyUI server.py and observed traffic of 0.3.64; newer servers answer the same routes.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2

from mcp_image_gen_local.domain.errors import EngineAnswerUnusable, EngineStalled, ImageGenError, ImageGone
from mcp_image_gen_local.engines.comfyui import transport, troubles
from mcp_image_gen_local.engines.comfyui.object_info import NodeInfo, parse_class
from mcp_image_gen_local.engines.comfyui.prompt_reply import PromptReply, parse_prompt_reply, text_of
from mcp_image_gen_local.engines.comfyui.replies import (
    HistoryEntry,
    ImageFile,
    Queue,
    SystemStats,
    parse_history,
    parse_queue,
    parse_remaining,
    parse_stats,
    parse_upload,
)
from mcp_image_gen_local.engines.comfyui.transport import Reply, TooLarge, Transport
from mcp_image_gen_local.engines.comfyui.values import load

SUBMIT_SECONDS = 30.0  #: the whole of POST /prompt
ASK_SECONDS = 5.0  #: the whole of a question that is asked again soon, or of a short order
DESCRIBE_SECONDS = 30.0  #: the whole of one node class: its lists of files may come from a slow disk
UPLOAD_SECONDS = 120.0  #: the whole of one image on its way to ComfyUI
VIEW_SECONDS = 120.0  #: the whole of one image, however slowly it trickles in
ATTEMPTS_TO_VIEW = 3
NOT_OF_THE_PROMPT = (401, 403, 404, 405, 407)  #: statuses that say nothing of the graph
END_BYTES = 2**16  #: of a file that are looked at; programs append notes to a finished PNG

Parsed = TypeVar("Parsed")


class SubmitUncertain(Exception):
    """`POST /prompt` gave no usable reply, so nobody knows whether the prompt is queued.

    Attributes:
        cut: The connection ended; a prompt that is not queued by now will not be.
    """

    def __init__(self, message: str, *, cut: bool = False) -> None:
        super().__init__(message)
        self.cut = cut


class ComfyUIClient:
    """One ComfyUI; every method raises `ImageGenError`s only, but for `SubmitUncertain`."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._transport = Transport(url, headers)
        self.url = self._transport.url  #: for people: without user and password
        self.http = self._transport.http
        self._asking: asyncio.Task[Queue] | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._asking:
            self._asking.cancel()
        await self._transport.aclose()

    async def system_stats(self) -> SystemStats:
        """Return version and devices."""
        return await self._get("/system_stats", parse_stats)

    async def object_info(self, class_type: str) -> NodeInfo | None:
        """Return the node class's description; None if the server lacks the class (it answers `{}`)."""
        path = f"/object_info/{quote(class_type, safe='')}"
        return await self._get(path, lambda body: _entry(body, class_type, parse_class), seconds=DESCRIBE_SECONDS)

    async def queue(self) -> Queue:
        """Return what runs and what waits; jobs that ask at the same time get one answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._get("/queue", parse_queue), name="comfyui-queue")
            self._asking.add_done_callback(_retrieve)  # whoever asked may be gone by then
        return await asyncio.shield(self._asking)

    async def queue_remaining(self) -> int:
        """Return how many prompts run or wait, without their graphs."""
        return await self._get("/prompt", parse_remaining)

    async def history(self, prompt_id: str) -> HistoryEntry | None:
        """Return the history entry; None before the end, after a restart, and for unknown ids alike."""
        path = f"/history/{quote(prompt_id, safe='')}"
        return await self._get(path, lambda body: _entry(body, prompt_id, parse_history))

    async def queue_prompt(self, graph: Mapping[str, Any], *, prompt_id: str, client_id: str) -> PromptReply:
        """Send the graph and return what ComfyUI says: it is queued, or refused.

        Raises:
            SubmitUncertain: the reply was lost, is a 5xx or names no prompt; ComfyUI may have queued it all the same.
            EngineUnreachable: no connection could be made, so nothing was queued.
        """
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        try:
            reply = await self._transport.ask("POST", "/prompt", seconds=SUBMIT_SECONDS, json=body)
        except TimeoutError as error:
            message = f"no reply within {SUBMIT_SECONDS:g} s"
            raise SubmitUncertain(message) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise troubles.of_error(error, self.url) from error
        except (httpx2.HTTPError, TooLarge) as error:
            cut = isinstance(error, httpx2.HTTPError) and not isinstance(error, httpx2.TimeoutException)
            raise SubmitUncertain(str(error) or type(error).__name__, cut=cut) from error
        if reply.status >= 500:
            message = f"HTTP {reply.status}: {text_of(reply.body)}"
            raise SubmitUncertain(message)
        return self._prompt_reply(reply)

    def _prompt_reply(self, reply: Reply) -> PromptReply:
        is_for_us = reply.status == 200 or (reply.status >= 400 and reply.status not in NOT_OF_THE_PROMPT)
        if not is_for_us and (trouble := troubles.of_status(reply, self.url, "/prompt")):
            raise trouble
        parsed = parse_prompt_reply(reply.status, reply.body)
        if not parsed.is_refused and parsed.prompt_id is None:
            message = f"its reply names no prompt: {parsed.reason or text_of(reply.body)}"
            raise SubmitUncertain(message)
        return parsed

    async def delete_pending(self, prompt_id: str) -> None:
        """Take the prompt from the queue; no effect on a running or unknown one."""
        await self._ask("POST", "/queue", json={"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        """Interrupt the prompt if it is the one that runs; takes effect at the next step or node."""
        await self._ask("POST", "/interrupt", json={"prompt_id": prompt_id})

    async def upload_image(self, data: bytes, name: str) -> str:
        """Put an image into ComfyUI's input folder and return the name it got there.

        The same name with the same bytes is the same file; with other bytes ComfyUI gives it another name.
        """
        content = {"files": {"image": (name, data)}, "data": {"type": "input"}}
        reply = await self._ask("POST", "/upload/image", seconds=UPLOAD_SECONDS, **content)
        return self._parse(reply, "/upload/image", parse_upload)

    async def view_end(self, image: ImageFile) -> bytes | None:
        """Return the last bytes of an output file, 64 KiB if it has as many; None if there is no such file."""
        content = {"params": image.params, "headers": {"Range": f"bytes=-{END_BYTES}"}, "limit": transport.MAX_IMAGE}
        reply = await self._send("GET", "/view", seconds=ASK_SECONDS, **content)
        if reply.status in (200, 206):
            return reply.body[-END_BYTES:]
        if troubles.is_of_the_way(reply.status) and (trouble := troubles.of_status(reply, self.url, "/view")):
            raise trouble
        return None

    async def view(self, image: ImageFile) -> bytes:
        """Return the bytes of one output file; a reply cut short is asked for again.

        Raises:
            ImageGone: ComfyUI no longer has the file.
            EngineAnswerUnusable: it cannot hand the file out, or the file has more than 256 MiB.
            EngineUnreachable: it does not answer, or not within 120 s.
        """
        try:
            async with asyncio.timeout(VIEW_SECONDS):
                reply = await self._view(image)
        except TimeoutError as error:
            raise EngineStalled(
                f"ComfyUI did not hand out the image {image.label!r} within {VIEW_SECONDS:g} s.",
                hint=f"Is the network slow? The image lies at {self.view_url(image)}",
            ) from error
        if reply.status == 200:
            return reply.body
        if troubles.is_of_the_way(reply.status) and (trouble := troubles.of_status(reply, self.url, "/view")):
            raise trouble
        if reply.status >= 500:
            raise EngineAnswerUnusable(
                f"ComfyUI failed to hand out the image {image.label!r} (HTTP {reply.status}).",
                hint="ComfyUI's log says more; the file lies in its output folder.",
            )
        raise ImageGone(
            f"ComfyUI returned HTTP {reply.status} for its output image {image.label!r}.",
            hint="The file was deleted or renamed there; generate it again with another seed.",
        )

    async def _view(self, image: ImageFile) -> Reply:
        """Return the first usable reply, else the last one."""
        for attempt in range(ATTEMPTS_TO_VIEW):
            is_last = attempt + 1 == ATTEMPTS_TO_VIEW
            try:
                reply = await self._transport.ask(
                    "GET", "/view", seconds=VIEW_SECONDS, limit=transport.MAX_IMAGE, params=image.params
                )
            except TooLarge as error:
                message = f"The image {image.label!r} has {error}, which is too large to be fetched."
                raise EngineAnswerUnusable(message, hint="It lies in ComfyUI's output folder.") from error
            except httpx2.HTTPError as error:
                if is_last:
                    raise troubles.of_error(error, self.url, "/view") from error
            else:
                if reply.status < 500 or is_last:
                    return reply
            await asyncio.sleep(0.1 * attempt)
        raise AssertionError("unreachable")

    def view_url(self, image: ImageFile) -> str:
        """Return the address under which a person can open one output file."""
        return f"{self.url}/view?{httpx2.QueryParams(image.params)}"

    async def _get(
        self, path: str, parse: Callable[[Mapping[str, Any]], Parsed], *, seconds: float | None = None
    ) -> Parsed:
        return self._parse(await self._ask("GET", path, seconds=seconds), path, parse)

    def _parse(self, reply: Reply, path: str, parse: Callable[[Mapping[str, Any]], Parsed]) -> Parsed:
        try:
            body = load(reply.body)
            if not isinstance(body, dict):
                raise ValueError
            return parse(body)
        except ValueError as error:
            raise troubles.not_json(self.url + path) from error

    async def _ask(self, method: str, path: str, *, seconds: float | None = None, **content: Any) -> Reply:
        """Return a reply of status 200."""
        reply = await self._send(method, path, seconds=seconds or ASK_SECONDS, **content)
        if trouble := troubles.of_status(reply, self.url, path):
            raise trouble
        return reply

    async def _send(self, method: str, path: str, *, seconds: float, **content: Any) -> Reply:
        """Return a reply of any status."""
        try:
            return await self._transport.ask(method, path, seconds=seconds, **content)
        except TimeoutError as error:
            raise troubles.stalled(self.url, seconds) from error
        except (httpx2.HTTPError, TooLarge) as error:
            raise await self._trouble(error, path) from error

    async def _trouble(self, error: Exception, path: str) -> ImageGenError:
        """Return what a failed request means; a port that hangs up on plain HTTP may be one that speaks TLS."""
        is_hung_up = isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError) and self.url.startswith("http:")
        if is_hung_up and await self._transport.speaks_tls():
            return troubles.speaks_https(self.url)
        return troubles.of_error(error, self.url, path)


def _entry(body: Mapping[str, Any], name: str, parse: Callable[[Mapping[str, Any]], Parsed]) -> Parsed | None:
    """Return what the body holds under this name; None if it holds nothing there.

    Raises:
        ValueError: it holds something odd.
    """
    entry = body.get(name)
    if entry is None or entry == {}:
        return None
    if not isinstance(entry, dict):
        message = f"an odd {name}"
        raise ValueError(message)
    return parse(entry)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Look at how the task ended, so that asyncio does not complain that nobody did."""
    if not task.cancelled():
        task.exception()
