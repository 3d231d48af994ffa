"""What client and server said to each other, read from the tap's log. Pure but for `read_log`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]
CLIENT_INFO = "io.modelcontextprotocol/clientInfo"  #: in _meta of each request since 2026-07-28
VERSION = "io.modelcontextprotocol/protocolVersion"


@dataclass(frozen=True, kw_only=True)
class ClientSays:
    """A client as it presents itself."""

    name: str | None = None
    version: str | None = None
    protocol: str | None = None  #: the revision that is spoken in the end


def read_log(path: Path) -> list[Record]:
    """Return the records so far; a line that is only half written is left out."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def messages(records: Sequence[Record], by: str, method: str) -> Iterator[tuple[float, Record]]:
    """Yield (time, message) of each request or notification with this method."""
    for record in records:
        message = record.get("message")
        if record["by"] == by and isinstance(message, dict) and message.get("method") == method:
            yield record["at"], message


def client_says(records: Sequence[Record]) -> ClientSays:
    """Return name, version and protocol, from `initialize` or from the requests of a stateless client."""
    for _, message in messages(records, "client", "initialize"):
        given, answer = message["params"], _result(records, message["id"])
        info = given.get("clientInfo") or {}
        protocol = answer.get("protocolVersion", given.get("protocolVersion"))
        return ClientSays(name=info.get("name"), version=info.get("version"), protocol=protocol)
    for _, message in messages(records, "client", "tools/list"):
        meta = _meta(message)
        info = meta.get(CLIENT_INFO) or {}
        return ClientSays(name=info.get("name"), version=info.get("version"), protocol=meta.get(VERSION))
    return ClientSays()


def calls(records: Sequence[Record], tool: str) -> list[tuple[float, Record]]:
    """Return (time, request) of each call of `tool`."""
    called = messages(records, "client", "tools/call")
    return [(at, message) for at, message in called if message["params"].get("name") == tool]


def sends_progress_token(records: Sequence[Record], tool: str) -> bool | None:
    """Return whether calls ask for progress; None without a call."""
    requests = [message for _, message in calls(records, tool)]
    return any("progressToken" in _meta(request) for request in requests) if requests else None


def cancellation(records: Sequence[Record], tool: str) -> tuple[float, str | None] | None:
    """Return (time, reason) of the first cancel notification for a call of `tool` without an answer; None if none."""
    found = (_cancellation(session, tool) for session in _sessions(records))
    return next((each for each in found if each), None)


def _sessions(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each start of the server: some clients start one for each call, and count from 1 again."""
    numbers = dict.fromkeys(record.get("session") for record in records)
    return [[record for record in records if record.get("session") == number] for number in numbers]


def _cancellation(records: Sequence[Record], tool: str) -> tuple[float, str | None] | None:
    open_calls = {message["id"] for _, message in calls(records, tool)}
    for at, message in messages(records, "client", "notifications/cancelled"):
        params = message.get("params") or {}
        if params.get("requestId") in open_calls and not _answered_before(records, params["requestId"], at):
            return at, params.get("reason")
    return None


def _answered_before(records: Sequence[Record], request_id: object, at: float) -> bool:
    return any(record["at"] < at for record in _answers(records, request_id))


def _answers(records: Sequence[Record], request_id: object) -> list[Record]:
    said = [r for r in records if r["by"] == "server" and isinstance(r.get("message"), dict)]
    return [r for r in said if r["message"].get("id") == request_id and "method" not in r["message"]]


def _result(records: Sequence[Record], request_id: object) -> Record:
    answers = _answers(records, request_id)
    return (answers[0]["message"].get("result") or {}) if answers else {}


def _meta(message: Record) -> Record:
    return (message.get("params") or {}).get("_meta") or {}
