"""What the traces of the runs say about a client. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scripts.clients.conversation import WANTED, offered
from scripts.clients.outcome import Outcome
from scripts.clients.protocol import calls, client_says, sends_progress_token
from scripts.clients.seen import Seen, seen_in
from scripts.clients.steps import Tool
from scripts.clients.turn import Turn

EXTENDED = 1.6  #: a call that lasts so many times its limit is kept alive by progress messages


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Measured facts about one client; None where nothing was measured."""

    client: str
    version: str
    client_info_name: str | None = None
    client_info_version: str | None = None
    protocol: str | None = None
    user_agent: str | None = None  #: over HTTP
    http_image: str | None = None  #: what the model gets over HTTP
    progress_token: bool | None = None
    tools_in_first_turn: str | None = None  #: "yes", "by search" or "no"
    image: str | None = None  #: "image", "text" or "dropped": what the model gets of a PNG
    image_detail: str | None = None
    image_by_default: str | None = None  #: with the settings that the server chooses for this client
    link: str | None = None  #: "image", "text" or "dropped": what the model gets of a resource link
    path_to_model: bool | None = None
    path_to_person: bool | None = None  #: on the screen of the interactive program
    loops: bool | None = None  #: given a PNG, it lets the model generate again and again
    call_limit_s: float | None = None  #: after which the client gives up without a setting
    call_limit_tried_s: float | None = None  #: how long a call lasted; without a limit it did not give up within that
    own_limit_s: float | None = None  #: where a call ended that the client was told to end earlier
    limit_extended_by_progress: bool | None = None
    timeout_reason: str | None = None  #: of the cancel notification
    timeout_cancels: bool | None = None  #: whether there is one
    timeout_job: str | None = None  #: what becomes of the job
    stop: str | None = None  #: the keys
    stop_cancels: bool | None = None
    cancel_reason: str | None = None
    stop_job: str | None = None  #: "cancelled" or "goes on"


def finding(client: str, version: str, limit_seconds: float, outcomes: Mapping[str, Outcome]) -> Finding:
    """Return what the outcomes, by name of their scenario, say."""
    facts: dict[str, Any] = {}
    for name, read in READERS.items():
        if name in outcomes:
            facts.update({key: value for key, value in read(outcomes[name]).items() if value is not None})
    if facts.get("own_limit_s") and limit_seconds:
        facts["limit_extended_by_progress"] = facts["own_limit_s"] > EXTENDED * limit_seconds
    return Finding(client=client, version=version, **facts)


def as_json(found: Finding) -> dict[str, Any]:
    """Return the finding for `observed.json`."""
    return asdict(found)


def _read_answer(outcome: Outcome) -> dict[str, Any]:
    says, seen = client_says(outcome.log), seen_by_model(outcome.turns)
    return {
        "client_info_name": says.name,
        "client_info_version": says.version,
        "protocol": says.protocol,
        "progress_token": sends_progress_token(outcome.log, WANTED),
        "tools_in_first_turn": _first_turn(outcome.turns),
        "image_by_default": str(seen) if seen else None,
        "path_to_model": seen.has_path if seen else None,
    }


def _read_raw(outcome: Outcome) -> dict[str, Any]:
    seen = seen_by_model(outcome.turns)
    loops = len(calls(outcome.log, WANTED)) > 1
    if seen is None:
        return {"loops": True, "image_detail": "never the answer"} if loops else {}
    has_link = (client_says(outcome.log).protocol or "") >= "2025-06-18"  # the server sends no link before
    return {"image": seen.kind, "image_detail": str(seen), "link": seen.link if has_link else None, "loops": loops}


def _read_http(outcome: Outcome) -> dict[str, Any]:
    agents = [record["user_agent"] for record in outcome.log if record.get("user_agent")]
    seen = seen_by_model(outcome.turns)
    return {"user_agent": agents[0] if agents else None, "http_image": str(seen) if seen else None}


def _read_person(outcome: Outcome) -> dict[str, Any]:
    shown = shows_path(outcome) if outcome.images else None
    return {"path_to_person": shown, **_read_stop(outcome)}


def _read_stop(outcome: Outcome) -> dict[str, Any]:
    facts = outcome.facts
    names = {"stop": "stopped", "stop_cancels": "is_told", "cancel_reason": "told", "stop_job": "job"}
    return {name: facts.get(fact) for name, fact in names.items()}


def _read_limit(outcome: Outcome) -> dict[str, Any]:
    if outcome.facts.get("seconds") is None:
        return {}
    return {"own_limit_s": outcome.facts["seconds"], **_read_end(outcome)}


def _read_default_limit(outcome: Outcome) -> dict[str, Any]:
    seconds = outcome.facts.get("seconds")
    if seconds is None:
        return {}
    if not outcome.facts["gave_up"]:
        return {"call_limit_tried_s": seconds}
    return {"call_limit_s": seconds, "call_limit_tried_s": seconds, **_read_end(outcome)}


def _read_end(outcome: Outcome) -> dict[str, Any]:
    if not outcome.facts["gave_up"]:
        return {}
    return {
        "timeout_cancels": outcome.facts["is_told"],
        "timeout_reason": outcome.facts["told"],
        "timeout_job": outcome.facts["job"],
    }


#: Later ones win: a limit that is set is reached more often than the client's own.
READERS = {
    "answer": _read_answer,
    "raw": _read_raw,
    "http": _read_http,
    "stop": _read_stop,
    "person": _read_person,
    "default_limit": _read_default_limit,
    "limit": _read_limit,
}


def seen_by_model(turns: Sequence[Turn]) -> Seen | None:
    """Return what the model got of the first answer of the wanted tool; None if it got none."""
    return next((seen_in(turn.latest) for turn in turns if turn.has_result), None)


def shows_path(outcome: Outcome) -> bool:
    """Return whether a saved file's name is on the screen, even if broken into lines."""
    screen = "".join(each for each in outcome.screen if not each.isspace() and each not in "│|┃")
    return any(name in screen for name in outcome.images)


def _first_turn(turns: Sequence[Turn]) -> str | None:
    offers = [tools for turn in turns if (tools := turn.api.tools(turn.body))]
    if not offers:
        return None
    if offered(offers[0]):
        return "yes"
    return "by search" if _has_search(offers[0]) else "no"


def _has_search(tools: Sequence[Tool]) -> bool:
    return any(tool.name in ("ToolSearch", "tool_search") for tool in tools)
