"""What `scripts/clients` reads from the traces of a run, and the table that it prints."""

import json
from pathlib import Path
from typing import Any

from scripts.clients.catalogue import FOLDER, catalogue, fill
from scripts.clients.findings import Finding, finding
from scripts.clients.outcome import Outcome
from scripts.clients.protocol import cancellation, client_says
from scripts.clients.report import COLUMNS, table

TOOL = "generate_image"
OBSERVED: list[dict[str, Any]] = json.loads((FOLDER / "observed.json").read_text("utf-8"))


def said(by: str, at: float = 0, **message: Any) -> dict[str, Any]:
    return {"at": at, "by": by, "message": {"jsonrpc": "2.0", **message}}


def called(number: int, at: float = 0) -> dict[str, Any]:
    return said("client", at, id=number, method="tools/call", params={"name": TOOL})


def cancelled(number: int, at: float, reason: str) -> dict[str, Any]:
    params = {"requestId": number, "reason": reason}
    return said("client", at, method="notifications/cancelled", params=params)


def outcome(*log: dict[str, Any], screen: str = "", images: tuple[str, ...] = (), **facts: object) -> Outcome:
    return Outcome(log=log, turns=(), screen=screen, images=images, facts=facts)


def test_a_client_says_who_it_is_when_it_connects():
    """The revision is the one that the server agreed to."""
    params = {"protocolVersion": "2030-01-01", "clientInfo": {"name": "a", "version": "1"}}
    log = [
        said("client", id=0, method="initialize", params=params),
        said("server", id=0, result={"protocolVersion": "2025-11-25"}),
    ]
    says = client_says(log)
    assert (says.name, says.version, says.protocol) == ("a", "1", "2025-11-25")


def test_a_stateless_client_says_who_it_is_each_time():
    meta = {
        "io.modelcontextprotocol/clientInfo": {"name": "b", "version": "2"},
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    }
    says = client_says([said("client", id=1, method="tools/list", params={"_meta": meta})])
    assert (says.name, says.version, says.protocol) == ("b", "2", "2026-07-28")


def test_a_cancel_after_the_answer_does_not_count():
    log = [called(1), said("server", 1, id=1, result={}), cancelled(1, 2, "late"), called(2, 3), cancelled(2, 5, "Esc")]
    assert cancellation(log, TOOL) == (5, "Esc")


def test_two_servers_may_count_alike():
    """LlamaIndex starts one to list the tools and one for each call; both begin with request 1."""
    first = [said("client", id=1, method="tools/list"), said("server", id=1, result={})]
    second = [called(1, 2), cancelled(1, 4, "Esc")]
    log = [record | {"session": number} for number, part in enumerate((first, second)) for record in part]
    assert cancellation(log, TOOL) == (4, "Esc")


def test_a_call_beyond_its_limit_was_kept_alive():
    """A limit of 15 s that ends nothing for 70 s is restarted by progress messages."""
    late = outcome(seconds=70.0, gave_up=False)
    assert finding("a", "1", 15, {"limit": late}).limit_extended_by_progress is True
    in_time = outcome(seconds=15.1, gave_up=True, is_told=True, told="Request timed out", job="image saved")
    found = finding("a", "1", 15, {"limit": in_time})
    assert (found.limit_extended_by_progress, found.timeout_reason) == (False, "Request timed out")


def test_a_path_broken_into_lines_is_seen():
    shown = outcome(screen="Saved to /tmp/out/2026-\n  │ 1.png", images=("2026-1.png",))
    assert finding("a", "1", 0, {"person": shown}).path_to_person is True


def test_the_table_has_a_cell_for_each_column():
    full = Finding(client="A | B", version="1", call_limit_tried_s=75, stop="esc", stop_job="goes on")
    head, _, row, empty = table([full, Finding(client="C", version="2")]).splitlines()
    assert head.count("|") == row.replace("\\|", "").count("|") == empty.count("|") == len(COLUMNS) + 1
    assert "more than 75 s" in row
    assert "esc: says nothing: goes on" in row


def test_the_kept_results_are_those_of_known_clients():
    """`observed.json` has the fields of a finding, and no client that cannot be run again."""
    found = [Finding(**each) for each in OBSERVED]
    assert {each.client for each in found} <= {client.title for client in catalogue().values()}


def test_a_client_names_nothing_that_is_not_filled_in():
    known = (
        "server",
        "url",
        "entry",
        "model",
        "model_name",
        "home",
        "project",
        "libraries",
        "prompt",
        "limit",
        "limit_seconds",
    )
    values = dict.fromkeys(known, "x")
    for client in catalogue().values():
        texts = [
            *client.files,
            *client.files.values(),
            *client.env.values(),
            *client.once,
            *client.person,
            client.entry,
        ]
        assert not [text for text in texts if "${" in fill(text, values)], client.id


def test_each_library_has_its_script():
    scripts = {Path(part).name for client in catalogue().values() for part in client.once if "libraries" in part}
    assert scripts == {file.name for file in (FOLDER / "libraries").glob("*.py")}
