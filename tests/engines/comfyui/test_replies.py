"""Recorded history entries, queues and other replies, turned into values."""

from typing import Any

import pytest

from mcp_image_gen_local.engines.comfyui.replies import (
    Failure,
    ImageFile,
    graph_of,
    parse_history,
    parse_images,
    parse_queue,
    parse_remaining,
    parse_stats,
    parse_upload,
    pick_images,
    queue_place,
)
from tests.comfyui_nodes import recording

FAILURE = ("node_type", "exception_type", "exception_message")
#: values that no place of a reply expects
ODD = [
    None,
    True,
    5,
    -1,
    2**70,
    10**400,
    float("inf"),
    float("nan"),
    "x",
    "\ud800",
    "n" * 100_000,
    [],
    [[]],
    {},
    {"a": {}},
]


def history_of(name: str) -> Any:
    (entry,) = recording(name).values()
    return parse_history(entry).outcome


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
    assert bool(outcome.error.text) == (kind == "error")


def test_a_failed_prompt_may_have_outputs():
    """A failed prompt may have outputs and is failed all the same."""
    outcome = history_of("history_error_partial_outputs.json")
    assert (outcome.kind, list(outcome.outputs)) == ("error", ["8"])


@pytest.mark.parametrize("entry", [{}, {"status": None, "outputs": None}, {"status": {"messages": [["odd"], None]}}])
def test_a_history_entry_without_status(entry):
    """A history entry without status counts as success.

    Old servers kept no status; whether there are images shows the rest.
    """
    assert parse_history(entry).outcome.kind == "success"


def test_an_error_without_its_message_is_an_error():
    outcome = parse_history({"status": {"status_str": "error"}}).outcome
    assert (outcome.kind, outcome.error) == ("error", Failure())


def image(name: str, **more: Any) -> dict[str, Any]:
    return {"filename": name, "subfolder": "", "type": "output", **more}


def picked(outputs: dict[str, Any]) -> list[ImageFile]:
    """Return the images of a history with these outputs."""
    return pick_images(parse_history({"outputs": outputs}).outcome.outputs)


def test_images_come_in_node_order():
    """The images of all output nodes come in node order."""
    outputs = {"9": {"images": [image("a.png"), image("b.png", subfolder="lab")]}, "12": {"images": [image("c.png")]}}
    assert [i.filename for i in picked(outputs)] == ["a.png", "b.png", "c.png"]
    assert picked(outputs)[1].subfolder == "lab"


def test_previews_count_only_if_nothing_was_saved():
    preview, saved = image("p.png", type="temp"), image("s.png")
    assert picked({"8": {"images": [preview]}, "9": {"images": [saved]}}) == [ImageFile(filename="s.png")]
    assert picked({"8": {"images": [preview]}}) == [ImageFile(filename="p.png", type="temp")]


def test_texts_latents_and_strings_are_no_images():
    outputs = {
        "1": {"text": ["hello"]},
        "2": {"latents": [image("x.latent")]},
        "3": {"images": ["a string", {"subfolder": "no name"}, {"filename": None}]},
        "4": "odd",
        "5": {"images": None},
    }
    assert picked(outputs) == []


@pytest.mark.parametrize("more", [{}, {"subfolder": None, "type": None}, {"subfolder": 5, "type": ["output"]}])
def test_an_image_without_folder_and_type(more):
    """An image without folder and type is an output at the top."""
    assert picked({"9": {"images": [{"filename": "a.png", **more}]}}) == [ImageFile(filename="a.png")]


@pytest.mark.parametrize("name", ["", "n" * 256, "a\0b", "\ud800.png", 5, None, ["a.png"]])
def test_what_cannot_be_a_file_name_is_passed_over(name):
    assert parse_images({"images": [image(name), image("a.png")]}) == (ImageFile(filename="a.png"),)


@pytest.mark.parametrize("name", ["\N{FAMILY}\N{ZERO WIDTH JOINER}.png", "a\x1b[31m.png", "a\n.png"])
def test_a_file_name_unfit_to_be_shown_is_fetched(name):
    """It is fetched under its own name, and shown cleaned."""
    (found,) = parse_images({"images": [image(name)]})
    assert found.params["filename"] == name
    assert found.label.isprintable()


