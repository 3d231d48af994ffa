"""The HTTP side of the ComfyUI test double: one small ASGI application."""

import asyncio
import json
import logging
import mimetypes
import posixpath
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from tests import comfyui_images as images
from tests.comfyui_faults import Cut, Slow, Truncated, gone, gone_within
from tests.comfyui_nodes import FOLDERS, NodeCatalogue
from tests.comfyui_sockets import FEATURES, Hub, Message, Receive, Send
from tests.comfyui_state import Json, Prompt
from tests.comfyui_validation import validate
from tests.comfyui_worker import Machine

_PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"
_TROUBLE = b"500 Internal Server Error\n\nServer got itself in trouble"
_JSON = "application/json; charset=utf-8"
_ONE_CLASS, _ONE_FOLDER, _ONE_ENTRY = "/object_info/", "/models/", "/history/"
_STALLED = ("GET /queue", f"GET {_ONE_ENTRY}")
_logger = logging.getLogger("tests.comfyui")


class Seen(NamedTuple):
    """One request as it arrived."""

    method: str  #: "GET", "POST", or "WEBSOCKET" for a handshake
    path: str  #: as sent, with /api if it was there
    query: dict[str, str]
    headers: dict[str, str]  #: names in lower case
    body: bytes


def reply(data: Any, status: int = 200) -> Response:
    """Return a JSON response; NaN is written as ComfyUI writes it."""
    return Response(json.dumps(data), status, media_type=_JSON)


def text(body: bytes | str, status: int) -> Response:
    """Return a plain text response."""
    return Response(body, status, media_type="text/plain")


def _nothing(status: int = 200) -> Response:
    return Response(b"", status, headers={"Content-Type": "application/octet-stream"})


