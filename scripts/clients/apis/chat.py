"""OpenAI's Chat Completions, which most clients speak to models of one's own. No I/O."""

import json
from collections.abc import Sequence
from typing import Any

from scripts.clients.apis.turns import after_last
from scripts.clients.steps import Call, Step, Tool, unique_id

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


class Chat:
    """POST .../chat/completions."""

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        """Return the function tools."""
        return [Tool(name=each["function"]["name"]) for each in body.get("tools") or [] if "function" in each]

    def latest(self, body: dict[str, Any]) -> list[Any]:
        """Return the messages behind the last of the assistant."""
        return after_last(body.get("messages") or [], lambda message: message.get("role") == "assistant")

    def result_ids(self, items: Sequence[Any]) -> list[str]:
        """Return the ids in messages of the role `tool`."""
        return [str(item.get("tool_call_id")) for item in items if item.get("role") == "tool"]

    def reply(self, step: Step, model: str) -> dict[str, Any]:
        """Return a `chat.completion`."""
        choice = {"index": 0, "message": _message(step), "finish_reason": _reason(step)}
        return {**_head("chat.completion", model), "choices": [choice], "usage": USAGE}

    def stream(self, step: Step, model: str) -> list[dict[str, Any] | str]:
        """Return two chunks, the message and its end, and the mark of the stream's end."""
        head = _head("chat.completion.chunk", model)
        said = {"index": 0, "delta": _message(step), "finish_reason": None}
        ended = {"index": 0, "delta": {}, "finish_reason": _reason(step)}
        return [{**head, "choices": [said]}, {**head, "choices": [ended], "usage": USAGE}, "[DONE]"]


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": unique_id("chat_"), "object": kind, "created": 1, "model": model}


def _message(step: Step) -> dict[str, Any]:
    if not isinstance(step, Call):
        return {"role": "assistant", "content": step.text}
    function = {"name": step.tool.name, "arguments": json.dumps(step.arguments)}
    call = {"index": 0, "id": step.id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _reason(step: Step) -> str:
    return "tool_calls" if isinstance(step, Call) else "stop"
