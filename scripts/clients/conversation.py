"""What the scripted model does next: it calls `generate_image` once per message of the person. No I/O."""

import json
import re
from typing import Any

from scripts.clients.apis import Api
from scripts.clients.steps import Call, Say, Step, Tool, unique_id

WANTED = "generate_image"
CALL = "call_"  #: all ids of calls begin so
HELP = "help_"  #: mark in the ids of calls that look for the tool
MOST_HELP = 6  #: such calls in one conversation
SUMMARY = re.compile("summary of (our|the|this) conversation", re.IGNORECASE)
DONE, ABSENT = "done", "no such tool"


def next_step(api: Api, body: dict[str, Any]) -> Step:
    """Return a call if the person has spoken or the tool has been found; else a text.

    A request without tools is about something else, such as a title for the conversation. One for a summary comes from
    a client whose context is full.
    """
    tools, conversation = api.tools(body), json.dumps(body).replace("\\n", " ")
    latest = api.latest(body)
    if not tools or any(HELP not in each for each in api.result_ids(latest)):
        return Say(text=DONE)
    if latest and SUMMARY.search(json.dumps(latest[-1])):
        return Say(text="The person wants an image of a red apple.")
    if tool := offered(tools):
        return Call(tool=tool, arguments=_arguments(conversation), id=unique_id(CALL))
    return _look_for_it({tool.name: tool for tool in tools}, conversation)


def offered(tools: list[Tool]) -> Tool | None:
    """Return the wanted tool; clients put a prefix before its name."""
    return next((tool for tool in tools if tool.name.endswith(WANTED)), None)


def _look_for_it(tools: dict[str, Tool], conversation: str) -> Step:
    full_name = next(iter(re.findall(rf"[\w-]+__{WANTED}", conversation)), WANTED)
    tried = len(set(re.findall(rf"{HELP}[0-9a-f]+", conversation)))
    # Codex' and Claude Code's search, Qwen Code's search and call by name, shells that let time pass.
    ways: list[tuple[str, dict[str, Any]]] = [
        ("ToolSearch", {"query": f"select:{full_name}"}),
        ("tool_search", {"query": WANTED.replace("_", " "), "limit": 8}),
        ("exec_command", {"cmd": "sleep 5"}),
        ("shell", {"command": ["sleep", "5"]}),
    ]
    if "tool_call" in tools and tried:
        arguments = {"name": full_name, "arguments": _arguments(conversation)}
        return Call(tool=tools["tool_call"], arguments=arguments, id=unique_id(CALL))
    for name, arguments in ways:
        if name in tools and tried < MOST_HELP:
            return Call(tool=tools[name], arguments=arguments, id=unique_id(CALL + HELP))
    return Say(text=ABSENT)


def _arguments(conversation: str) -> dict[str, Any]:
    """Return a seed of its own for each call, or ComfyUI has the image already."""
    earlier = set(re.findall(rf"{CALL}[0-9a-f]{{16}}", conversation))
    return {"prompt": "a red apple", "seed": 7 + len(earlier)}
