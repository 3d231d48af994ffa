"""The table of a run. Pure."""

from collections.abc import Callable, Sequence

from scripts.clients.findings import Finding

Column = tuple[str, Callable[[Finding], str]]


def table(findings: Sequence[Finding]) -> str:
    """Return a Markdown table, a row for each client."""
    rows = [[title for title, _ in COLUMNS], ["---"] * len(COLUMNS)]
    rows += [[_cell(read(found)) for _, read in COLUMNS] for found in findings]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _known(value: object) -> str:
    if value is None:
        return "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _introduces(found: Finding) -> str:
    return f"{found.client_info_name} {found.client_info_version}, {found.protocol}" if found.protocol else "-"


def _limit(found: Finding) -> str:
    if found.call_limit_s is not None:
        default = f"{found.call_limit_s:g} s"
    elif found.call_limit_tried_s is not None:
        default = f"more than {found.call_limit_tried_s:g} s"
    else:
        default = "-"
    if found.own_limit_s is None:
        return default
    extended = " (kept alive by progress)" if found.limit_extended_by_progress else ""
    return f"{default}; own limit: {found.own_limit_s:g} s{extended}"


def _time_out(found: Finding) -> str:
    if found.timeout_job is None:
        return "-"
    return f"{_told(found.timeout_cancels, found.timeout_reason)}: {found.timeout_job}"


def _stop(found: Finding) -> str:
    if found.stop is None:
        return "-"
    return f"{found.stop}: {_told(found.stop_cancels, found.cancel_reason)}: {found.stop_job}"


def _told(cancels: bool | None, reason: str | None) -> str:
    if not cancels:
        return "says nothing"
    return f'cancels, "{reason}"' if reason else "cancels without a reason"


COLUMNS: tuple[Column, ...] = (
    ("Client", lambda found: f"{found.client} {found.version}"),
    ("Introduces itself as", _introduces),
    ("Tools in first turn", lambda found: _known(found.tools_in_first_turn)),
    ("Model gets, by default", lambda found: _known(found.image_by_default)),
    ("Model gets of a PNG", lambda found: _known(found.image_detail)),
    ("Link", lambda found: _known(found.link)),
    ("Path: model", lambda found: _known(found.path_to_model)),
    ("Path: person", lambda found: _known(found.path_to_person)),
    ("User agent over HTTP", lambda found: _known(found.user_agent)),
    ("Asks for progress", lambda found: _known(found.progress_token)),
    ("A call may take", _limit),
    ("Its time-out", _time_out),
    ("Stop", _stop),
    ("Loops", lambda found: _known(found.loops)),
)
