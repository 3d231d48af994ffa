"""Recorded messages of the socket, turned into events."""

from typing import Any

import pytest

from mcp_image_gen_local.engines.comfyui.events import (
    Cached,
    Ended,
    NodeOutput,
    NodeRunning,
    Started,
    Step,
    parse_message,
)
from tests.comfyui_nodes import recording


def events_of(name: str) -> list[Any]:
    """Return what a recording of the socket tells of its prompt."""
    parsed = [parse_message(message) for message in recording(name)]
    ids = {entry[0] for entry in parsed if entry}
    assert len(ids) <= 1
    return [entry[1] for entry in parsed if entry]


def test_a_run_passes_its_stages():
    """A run starts visits its nodes steps puts out and succeeds."""
    events = events_of("ws_success.json")
    assert events[0] == Started()
    assert [e for e in events if isinstance(e, Step)] == [Step("7", 1, 2), Step("7", 2, 2)]
    assert [e.node_id for e in events if isinstance(e, NodeRunning)][-2:] == ["8", "9"]
    outputs = [e for e in events if isinstance(e, NodeOutput)]
    assert [(e.node_id, len(e.output)) for e in outputs] == [("9", 1)]
    assert [e.kind for e in events if isinstance(e, Ended)] == ["success"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ws_success.json", "success"),
        ("ws_cached.json", "success"),
        ("ws_cached_new_prefix.json", "success"),
        ("ws_error_vae_mismatch.json", "error"),
        ("ws_error_unknown_arch.json", "error"),
        ("ws_interrupted.json", "interrupted"),
        ("ws_save_image_websocket.json", "success"),
    ],
)
def test_every_recorded_run_ends_exactly_once(name, kind):
    """`executing` with node null comes after all three ends and is none itself."""
    events = events_of(name)
    assert [e.kind for e in events if isinstance(e, Ended)] == [kind]
    assert isinstance(events[-1], Ended)


def test_a_cached_run_names_its_old_output():
    """A cached run names its old output without running a node."""
    events = events_of("ws_cached.json")
    assert [type(e) for e in events] == [Started, Cached, NodeOutput, Ended]


def test_an_error_message_brings_its_node_and_reason():
    (end,) = [e for e in events_of("ws_error_vae_mismatch.json") if isinstance(e, Ended)]
    assert end.detail.node_type == "VAEDecode"
    assert "16 channels" in end.detail.text


def test_another_client_sees_the_queue_alone():
    """What another client is reported of a run is the queue alone."""
    assert events_of("ws_other_client.json") == []


def test_a_prompt_without_client_id():
    """A prompt without client id reports progress but no end."""
    assert {type(e) for e in events_of("ws_no_client_id.json")} == {Step}


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        "text",
        {},
        {"type": "execution_start"},
        {"type": "execution_start", "data": None},
        {"type": "execution_start", "data": {"prompt_id": 7}},
        {"type": "executing", "data": {"node": None, "prompt_id": "a"}},
        {"type": "executing", "data": {"node": "3"}},  # the greeting after a reconnect
        {"type": "progress", "data": {"prompt_id": "a", "value": "1", "max": 2}},
        {"type": "progress", "data": {"prompt_id": "a", "value": 1, "max": True}},
        {"type": "executed", "data": {"prompt_id": "a", "node": "9", "output": None}},
        {"type": "something_new", "data": {"prompt_id": "a"}},
        {"type": ["execution_start"], "data": {"prompt_id": "a"}},
        {"type": "executing", "data": {"prompt_id": "a", "node": {"x": 1}}},
        {"type": "executing", "data": {"prompt_id": "a", "node": "n" * 1000}},
        *(
            {"type": "progress", "data": {"prompt_id": "a", "node": "3", "value": 1, "max": odd}}
            for odd in (float("inf"), float("nan"), 10**400, -5, 0.5, None, [])
        ),
    ],
)
def test_a_message_about_no_prompt(message):
    """A message that reports nothing of a prompt is passed over."""
    assert parse_message(message) is None


def test_fractional_progress_counts_as_whole_steps():
    message = {"type": "progress", "data": {"prompt_id": "a", "node": 3, "value": 1.0, "max": 4.0}}
    assert parse_message(message) == ("a", Step("3", 1, 4))
