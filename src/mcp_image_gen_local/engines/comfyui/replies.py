"""What ComfyUI replies, turned into values: queue, history, images, the system, an upload. Pure.

A reply of another shape raises `ValueError`; where only one entry of it is odd, that entry is passed over.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mcp_image_gen_local.domain.request import MAX_PROMPT_CHARS
from mcp_image_gen_local.domain.text import clean, is_clean
from mcp_image_gen_local.engines.comfyui.graph import Graph, Node
from mcp_image_gen_local.engines.comfyui.values import (
    MAX_FILE_NAME,
    MAX_PATH,
    entries,
    file_name,
    label,
    long_text,
    node_id,
    number,
    table,
    whole,
)

FOLDERS = ("output", "temp", "input")
MAX_FAILURE = 5_000  #: characters of a failure's text that are searched for known causes
MAX_VERSION = 40
MAX_DEVICES = 16


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image in one of ComfyUI's folders."""

    filename: str  #: as ComfyUI spells it; `label` makes it fit to be shown
    subfolder: str = ""
    type: str = "output"  #: the folder: "output", "temp" or "input"

    @property
    def params(self) -> dict[str, str]:
        """Return the query of `/view`."""
        return asdict(self)

    @property
    def label(self) -> str:
        """Return the file's name, fit to be shown."""
        return label(self.filename)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a prompt failed, in ComfyUI's words; its traceback holds paths of the server and is left out."""

    node_type: str = ""  #: fit to be shown, as the others
    exception_type: str = ""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a prompt ended."""

    kind: str  #: "success", "error" or "interrupted"
    outputs: Mapping[str, tuple[ImageFile, ...]] = field(default_factory=dict)  #: node_id -> its images
    error: Failure = field(default_factory=Failure)


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """What the history keeps of a prompt that has ended."""

    outcome: Outcome
    graph: Graph | None  #: None if it holds none


@dataclass(frozen=True, kw_only=True)
class QueueItem:
    """A prompt in the queue."""

    number: float  #: ComfyUI runs the lowest first
    prompt_id: str
    graph: Graph | None = None


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What runs and what waits."""

    running: tuple[QueueItem, ...] = ()
    pending: tuple[QueueItem, ...] = ()  #: next one first

    def find(self, prompt_id: str) -> QueueItem | None:
        """Return the prompt; None if the queue does not hold it."""
        return next((item for item in (*self.running, *self.pending) if item.prompt_id == prompt_id), None)


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that ComfyUI computes on."""

    name: str
    vram: float  #: bytes; 0 if ComfyUI does not tell


@dataclass(frozen=True, kw_only=True)
class SystemStats:
    """What ComfyUI says of itself."""

    version: str = ""  #: empty if it tells none
    devices: tuple[Device, ...] = ()


def parse_queue(body: Mapping[str, Any]) -> Queue:
    """Return the queue; pending items come in heap order.

    Raises:
        ValueError: it has no lists, so that it would seem empty.
    """
    pending = _items(body, "queue_pending")
    return Queue(
        running=tuple(_items(body, "queue_running")),
        pending=tuple(sorted(pending, key=lambda item: (item.number, item.prompt_id))),
    )


def _items(body: Mapping[str, Any], part: str) -> list[QueueItem]:
    if not isinstance(body.get(part), list):
        message = f"no {part}"
        raise ValueError(message)
    return [parsed for item in body[part] if (parsed := _item(item))]


def _item(item: object) -> QueueItem | None:
    match item:
        case [order, str(prompt_id), *_] if (place := number(order)) is not None:
            return QueueItem(number=place, prompt_id=prompt_id, graph=graph_of(item))
    return None


def queue_place(queue: Queue, prompt_id: str) -> int | None:
    """Return 0 if the prompt runs, its 1-based place if it waits, None if the queue does not hold it."""
    if any(item.prompt_id == prompt_id for item in queue.running):
        return 0
    return next((place for place, item in enumerate(queue.pending, 1) if item.prompt_id == prompt_id), None)


def parse_remaining(body: Mapping[str, Any]) -> int:
    """Return how many prompts run or wait.

    Raises:
        ValueError: it does not say.
    """
    remaining = whole(table(body.get("exec_info")).get("queue_remaining"), 0, 2**31)
    if remaining is None:
        message = "no queue_remaining"
        raise ValueError(message)
    return remaining


def parse_history(entry: Mapping[str, Any]) -> HistoryEntry:
    """Return how the prompt of this history entry ended, and its graph.

    An interrupted prompt has status_str "error" like a failed one; only its messages tell them apart.
    """
    status = table(entry.get("status"))
    pairs = (m for m in entries(status.get("messages")) if isinstance(m, list) and len(m) == 2)
    messages = {name: detail for name, detail in pairs if isinstance(name, str)}
    outputs = {node: parse_images(output) for node, output in table(entry.get("outputs")).items()}
    kind, error = "success", Failure()
    if "execution_interrupted" in messages:
        kind = "interrupted"
    elif "execution_error" in messages or status.get("status_str") == "error":
        kind, error = "error", parse_failure(messages.get("execution_error"))
    return HistoryEntry(outcome=Outcome(kind=kind, outputs=outputs, error=error), graph=graph_of(entry.get("prompt")))


def parse_failure(message: object) -> Failure:
    """Return what an execution_error message says."""
    fields = table(message)
    text = fields.get("exception_message")
    return Failure(
        node_type=label(fields.get("node_type")),
        exception_type=label(fields.get("exception_type")),
        text=clean(text, MAX_FAILURE) if isinstance(text, str) else "",
    )


def parse_images(output: object) -> tuple[ImageFile, ...]:
    """Return the images that a node put out; nodes also put out texts, latents and strings, which are none."""
    found = (_image(item) for item in entries(table(output).get("images")))
    return tuple(image for image in found if image)


def _image(item: object) -> ImageFile | None:
    fields = table(item)
    filename = file_name(fields.get("filename"), MAX_FILE_NAME)
    if filename is None:
        return None
    subfolder, kind = file_name(fields.get("subfolder"), MAX_PATH), fields.get("type")
    return ImageFile(filename=filename, subfolder=subfolder or "", type=kind if kind in FOLDERS else FOLDERS[0])


def pick_images(outputs: Mapping[str, Iterable[ImageFile]]) -> list[ImageFile]:
    """Return every image in node order; previews only if nothing was saved."""
    images = [image for output in outputs.values() for image in output]
    return [image for image in images if image.type == "output"] or images


def graph_of(item: object) -> Graph | None:
    """Return the graph of what queue and history keep of a prompt; None if it holds none."""
    match item:
        case [_, _, dict(nodes), *_]:
            return {each: parsed for each, node in nodes.items() if (parsed := _node(node))}
    return None


def _node(node: object) -> Node | None:
    fields = table(node)
    if not isinstance(fields.get("class_type"), str):
        return None
    inputs = {name: _input(value) for name, value in table(fields.get("inputs")).items()}
    return {"class_type": fields["class_type"], "inputs": {n: v for n, v in inputs.items() if v is not None}}


def _input(value: object) -> Any:
    """Return a value or a link of a graph; None for what this program has no use for."""
    match value:
        case bool():
            return value
        case str():
            return long_text(value, MAX_PROMPT_CHARS)
        case int() | float():
            return number(value)
        case [source, slot] if whole(slot, 0, 10_000) is not None and (name := node_id(source)) is not None:
            return [name, slot]
    return None


def parse_stats(body: Mapping[str, Any]) -> SystemStats:
    """Return version and devices, as far as they are told."""
    version = table(body.get("system")).get("comfyui_version")
    devices = [_device(table(device)) for device in entries(body.get("devices"))[:MAX_DEVICES]]
    return SystemStats(
        version=clean(version, MAX_VERSION) if isinstance(version, str) else "",
        devices=tuple(device for device in devices if device.name),
    )


def _device(fields: Mapping[str, Any]) -> Device:
    vram = number(fields.get("vram_total"))
    return Device(name=label(fields.get("name")), vram=max(0.0, vram or 0.0))


def parse_upload(body: Mapping[str, Any]) -> str:
    """Return the name that an uploaded image got, as LoadImage takes it.

    Raises:
        ValueError: it tells none that can be used.
    """
    name, subfolder = file_name(body.get("name")), file_name(body.get("subfolder"), MAX_PATH)
    if name is None or not is_clean(name):
        message = "no name"
        raise ValueError(message)
    return "/".join(part for part in (subfolder, name) if part)