class App:
    """Answers what a text-to-image client of ComfyUI asks, and notes every request."""

    def __init__(
        self, *, machine: Machine, hub: Hub, catalogue: NodeCatalogue, cut: Callable[[Any], None], notes: Any
    ) -> None:
        self._machine, self._hub, self._catalogue = machine, hub, catalogue
        self._controls = machine.controls
        self._state = machine.state
        self._files = machine.files
        self._cut, self._notes = cut, notes
        self._routes: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("GET", "/"): lambda _: Response("<html>ComfyUI</html>", media_type="text/html"),
            ("GET", "/ws"): lambda _: text('No WebSocket UPGRADE hdr: None\n Can "Upgrade" only to "WebSocket".', 400),
            ("GET", "/prompt"): lambda _: reply({"exec_info": {"queue_remaining": self._state.remaining}}),
            ("POST", "/prompt"): self._post_prompt,
            ("GET", "/queue"): lambda _: reply(self._state.queue()),
            ("POST", "/queue"): self._post_queue,
            ("POST", "/interrupt"): self._post_interrupt,
            ("POST", "/free"): self._post_free,
            ("GET", "/history"): self._get_history,
            ("POST", "/history"): self._post_history,
            ("GET", "/view"): self._get_view,
            ("GET", "/system_stats"): lambda _: reply(self._notes.system_stats),
            ("GET", "/features"): lambda _: reply(FEATURES),
            ("GET", "/object_info"): lambda _: Response(catalogue.as_json(), media_type=_JSON),
            ("GET", "/models"): lambda _: reply([*FOLDERS, *sorted(set(catalogue.models) - set(FOLDERS))]),
            ("GET", "/embeddings"): lambda _: reply([posixpath.splitext(n)[0] for n in catalogue.files("embeddings")]),
            ("POST", "/upload/image"): self._post_upload,
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection's request or WebSocket."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    # -- what every request goes through ----------------------------------------------------------

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        self._note(scope, scope["method"], body)
        if await self._stall(scope, scope["method"], receive):
            return
        try:
            response = self._barred(scope) or await self._answer(scope, body)
            response = self._notes.mutate(scope["method"], scope["path"], response)
            await response(scope, receive, send)
        except Cut:
            self._cut(scope["client"])
            await gone(receive)

    def _note(self, scope: Message, method: str, body: bytes) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        self._keep(self._notes.requests, Seen(method, scope["path"], query, headers, body))

    def _keep(self, notes: list[Any], *news: Any) -> None:
        """Append to one of the server's lists and wake those who wait for it."""
        if news:
            with self._controls.changed:
                notes.extend(news)
                self._controls.changed.notify_all()

    async def _stall(self, scope: Message, method: str, receive: Receive) -> bool:
        """Keep a request waiting until `stalled` is healed; True if its client has left."""
        heals = self._controls.heals["stalled"]
        fault = self._controls.options("stalled")
        if fault is None or not _is_named(method, scope["path"].removeprefix("/api"), fault.get("paths", _STALLED)):
            return False
        self._controls.use("stalled")
        while self._controls.heals["stalled"] == heals:
            if await gone_within(receive, 0.01):
                return True
        return False

    def _barred(self, scope: Message) -> Response | None:
        """Return the answer of a fault that stands before everything, if one does."""
        if self._controls.use("html") is not None:
            return Response(_PAGE, media_type="text/html")
        fault = self._controls.use("unauthorized")
        if fault is not None:
            name, value = fault.get("header", ("", ""))
            if (name.lower().encode(), value.encode()) not in scope["headers"]:
                return text("401: Unauthorized", 401)
        return None

    async def _answer(self, scope: Message, body: bytes) -> Response:
        method, path = scope["method"], scope["path"].removeprefix("/api")
        if len(body) > FEATURES["max_upload_size"]:
            return text(f"Maximum request body size {FEATURES['max_upload_size']} exceeded.", 413)
        handler = self._routes.get((method, path)) or self._parametric(method, path)
        if handler is None:
            return _nothing(404) if method == "GET" else text("405: Method Not Allowed", 405)
        try:
            answer = handler(Request(scope, _replay(body)))
            return await answer if isinstance(answer, Awaitable) else answer
        except Cut:
            raise
        except Exception:
            _logger.debug("%s %s", method, path, exc_info=True)
            return text(_TROUBLE, 500)

    def _parametric(self, method: str, path: str) -> Callable[[Request], Response] | None:
        """Return the handler of a path that ends in a name."""
        prefix, _, name = path.rpartition("/")
        if method != "GET" or not name:
            return None
        if path.startswith(_ONE_ENTRY):
            return lambda _: reply(self._state.entry(path.removeprefix(_ONE_ENTRY)))
        if prefix == "/object_info":
            self._catalogue.refresh()
            info = self._catalogue.get(name)
            return lambda _: reply({name: info} if info else {})
        if prefix == "/models" and (name in FOLDERS or name in self._catalogue.models):
            return lambda _: reply(self._catalogue.files(name))
        return None

    # -- the queue --------------------------------------------------------------------------------

    async def _post_prompt(self, request: Request) -> Response:
        if self._controls.use("refuse_500") is not None:
            return text(_TROUBLE, 500)
        if self._controls.use("lost_request") is not None:
            raise Cut
        body = await request.json()
        late = self._controls.use("late_prompt")
        if late is not None:
            asyncio.get_running_loop().call_later(late.get("seconds", 0.05), self._take_late, body)
            raise Cut
        return self._take(body)

    def _take_late(self, body: Json) -> None:
        """Take a prompt whose client has nothing to hear any more."""
        with suppress(Exception):
            self._take(body)

    def _take(self, body: Json) -> Response:
        self._keep(self._notes.prompts, body)
        number = float(body["number"]) if "number" in body else self._state.next_number
        if "front" in body and body["front"]:  # noqa: RUF019 - a list may be here, too
            number = -number
        self._state.next_number += 1
        if "prompt" not in body:
            missing = "No prompt provided"
            error = {"type": "no_prompt", "message": missing, "details": missing, "extra_info": {}}
            return reply({"error": error, "node_errors": {}}, 400)
        return self._queue(body, number)

    def _queue(self, body: Json, number: float) -> Response:
        prompt_id = str(body["prompt_id"]) if "prompt_id" in body else str(uuid.uuid4())
        self._catalogue.refresh()
        verdict = validate(body["prompt"], self._catalogue.get, lambda name: self._files.find(str(name)) is not None)
        extra_data = body.get("extra_data", {})
        if "client_id" in body:
            extra_data["client_id"] = body["client_id"]
        if verdict.error is not None:
            return reply({"error": verdict.error, "node_errors": verdict.node_errors}, 400)
        graph, outputs = body["prompt"], verdict.outputs
        self._state.put(Prompt(number=number, prompt_id=prompt_id, graph=graph, extra_data=extra_data, outputs=outputs))
        if self._controls.use("lost_reply") is not None:
            raise Cut
        if self._controls.use("reply_500") is not None:
            return text(_TROUBLE, 500)
        return reply({"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors})

    async def _post_queue(self, request: Request) -> Response:
        body = await request.json()
        gone = self._state.clear() if body.get("clear") else []
        gone += self._state.delete(body.get("delete") or [])
        self._keep(self._notes.deleted, *gone)
        return _nothing()

    async def _post_interrupt(self, request: Request) -> Response:
        try:
            body = await request.json()
        except ValueError:
            body = {}
        asked = self._state.interrupt(body.get("prompt_id"))
        if asked is not None:
            self._keep(self._notes.interrupted, asked)
        return _nothing()

    async def _post_free(self, request: Request) -> Response:
        body = await request.json()
        self._state.free_wanted = self._state.free_wanted or bool(body.get("free_memory"))
        return _nothing()

    def _get_history(self, request: Request) -> Response:
        query, history = request.query_params, dict(self._state.history)
        first = int(query.get("offset", -1))
        most = int(query["max_items"]) if "max_items" in query else len(history)
        if first < 0:
            first = max(0, len(history) - most)
        kept = list(history)[first : first + max(0, most)]
        return reply({prompt_id: history[prompt_id] for prompt_id in kept})

    async def _post_history(self, request: Request) -> Response:
        body = await request.json()
        with self._controls.changed:
            for prompt_id in list(self._state.history) if body.get("clear") else body.get("delete") or []:
                self._state.history.pop(prompt_id, None)
        return _nothing()

    # -- files ------------------------------------------------------------------------------------

    def _get_view(self, request: Request) -> Response:
        query = request.query_params
        if self._controls.use("view_500") is not None:
            return text(_TROUBLE, 500)
        if "filename" not in query or self._controls.use("file_gone") is not None:
            return _nothing(404)
        name, kind = query["filename"], query.get("type", "output")
        if match := re.fullmatch(r"(.*) \[(input|output|temp)\]", name):
            name, kind = match[1], match[2]
        subfolder = query.get("subfolder", "")
        if not name or name.startswith("/") or ".." in name or kind not in ("input", "output", "temp"):
            return _nothing(400)
        if posixpath.normpath(subfolder).startswith(("/", "..")):
            return _nothing(403)
        name = posixpath.basename(name)  # the folder part is dropped, as in ComfyUI
        found = self._files.folder(kind).get(posixpath.normpath(posixpath.join(subfolder, name)))
        if found is None:
            return _nothing(404)
        return self._view(name, found, query.get("preview"), query.get("channel", "rgba"))

    def _view(self, name: str, found: bytes, preview: str | None, channel: str) -> Response:
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if media_type in ("text/html", "text/javascript", "text/css"):
            media_type = "application/octet-stream"
        if preview is not None or channel in ("rgb", "a"):
            found, media_type = images.convert(found, preview=preview, channel=channel)
        headers = {"Content-Disposition": f'filename="{name}"', "Content-Type": media_type}
        fault = self._controls.use("truncated_view")
        if fault is not None:
            return Truncated(found, headers=headers, at=fault.get("at", 100))
        fault = self._controls.use("slow_view")
        if fault is not None:
            return Slow(found, headers=headers, chunk=fault.get("chunk", 1), seconds=fault.get("seconds", 0.05))
        return Response(found, headers=headers)

    async def _post_upload(self, request: Request) -> Response:
        async with request.form(max_part_size=FEATURES["max_upload_size"]) as form:
            return await self._upload(form)

    async def _upload(self, form: FormData) -> Response:
        image = form.get("image")
        if not isinstance(image, UploadFile) or not image.filename:
            return _nothing(400)
        kind, subfolder = str(form.get("type") or "input"), str(form.get("subfolder") or "")
        folder = posixpath.normpath(subfolder) if subfolder else ""
        if ".." in (image.filename, folder) or image.filename.startswith("../") or folder.startswith(("/", "../")):
            return _nothing(400)
        if kind not in ("input", "temp", "output") or "/" in image.filename:
            return text(_TROUBLE, 500)
        folder = "" if folder == "." else folder
        overwrite = form.get("overwrite") in ("true", "1")
        name = self._files.upload(kind, folder, image.filename, await image.read(), overwrite=overwrite)
        return reply({"name": name, "subfolder": subfolder, "type": kind})

    # -- the socket -------------------------------------------------------------------------------

    async def _websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        self._note(scope, "WEBSOCKET", b"")
        if await self._stall(scope, "WEBSOCKET", receive):
            return
        refusal = self._barred(scope)
        if scope["path"].removeprefix("/api") != "/ws" or self._controls.use("no_socket") is not None:
            refusal = refusal or _nothing(404)
        if refusal is not None:
            start = {"type": "websocket.http.response.start", "status": refusal.status_code}
            await send(start | {"headers": refusal.raw_headers})
            await send({"type": "websocket.http.response.body", "body": refusal.body})
            return
        client_id = dict(parse_qsl(scope["query_string"].decode())).get("clientId", "")
        await send({"type": "websocket.accept"})
        if await self._hub.serve(client_id, self._greeting(client_id), receive, send):
            self._cut(scope["client"])

    def _greeting(self, client_id: str) -> list[tuple[str, Json]]:
        """Return what a new socket hears: the queue, and the node its running prompt is at."""
        greeting = [("status", {"status": {"exec_info": {"queue_remaining": self._state.remaining}}})]
        executing = self._machine.executing
        if executing is not None and executing[0] == client_id:
            greeting.append(("executing", {"node": executing[1]}))
        return greeting


def _is_named(method: str, path: str, names: Iterable[str]) -> bool:
    """Say whether one of "/queue", "GET /queue" or "GET /history/" means a request."""
    for name in names:
        wanted, _, place = name.rpartition(" ")
        below = place.endswith("/") and path.startswith(place)
        if wanted in ("", method) and (path == place or below):
            return True
    return False


async def _read(receive: Receive) -> bytes:
    """Return the whole request body."""
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    return body


def _replay(body: bytes) -> Receive:
    """Return a receive that gives `body` again."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
