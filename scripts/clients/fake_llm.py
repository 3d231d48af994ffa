"""A language model on loopback that follows a script and keeps every request."""

import gzip
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scripts.clients.apis import Api, api_of, is_streamed
from scripts.clients.conversation import next_step
from scripts.clients.steps import Say, Step
from scripts.clients.turn import Turn

MOST_CALLS = 5  #: of one run; a client whose model would call for ever is stopped there
MODEL = "gpt-4o"  #: a name that clients know and take for one that sees images


@dataclass(kw_only=True)
class FakeModel:
    """Answers at `url` while it is open."""

    folder: Path  #: takes each request as a JSON file
    turns: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        model = self

        class Handler(_Handler):
            fake = model

        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """The base URL without a path; OpenAI's APIs stand below /v1."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, api: Api, path: str, body: dict[str, Any]) -> Step:
        """Return what the model does, and keep the request."""
        with self._lock:
            step = next_step(api, body)
            if sum(turn.generates for turn in self.turns) >= MOST_CALLS:
                step = Say(text="That is enough.")
            self.turns.append(Turn(at=time.time(), api=api, path=path, body=body, step=step))
            file = self.folder / f"{len(self.turns):03}.json"
        file.write_text(json.dumps({"path": path, "step": repr(step), "body": body}, indent=1), "utf-8")
        return step


class _Handler(BaseHTTPRequestHandler):
    fake: FakeModel
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Stay silent."""

    def do_GET(self) -> None:
        """List the one model, in a form that each API's clients read."""
        model = {"id": MODEL, "object": "model", "created": 1, "owned_by": "nobody", "type": "model"}
        self._send_json({"object": "list", "data": [model], "models": [], "has_more": False})

    def do_POST(self) -> None:
        """Answer a turn, or a question about tokens."""
        body = self._body()
        api = api_of(self.path)
        if api is None:
            known = "count_tokens" in self.path or "countTokens" in self.path
            self._send_json({"input_tokens": 100, "totalTokens": 100}, 200 if known else 404)
            return
        step = self.fake.answer(api, self.path, body)
        model = str(body.get("model", MODEL))
        if is_streamed(self.path, body):
            self._send("text/event-stream", b"".join(_event(each) for each in api.stream(step, model)))
        else:
            self._send_json(api.reply(step, model))

    def _body(self) -> dict[str, Any]:
        content = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self._sized()
        if self.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        try:
            body = json.loads(content or b"{}")
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    def _sized(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _send_json(self, answer: dict[str, Any], status: int = 200) -> None:
        self._send("application/json", json.dumps(answer).encode(), status)

    def _send(self, kind: str, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _event(event: dict[str, Any] | str) -> bytes:
    if isinstance(event, str):
        return f"data: {event}\n\n".encode()
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()
