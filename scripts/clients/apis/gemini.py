"""Google's generateContent, which Gemini CLI and Google ADK speak. No I/O."""

from collections.abc import Sequence
from typing import Any

from scripts.clients.apis.turns import after_last, parts
from scripts.clients.steps import Call, Step, Tool

USAGE = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}


class Gemini:
    """POST .../models/NAME:generateContent and :streamGenerateContent."""

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        """Return the declared functions."""
        groups = (g.get("functionDeclarations") or g.get("function_declarations") for g in body.get("tools") or [])
        return [Tool(name=each["name"]) for group in groups for each in group or []]

    def latest(self, body: dict[str, Any]) -> list[Any]:
        """Return the contents behind the last of the model."""
        return after_last(body.get("contents") or [], lambda content: content.get("role") == "model")

    def result_ids(self, items: Sequence[Any]) -> list[str]:
        """Return the ids of the function responses; the name where there is no id."""
        responses = [part["functionResponse"] for part in parts(items, "parts") if "functionResponse" in part]
        return [str(each.get("id") or each.get("name")) for each in responses]

    def reply(self, step: Step, model: str) -> dict[str, Any]:
        """Return one candidate."""
        content = {"role": "model", "parts": [_part(step)]}
        candidate = {"content": content, "finishReason": "STOP", "index": 0}
        return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": model}

    def stream(self, step: Step, model: str) -> list[dict[str, Any] | str]:
        """Return the same as one event."""
        return [self.reply(step, model)]


def _part(step: Step) -> dict[str, Any]:
    if isinstance(step, Call):
        return {"functionCall": {"name": step.tool.name, "args": step.arguments, "id": step.id}}
    return {"text": step.text}