def test_the_recorded_queue_is_read():
    """The recorded queue reports what runs and who waits where."""
    body = recording("queue_running_and_pending.json")
    queue = parse_queue(body)
    running = body["queue_running"][0][1]
    waiting = [item[1] for item in sorted(body["queue_pending"], key=lambda item: item[0])]
    assert queue_place(queue, running) == 0
    assert [queue_place(queue, prompt_id) for prompt_id in waiting] == list(range(1, len(waiting) + 1))
    assert queue_place(queue, "unknown") is None
    assert "KSampler" in {node["class_type"] for node in queue.find(running).graph.values()}


def test_places_go_by_number():
    """Places go by number not by the order of the list."""
    queue = parse_queue({"queue_running": [], "queue_pending": [[3, "c"], [-2.0, "front"], [1, "a"]]})
    assert [queue_place(queue, p) for p in ("front", "a", "c")] == [1, 2, 3]


def test_odd_items_of_a_queue_are_passed_over():
    odd = [*ODD, [1], [None, "a"], ["1", "a"], [float("nan"), "a"], [1, 7]]
    queue = parse_queue({"queue_running": odd, "queue_pending": [*odd, [2, "b", {}, {}, []], [1, "a"]]})
    assert (queue_place(queue, "a"), queue_place(queue, "b")) == (1, 2)


@pytest.mark.parametrize("body", [{}, {"queue_running": None, "queue_pending": []}, {"queue_running": []}])
def test_a_queue_without_lists_is_no_queue(body):
    """Taken for an empty one it would lose the jobs that run."""
    with pytest.raises(ValueError, match="no queue_"):
        parse_queue(body)


@pytest.mark.parametrize("item", [None, "x", [], [1, "a"], [1, "a", None], {"2": {}}])
def test_an_odd_item_has_no_graph(item: object):
    assert graph_of(item) is None


def test_odd_nodes_and_inputs_of_a_graph_are_left_out():
    inputs = {"n": 5, "to": ["2", 0], "odd": [[1]], "d": {}}
    nodes = {"1": {"class_type": "A", "inputs": inputs}, "2": {"class_type": None}, "3": "x"}
    graph = graph_of([1, "a", {**nodes, "4": {"class_type": "B", "inputs": 7}}])
    assert graph == {
        "1": {"class_type": "A", "inputs": {"n": 5, "to": ["2", 0]}},
        "4": {"class_type": "B", "inputs": {}},
    }


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
def test_no_odd_value_of_a_history_raises(odd: Any):
    entries = [
        dict.fromkeys(("prompt", "outputs", "status"), odd),
        {"prompt": [1, "a", odd], "outputs": {"9": odd}, "status": {"status_str": odd, "messages": odd}},
        {"outputs": {"9": {"images": [odd, {"filename": odd, "subfolder": odd, "type": odd}]}}},
        {"status": {"messages": [odd, [odd, odd], ["execution_error", odd]]}},
        {"status": {"messages": [["execution_error", dict.fromkeys(FAILURE, odd)]]}},
        {"prompt": [1, "a", {"7": {"class_type": "KSampler", "inputs": {"seed": odd, "model": [odd, odd]}}}]},
    ]
    for entry in entries:
        assert parse_history(entry).outcome.kind in ("success", "error")


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
def test_no_odd_value_of_the_system_raises(odd: Any):
    stats = parse_stats({"system": {"comfyui_version": odd}, "devices": [odd, {"name": odd, "vram_total": odd}]})
    assert len(stats.version) <= 40
    assert all(len(device.name) <= 200 for device in stats.devices)
    assert parse_stats({"system": odd, "devices": odd}).devices == ()


@pytest.mark.parametrize("body", [{}, *({"exec_info": {"queue_remaining": odd}} for odd in ODD if odd != 5)])
def test_a_length_that_is_none_is_told(body):
    with pytest.raises(ValueError, match="no queue_remaining"):
        parse_remaining(body)


def test_an_upload_tells_its_name():
    assert parse_upload({"name": "a.png", "subfolder": "", "type": "input"}) == "a.png"
    assert parse_upload({"name": "a.png", "subfolder": "lab"}) == "lab/a.png"
    for odd in ({}, {"name": None}, {"name": "a\nb.png"}, {"name": "n" * 300}):
        with pytest.raises(ValueError, match="no name"):
            parse_upload(odd)
