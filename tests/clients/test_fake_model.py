"""The scripted model of `scripts/clients` speaks four APIs, and says the same thing in each."""

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from scripts.clients.apis import Api, api_of, is_streamed
from scripts.clients.conversation import DONE, next_step
from scripts.clients.seen import seen_in
from scripts.clients.steps import Call, Say, Tool

NAME = "image-gen__generate_image"
PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages?beta=true", "/v1beta/models/g:generateContent"]


def png() -> str:
    file = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def asked(path: str, *more: Any, tool: str = NAME) -> dict[str, Any]:
    """Return a request of a client that offers one tool, in the API of `path`."""
    if "chat" in path:
        return {"tools": [{"function": {"name": tool}}], "messages": [{"role": "user", "content": "Go"}, *more]}
    if "responses" in path:
        return {"tools": [{"type": "function", "name": tool}], "input": [{"role": "user", "content": "Go"}, *more]}
    if "messages" in path:
        return {"tools": [{"name": tool}], "messages": [{"role": "user", "content": "Go"}, *more]}
    first = {"role": "user", "parts": [{"text": "Go"}]}
    return {"tools": [{"functionDeclarations": [{"name": tool}]}], "contents": [first, *more]}


def answered(path: str, text: str) -> list[dict[str, Any]]:
    """Return a turn of the model that called the tool, and the client's result."""
    if "chat" in path:
        return [{"role": "assistant"}, {"role": "tool", "tool_call_id": "call_1", "content": text}]
    if "responses" in path:
        output = {"type": "function_call_output", "call_id": "call_1", "output": text}
        return [{"type": "function_call", "call_id": "call_1"}, output]
    if "messages" in path:
        result = {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": text}]}
        return [{"role": "assistant", "content": []}, {"role": "user", "content": [result]}]
    response = {"functionResponse": {"id": "call_1", "name": NAME, "response": {"output": text}}}
    return [{"role": "model", "parts": []}, {"role": "user", "parts": [response]}]


def api(path: str) -> Api:
    found = api_of(path)
    assert found is not None
    return found


@pytest.mark.parametrize("path", PATHS)
def test_the_model_calls_once_for_each_message(path: str):
    """It calls, says that it is done, and calls again with another seed when the person speaks again."""
    first = next_step(api(path), asked(path))
    assert isinstance(first, Call)
    assert first.tool == Tool(name=NAME)
    assert next_step(api(path), asked(path, *answered(path, "saved"))) == Say(text=DONE)


@pytest.mark.parametrize("path", PATHS)
def test_a_request_without_tools_gets_a_text(path: str):
    assert next_step(api(path), asked(path) | {"tools": []}) == Say(text=DONE)


@pytest.mark.parametrize("path", PATHS)
def test_a_deferred_tool_is_looked_for(path: str):
    """By its full name, if the client's instructions list it in a line of its own."""
    listed = {"role": "user", "content": "Deferred tools:\nmcp__image-gen__generate_image\n"}
    step = next_step(api(path), asked(path, listed, tool="ToolSearch"))
    assert isinstance(step, Call)
    assert (step.tool.name, step.arguments) == ("ToolSearch", {"query": "select:mcp__image-gen__generate_image"})


@pytest.mark.parametrize("path", PATHS)
def test_a_tool_that_nobody_has_ends_in_words(path: str):
    assert isinstance(next_step(api(path), asked(path, tool="weather")), Say)


@pytest.mark.parametrize("path", PATHS)
def test_stream_and_document_say_the_same(path: str):
    call = Call(tool=Tool(name=NAME), arguments={"prompt": "an apple"}, id="call_1")
    whole, events = api(path).reply(call, "m"), api(path).stream(call, "m")
    for text in (NAME, "an apple", "call_1"):
        assert text in json.dumps(whole)
        assert text in json.dumps(events)


def test_a_summary_is_no_reason_to_call():
    """A client whose context is full asks for one, and offers its tools all the same."""
    please = {"role": "user", "content": "Please provide a concise summary of our conversation."}
    assert isinstance(next_step(api(PATHS[0]), asked(PATHS[0], please)), Say)


def test_a_search_of_codex_brings_tools():
    """Codex finds tools by a call of its own kind, and they come in groups."""
    found = {"type": "namespace", "name": "mcp__image_gen", "tools": [{"name": "generate_image"}]}
    searched = {"type": "tool_search_output", "call_id": "call_help_1", "tools": [found]}
    body = {"tools": [{"type": "tool_search"}], "input": [{"type": "tool_search_call"}, searched]}
    step = next_step(api("/responses"), body)
    assert isinstance(step, Call)
    assert step.tool == Tool(name="generate_image", namespace="mcp__image_gen")


def test_gemini_asks_for_a_stream_by_its_path():
    assert is_streamed("/v1beta/models/g:streamGenerateContent?alt=sse", {})
    assert not is_streamed("/v1beta/models/g:generateContent", {})


IMAGE_PARTS = {
    "chat": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png()}"}},
    "responses": {"type": "input_image", "image_url": f"data:image/png;base64,{png()}"},
    "messages": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png()}},
    "gemini": {"inlineData": {"mimeType": "image/png", "data": png()}},
}


@pytest.mark.parametrize("part", IMAGE_PARTS.values(), ids=IMAGE_PARTS)
def test_an_image_part_is_an_image_to_the_model(part: dict[str, Any]):
    seen = seen_in([{"content": [{"type": "text", "text": "Saved to /tmp/a.png"}, part]}])
    assert (seen.kind, seen.has_path) == ("image", True)
    assert str(seen).startswith("PNG 40x30, ")


def test_base64_in_a_function_response_is_text():
    """Gemini gives the model that JSON as it is, whatever it looks like."""
    content = {"result": {"content": [{"type": "image", "data": png(), "mimeType": "image/png"}]}}
    seen = seen_in([{"parts": [{"functionResponse": {"name": NAME, "response": content}}]}])
    assert seen.kind == "text"
    assert "base64" in str(seen)


def test_a_link_as_an_image_is_told_from_a_text():
    """An API that gets file:// as an image address cannot open it."""
    address = {"type": "image_url", "image_url": {"url": "file:///tmp/a.png"}}
    assert seen_in([{"content": [address]}]).link == "image"
    assert seen_in([{"content": "link: file:///tmp/a.png"}]).link == "text"
    assert seen_in([{"content": "Saved to /tmp/a.png"}]).link == "dropped"
