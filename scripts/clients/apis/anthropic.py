"""Anthropic's Messages, which Claude Code speaks. No I/O."""

import json
from collections.abc import Sequence
from typing import Any

from scripts.clients.apis.turns import after_last, parts
from scripts.clients.steps import Call, Step, Tool, unique_id

USAGE = {"input_tokens": 100, "output_tokens": 10}


class Anthropic:
    """POST .../messages."""

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        """Return the tools by name."""
        return [Tool(name=str(each.get("name"))) for each in body.get("tools") or []]

    def latest(self, body: dict[str, Any]) -> list[Any]:
        """Return the messages behind the last of the assistant."""
        return after_last(body.get("messages") or [], lambda message: message.get("role") == "assistant")

    def result_ids(self, items: Sequence[Any]) -> list[str]:
        """Return the ids in `tool_result` blocks."""
        blocks = parts(items, "content")
        return [str(block.get("tool_use_id")) for block in blocks if block.get("type") == "tool_result"]

    def reply(self, step: Step, model: str) -> dict[str, Any]:
        """Return a message with one block."""
        return {**_head(model), "content": [_block(step)], "stop_reason": _reason(step)}

    def stream(self, step: Step, model: str) -> list[dict[str, Any] | str]:
        """Return the events from `message_start` to `message_stop`."""
        block, ended = _block(step), {"stop_reason": _reason(step), "stop_sequence": None}
        if isinstance(step, Call):
            begun, delta = {"input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(step.arguments)}
        else:
            begun, delta = {"text": ""}, {"type": "text_delta", "text": step.text}
        return [
            {"type": "message_start", "message": _head(model)},
            {"type": "content_block_start", "index": 0, "content_block": {**block, **begun}},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": ended, "usage": USAGE},
            {"type": "message_stop"},
        ]


def _head(model: str) -> dict[str, Any]:
    head = {
        "id": unique_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "usage": USAGE,
    }
    return {**head, "stop_reason": None, "stop_sequence": None}


def _block(step: Step) -> dict[str, Any]:
    if isinstance(step, Call):
        return {"type": "tool_use", "id": step.id, "name": step.tool.name, "input": step.arguments}
    return {"type": "text", "text": step.text}


def _reason(step: Step) -> str:
    return "tool_use" if isinstance(step, Call) else "end_turn"
