"""What ComfyUI, or a proxy before it, replies to `POST /prompt`, in all its shapes, turned into values. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mcp_image_gen_local.domain.text import MAX_NAME, clean, is_clean
from mcp_image_gen_local.engines.comfyui.object_info import options
from mcp_image_gen_local.engines.comfyui.values import entries, label, load, node_id, number, table

MAX_PARTS = 3  #: of a list of reasons that are passed on
MAX_DEPTH = 4
#: keys under which a reason stands, in the order in which they are read
REASONS = ("error", "message", "msg", "detail", "details", "reason", "title", "description", "errors")
MISSING = re.compile(r"node '?([^']+?)'? (?:does not exist|not found)", re.IGNORECASE)
NOT_IN_LIST = re.compile(r"(\w+): '(.*?)' not in (.*)", re.DOTALL)
TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class NodeFault:
    """What one node was refused for; all texts are fit to be shown."""

    class_type: str  #: or the node's id, where ComfyUI does not tell it
    kind: str = ""  #: as ComfyUI names it, e.g. "value_not_in_list"
    text: str = ""  #: in ComfyUI's words
    input_name: str = ""
    received: str = ""  #: the value that it refused
    options: tuple[str, ...] | None = None  #: the values that it takes; None: it does not tell, as of more than 20


@dataclass(frozen=True, kw_only=True)
class PromptReply:
    """The reply to a prompt."""

    status: int  #: of HTTP: 200 or 4xx
    prompt_id: str | None = None  #: under which ComfyUI has queued it
    is_refused: bool = False  #: it was not taken, or only a part of it
    faults: tuple[NodeFault, ...] = ()
    missing_class: str = ""  #: the node class that ComfyUI lacks
    reason: str = ""  #: in its own words; empty if it gives none


def parse_prompt_reply(status: int, body: bytes) -> PromptReply:
    """Return what the reply says; of a body that is no JSON, its text or title is the reason."""
    try:
        answer = load(body)
    except ValueError:
        return PromptReply(status=status, is_refused=status != 200, reason=text_of(body))
    fields = table(answer)
    faults = tuple(_faults(fields.get("node_errors")))
    error, prompt_id = fields.get("error"), fields.get("prompt_id")
    return PromptReply(
        status=status,
        prompt_id=prompt_id if isinstance(prompt_id, str) and prompt_id and is_clean(prompt_id) else None,
        is_refused=status != 200 or bool(error) or bool(fields.get("node_errors")),
        faults=faults,
        missing_class=_missing(table(error)),
        reason=_reason(answer),
    )


def text_of(body: bytes) -> str:
    """Return a body that is no JSON, fit to be shown; of a web page its title."""
    head = body[:5_000]
    if b"<html" not in head.lower() and b"<!doctype" not in head.lower():
        return clean(head.decode("utf-8", "replace"))
    title = TITLE.search(head)
    return clean(f"a web page: {title[1].decode('utf-8', 'replace')}") if title else "a web page"


def _missing(error: Mapping[str, Any]) -> str:
    """Return the class of a node that ComfyUI lacks: since 0.33 it names it, before it stood in the message."""
    if named := label(table(error.get("extra_info")).get("class_type")):
        return named
    found = MISSING.search(label(error.get("message")))
    return found[1] if found else ""


def _reason(value: object, depth: int = 0) -> str:
    """Return the texts in a reply of any shape, the most telling first."""
    if isinstance(value, str):
        return clean(value)
    if depth == MAX_DEPTH:
        return ""
    if isinstance(value, list):
        parts = [part for each in value[:MAX_PARTS] if (part := _reason(each, depth + 1))]
        return clean("; ".join(parts))
    fields = table(value)
    if isinstance(fields.get("error"), dict):
        return _reason(fields["error"], depth + 1)
    parts = [part for name in REASONS if (part := _reason(fields.get(name), depth + 1))]
    where = ".".join(str(part) for part in entries(fields.get("loc"))[:MAX_DEPTH] if isinstance(part, str | int))
    return clean(f"{where}: {' '.join(dict.fromkeys(parts))}" if where else " ".join(dict.fromkeys(parts)))


def _faults(node_errors: object) -> Iterator[NodeFault]:
    """Yield the faults of all nodes: an object by node id as a rule, a list in some programs."""
    nodes = table(node_errors).items() or [(None, node) for node in entries(node_errors)]
    for key, node in nodes:
        fields = table(node)
        name = label(fields.get("class_type")) or clean(node_id(fields.get("node_id")) or key, MAX_NAME)
        errors = fields.get("errors") if isinstance(fields.get("errors"), list) else [node]
        for error in errors or ():
            if fault := _fault(name or "unknown", error):
                yield fault


def _fault(class_type: str, error: object) -> NodeFault | None:
    fields = table(error)
    extra, config = table(fields.get("extra_info")), table(fields.get("extra_info")).get("input_config")
    message, details = (clean(t) if isinstance(t := fields.get(n), str) else "" for n in ("message", "details"))
    text = clean(": ".join(part for part in (message, details) if part)) or _reason(error)
    if not text:
        return None
    name, received, allowed = label(extra.get("input_name")), _shown(extra.get("received_value")), options(config)
    told = NOT_IN_LIST.match(details)
    if told and not name:
        name, received = label(told[1]), label(told[2])
        allowed = (received,) if repr(received) in told[3] else None
    kind = label(fields.get("type")) or ("value_not_in_list" if told else "")
    return NodeFault(class_type=class_type, kind=kind, text=text, input_name=name, received=received, options=allowed)


def _shown(value: object) -> str:
    return label(value) or (str(value) if number(value) is not None or isinstance(value, bool) else "")
