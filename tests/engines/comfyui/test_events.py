"""Recorded messages, history entries and queues, turned into values."""

from typing import Any

import pytest

from mcp_image_gen_local.engines.comfyui.events import (
    Cached,
    Ended,
    NodeOutput,
    NodeRunning,
    Started,
    Step,
    graph_of,
    parse_history,
    parse_message,
    pick_images,
    queue_place,
)
from tests.comfyui_nodes import recording


def events_of(name: str) -> list[Any]:
    """Return what a recording of the socket tells of its prompt."""
    parsed = [parse_message(message) for message in recording(name)]
    ids = {entry[0] for entry in parsed if entry}
    assert len(ids) <= 1
    return [entry[1] for entry in parsed if entry]


def history_of(name: str) -> Any:
    (entry,) = recording(name).values()
    return parse_history(entry)


def test_a_run_passes_its_stages():
    """A run starts visits its nodes steps puts out and succeeds."""
    events = events_of("ws_success.json")
    assert events[0] == Started()
    assert [e for e in events if isinstance(e, Step)] == [Step("7", 1, 2), Step("7", 2, 2)]
    assert [e.node_id for e in events if isinstance(e, NodeRunning)][-2:] == ["8", "9"]
    outputs = [e for e in events if isinstance(e, NodeOutput)]
    assert [(e.node_id, len(e.output["images"])) for e in outputs] == [("9", 1)]
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
    assert end.detail["node_type"] == "VAEDecode"
    assert "16 channels" in end.detail["exception_message"]


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
    ],
)
def test_a_message_about_no_prompt(message):
    """A message that reports nothing of a prompt is passed over."""
    assert parse_message(message) is None


def test_fractional_progress_counts_as_whole_steps():
    message = {"type": "progress", "data": {"prompt_id": "a", "node": 3, "value": 1.0, "max": 4.0}}
    assert parse_message(message) == ("a", Step("3", 1, 4))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("history_success.json", "success"),
        ("history_cached.json", "success"),
        ("history_interrupted.json", "interrupted"),
        ("history_error_huge_alloc.json", "error"),
        ("history_error_partial_outputs.json", "error"),
        ("history_error_unknown_arch.json", "error"),
        ("history_error_vae_mismatch.json", "error"),
    ],
)
def test_the_history_tells_how_a_prompt_ended(name, kind):
    """An interrupted one has status_str "error" as well."""
    outcome = history_of(name)
    assert outcome.kind == kind
    assert bool(outcome.error) == (kind == "error")


def test_a_failed_prompt_may_have_outputs():
    """A failed prompt may have outputs and is failed all the same."""
    outcome = history_of("history_error_partial_outputs.json")
    assert (outcome.kind, list(outcome.outputs)) == ("error", ["8"])


@pytest.mark.parametrize("entry", [{}, {"status": None, "outputs": None}, {"status": {"messages": [["odd"], None]}}])
def test_a_history_entry_without_status(entry):
    """A history entry without status counts as success.

    Old servers kept no status; whether there are images shows the rest.
    """
    assert parse_history(entry).kind == "success"


def test_an_error_without_its_message_is_an_error():
    outcome = parse_history({"status": {"status_str": "error"}})
    assert (outcome.kind, outcome.error) == ("error", {})


def image(name: str, **more: Any) -> dict[str, Any]:
    return {"filename": name, "subfolder": "", "type": "output", **more}


def test_images_come_in_node_order():
    """The images of all output nodes come in node order."""
    outputs = {"9": {"images": [image("a.png"), image("b.png", subfolder="lab")]}, "12": {"images": [image("c.png")]}}
    assert [i["filename"] for i in pick_images(outputs)] == ["a.png", "b.png", "c.png"]
    assert pick_images(outputs)[1]["subfolder"] == "lab"


def test_previews_count_only_if_nothing_was_saved():
    preview, saved = image("p.png", type="temp"), image("s.png")
    assert pick_images({"8": {"images": [preview]}, "9": {"images": [saved]}}) == [saved]
    assert pick_images({"8": {"images": [preview]}}) == [preview]


def test_texts_latents_and_strings_are_no_images():
    outputs = {
        "1": {"text": ["hello"]},
        "2": {"latents": [image("x.latent")]},
        "3": {"images": ["a string", {"subfolder": "no name"}, {"filename": None}]},
        "4": "odd",
        "5": {"images": None},
    }
    assert pick_images(outputs) == []


def test_an_image_without_folder_and_type():
    """An image without folder and type is an output at the top."""
    assert pick_images({"9": {"images": [{"filename": "a.png"}]}}) == [image("a.png")]


def test_the_recorded_queue_is_read():
    """The recorded queue reports what runs and who waits where."""
    queue = recording("queue_running_and_pending.json")
    running = queue["queue_running"][0][1]
    waiting = [item[1] for item in sorted(queue["queue_pending"], key=lambda item: item[0])]
    assert queue_place(queue, running) == 0
    assert [queue_place(queue, prompt_id) for prompt_id in waiting] == list(range(1, len(waiting) + 1))
    assert queue_place(queue, "unknown") is None


def test_places_go_by_number():
    """Places go by number not by the order of the list."""
    queue = {"queue_running": [], "queue_pending": [[3, "c"], [-2.0, "front"], [1, "a"]]}
    assert [queue_place(queue, p) for p in ("front", "a", "c")] == [1, 2, 3]


def test_odd_items_of_a_queue_are_passed_over():
    odd: list[object] = [None, "a", {}, [], [1], [None, "a"], ["1", "a"]]
    queue = {"queue_running": odd, "queue_pending": [*odd, [2, "b", {}, {}, []], [1, 7], [1, "a"]]}
    assert (queue_place(queue, "a"), queue_place(queue, "b")) == (2, 3)


@pytest.mark.parametrize("item", [None, "x", [], [1, "a"], [1, "a", None], {"2": {}}])
def test_an_odd_item_has_no_graph(item: object):
    assert graph_of(item) is None


@pytest.mark.parametrize("queue", [{}, {"queue_running": None, "queue_pending": None}])
def test_a_queue_without_lists_holds_nothing(queue):
    assert queue_place(queue, "a") is None
