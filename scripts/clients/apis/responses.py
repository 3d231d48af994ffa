"""OpenAI's Responses, which Codex and the OpenAI Agents SDK speak. No I/O."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from scripts.clients.apis.turns import after_last
from scripts.clients.steps import Say, Step, Tool, unique_id

USAGE = {
    "input_tokens": 100,
    "output_tokens": 10,
    "total_tokens": 110,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}
SEARCH = "tool_search"  #: a tool by its type: the client answers the call with the tools that it found


class Responses:
    """POST .../responses."""

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        """Return the tools of the request, and those that a search has brought since."""
        found = [item.get("tools") or [] for item in _input(body) if item.get("type") == "tool_search_output"]
        return [tool for group in (body.get("tools") or [], *found) for tool in _named(group)]

    def latest(self, body: dict[str, Any]) -> list[Any]:
        """Return the items behind the model's last message or call."""
        return after_last(_input(body), _is_of_model)

    def result_ids(self, items: Sequence[Any]) -> list[str]:
        """Return the ids of the call outputs."""
        outputs = [i for i in items if str(i.get("type")).endswith(("call_output", "search_output"))]
        return [str(item.get("call_id")) for item in outputs]

    def reply(self, step: Step, model: str) -> dict[str, Any]:
        """Return a completed response with one output item."""
        head = {"id": unique_id("resp_"), "object": "response", "created_at": 1, "model": model}
        fixed = {"parallel_tool_calls": False, "tool_choice": "auto", "tools": []}
        return {**head, **fixed, "status": "completed", "output": [_item(step)], "usage": USAGE}

    def stream(self, step: Step, model: str) -> list[dict[str, Any] | str]:
        """Return the events from `response.created` to `response.completed`."""
        whole = self.reply(step, model)
        item = whole["output"][0]
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        events = [
            {"type": "response.created", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": _begun(item)},
            *_pieces(item),
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _input(body: dict[str, Any]) -> list[dict[str, Any]]:
    given = body.get("input")
    return [item for item in given if isinstance(item, dict)] if isinstance(given, list) else []


def _named(tools: Sequence[dict[str, Any]]) -> Iterator[Tool]:
    for tool in tools:
        if tool.get("type") == "namespace":
            yield from (Tool(name=each["name"], namespace=tool["name"]) for each in tool.get("tools", []))
        else:
            yield Tool(name=tool.get("name") or tool["type"])


def _is_of_model(item: dict[str, Any]) -> bool:
    kind = str(item.get("type"))
    return item.get("role") == "assistant" or kind == "reasoning" or kind.endswith("_call")


def _item(step: Step) -> dict[str, Any]:
    if isinstance(step, Say):
        content = [{"type": "output_text", "text": step.text, "annotations": []}]
        return {
            "type": "message",
            "id": unique_id("msg_"),
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
    if step.tool.name == SEARCH:
        search = {"type": "tool_search_call", "id": unique_id("ts_"), "call_id": step.id, "execution": "client"}
        return {**search, "status": "completed", "arguments": step.arguments}
    call = {
        "type": "function_call",
        "id": unique_id("fc_"),
        "call_id": step.id,
        "name": step.tool.name,
        "status": "completed",
    }
    group = {"namespace": step.tool.namespace} if step.tool.namespace else {}
    return {**call, **group, "arguments": json.dumps(step.arguments)}


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    empty = {"message": {"content": []}, "function_call": {"arguments": ""}}.get(item["type"], {})
    return {**item, **empty, "status": "in_progress"}


def _pieces(item: dict[str, Any]) -> list[dict[str, Any]]:
    place = {"item_id": item["id"], "output_index": 0}
    if item["type"] == "function_call":
        name, text = "response.function_call_arguments", item["arguments"]
        done = {"type": f"{name}.done", **place, "arguments": text, "name": item["name"]}
        return [{"type": f"{name}.delta", **place, "delta": text}, done]
    if item["type"] != "message":
        return []
    (part,) = item["content"]
    place["content_index"] = 0
    return [
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": part["text"], "logprobs": []},
        {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
    ]
