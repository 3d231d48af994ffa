"""What ComfyUI says, turned into values: WebSocket messages, history entries, the queue. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Started:
    """The prompt was taken from the queue."""


@dataclass(frozen=True)
class Cached:
    """These nodes need not run: an earlier prompt left their outputs."""

    node_ids: frozenset[str]


@dataclass(frozen=True)
class NodeRunning:
    """A node began to work."""

    node_id: str


@dataclass(frozen=True)
class Step:
    """A node finished step `value` of `maximum`."""

    node_id: str
    value: int
    maximum: int


@dataclass(frozen=True)
class NodeOutput:
    """An output node finished; `output` is what the history will hold for it."""

    node_id: str
    output: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """The prompt reached an end."""

    kind: str  #: "success", "error" or "interrupted"
    detail: Mapping[str, Any]  #: the message; of an error it tells node and exception


@dataclass(frozen=True)
class Preview:
    """The image as far as it is generated."""

    image: bytes = field(repr=False)  #: a small JPEG or PNG


@dataclass(frozen=True)
class QueueChanged:
    """A prompt began or ended, perhaps this one: told to those who hear no events of their own."""


@dataclass(frozen=True)
class Dequeued:
    """The prompt was taken from the queue before anything came of it, which ComfyUI tells nobody."""


@dataclass(frozen=True)
class Disconnected:
    """The socket is gone; nothing more will come by this way."""

    was_open: bool = False  #: False: it could not be opened


Event = Started | Cached | NodeRunning | Step | NodeOutput | Ended | Preview | QueueChanged | Dequeued | Disconnected

FRAME, FRAME_WITH_METADATA = 1, 4  #: first four bytes of a binary message
ENDINGS = {"execution_success": "success", "execution_error": "error", "execution_interrupted": "interrupted"}


def parse_message(message: object) -> tuple[str, Event] | None:
    """Return (prompt_id, event) for a text message about a prompt, None for all others.

    `executing` with node null is no end: it follows success, error and interruption alike.
    """
    if not isinstance(message, dict) or not isinstance(data := message.get("data"), dict):
        return None
    prompt_id, kind = data.get("prompt_id"), message.get("type")
    if not isinstance(prompt_id, str):
        return None
    event = _parse(str(kind), data)
    return (prompt_id, event) if event else None


def parse_frame(frame: bytes) -> tuple[str | None, Preview] | None:
    """Return (prompt_id, preview) for a binary message that holds an image, None for all others.

    Frames without metadata (event 1) do not say whose they are: their prompt_id is None.
    """
    kind, size = int.from_bytes(frame[:4], "big"), int.from_bytes(frame[4:8], "big")
    if kind == FRAME and len(frame) > 8:
        return None, Preview(frame[8:])
    if kind != FRAME_WITH_METADATA or len(frame) <= 8 + size:
        return None
    try:
        about = json.loads(frame[8 : 8 + size])
    except ValueError:
        return None
    prompt_id = about.get("prompt_id") if isinstance(about, dict) else None
    return (prompt_id, Preview(frame[8 + size :])) if isinstance(prompt_id, str) else None


def _parse(kind: str, data: Mapping[str, Any]) -> Event | None:
    if kind in ENDINGS:
        return Ended(ENDINGS[kind], data)
    if kind == "execution_start":
        return Started()
    if kind == "execution_cached" and isinstance(data.get("nodes"), list):
        return Cached(frozenset(map(str, data["nodes"])))
    if kind == "executing" and data.get("node") is not None:
        return NodeRunning(str(data["node"]))
    if kind == "progress" and _is_number(data.get("value")) and _is_number(data.get("max")):
        return Step(str(data.get("node")), int(data["value"]), int(data["max"]))
    if kind == "executed" and isinstance(data.get("output"), dict):
        return NodeOutput(str(data.get("node")), data["output"])
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a prompt ended, read from its history entry."""

    kind: str  #: "success", "error", "interrupted", or "lost": a restart came before all images were finished
    outputs: Mapping[str, Any] = field(default_factory=dict)  #: node_id -> what the node put out
    error: Mapping[str, Any] = field(default_factory=dict)  #: the execution_error message


def parse_history(entry: Mapping[str, Any]) -> Outcome:
    """Return how the prompt of this history entry ended.

    An interrupted prompt has status_str "error" like a failed one; only its messages tell them apart.
    """
    status = entry.get("status") or {}
    messages = {m[0]: m[1] for m in status.get("messages") or [] if isinstance(m, list | tuple) and len(m) == 2}
    outputs = entry.get("outputs") or {}
    if "execution_interrupted" in messages:
        return Outcome(kind="interrupted", outputs=outputs)
    if "execution_error" in messages or status.get("status_str") == "error":
        return Outcome(kind="error", outputs=outputs, error=messages.get("execution_error") or {})
    return Outcome(kind="success", outputs=outputs)


def pick_images(outputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return filename, subfolder and type of every image, in node order; previews only if nothing was saved.

    Nodes also put out texts, latents and strings; those are no images.
    """
    images = [
        {"filename": i["filename"], "subfolder": str(i.get("subfolder", "")), "type": str(i.get("type", "output"))}
        for output in outputs.values()
        if isinstance(output, dict)
        for i in output.get("images") or []
        if isinstance(i, dict) and isinstance(i.get("filename"), str)
    ]
    return [i for i in images if i["type"] == "output"] or images


def queue_place(queue: Mapping[str, Any], prompt_id: str) -> int | None:
    """Return 0 if the prompt runs, its 1-based place if it waits, None if the queue does not hold it.

    Pending items come in heap order; ComfyUI runs the lowest number first.
    """
    if any(item[1] == prompt_id for item in queue_items(queue, "queue_running")):
        return 0
    pending = sorted((item[0], str(item[1])) for item in queue_items(queue, "queue_pending"))
    return next((place for place, item in enumerate(pending, 1) if item[1] == prompt_id), None)


def queue_items(queue: Mapping[str, Any], *parts: str) -> list[Sequence[Any]]:
    """Return the items [number, prompt_id, graph, ...] of these parts of the queue; odd ones are passed over."""
    found = (item for part in parts for item in queue.get(part) or [])
    return [item for item in found if isinstance(item, list | tuple) and len(item) > 1 and _is_number(item[0])]


def graph_of(item: object) -> dict[str, Any] | None:
    """Return the graph of what queue and history keep of a prompt; None if it holds none."""
    whole = isinstance(item, list | tuple) and len(item) > 2 and isinstance(item[2], dict)
    return item[2] if whole else None  # type: ignore[index]
