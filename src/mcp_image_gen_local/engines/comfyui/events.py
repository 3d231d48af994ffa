"""What ComfyUI's WebSocket says, turned into events; odd messages are passed over. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_image_gen_local.engines.comfyui.replies import Failure, ImageFile, parse_failure, parse_images
from mcp_image_gen_local.engines.comfyui.values import entries, load, node_id, number, table


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
    """An output node finished; `output` is its images, as the history will name them."""

    node_id: str
    output: tuple[ImageFile, ...]


@dataclass(frozen=True)
class Ended:
    """The prompt reached an end."""

    kind: str  #: "success", "error" or "interrupted"
    detail: Failure = field(default_factory=Failure)  #: of an error


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

MAX_STEPS = 1_000_000
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
    event = _parse(kind, data) if isinstance(kind, str) else None
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
        about = table(load(frame[8 : 8 + size]))
    except ValueError:
        return None
    prompt_id = about.get("prompt_id")
    return (prompt_id, Preview(frame[8 + size :])) if isinstance(prompt_id, str) else None


def _parse(kind: str, data: Mapping[str, Any]) -> Event | None:
    if kind in ENDINGS:
        return Ended(ENDINGS[kind], parse_failure(data))
    if kind == "execution_start":
        return Started()
    if kind == "execution_cached" and isinstance(data.get("nodes"), list):
        return Cached(frozenset(node for each in entries(data["nodes"]) if (node := node_id(each)) is not None))
    node = node_id(data.get("node"))
    if node is None:
        return None
    if kind == "executing":
        return NodeRunning(node)
    if kind == "progress":
        return _step(node, number(data.get("value")), number(data.get("max")))
    if kind == "executed" and isinstance(data.get("output"), dict):
        return NodeOutput(node, parse_images(data["output"]))
    return None


def _step(node: str, value: float | None, maximum: float | None) -> Step | None:
    if value is None or maximum is None or not 0 <= value <= maximum <= MAX_STEPS:
        return None
    return Step(node, int(value), int(maximum))
