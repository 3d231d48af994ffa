"""Runs published MCP clients against this server, with a scripted model and the test ComfyUI, and prints a table.

    .venv/bin/python -m scripts.clients list
    .venv/bin/python -m scripts.clients run [CLIENT ...] --out FOLDER

Everything listens on loopback; npm and PyPI are asked for the clients. OUT gets a folder for each run with its traces,
`table.md` and `observed.json`. See CONTRIBUTING.md.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.clients import scenarios
from scripts.clients.catalogue import FOLDER, ClientProgram, catalogue
from scripts.clients.findings import Finding, as_json, finding
from scripts.clients.installs import install, install_node
from scripts.clients.outcome import Outcome
from scripts.clients.report import table
from scripts.clients.stand import Stand, stand

SERVER = FOLDER.parent.parent / ".venv" / "bin" / "mcp-image-gen"
HOME = Path(tempfile.gettempdir()) / "clients"
LONG = {"IMAGE_GEN_WAIT_SECONDS": "3600"}  #: so that it is the client that gives up
RAW = {"IMAGE_GEN_INLINE_FORMAT": "png", "IMAGE_GEN_LINK": "true"}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing to do with a client."""

    act: Callable[[Stand, float], Outcome]
    meaning: str
    variables: Mapping[str, str] = field(default_factory=dict)
    limit: bool = False
    http: bool = False
    applies: Callable[[ClientProgram], bool] = lambda _: True


SCENARIOS = {
    "answer": Scenario(act=scenarios.answer, meaning="one image, with what the server chooses for the client"),
    "raw": Scenario(act=scenarios.answer, meaning="one image as PNG with a link, whatever the client", variables=RAW),
    "http": Scenario(
        act=scenarios.answer,
        meaning="one image from a server on HTTP",
        http=True,
        applies=lambda client: bool(client.http_entry),
    ),
    "stop": Scenario(
        act=scenarios.stop, meaning="Ctrl-C during a call of the script", applies=lambda client: not client.person
    ),
    "person": Scenario(
        act=scenarios.person,
        meaning="the interactive program: its screen, and Esc or Ctrl-C during a call",
        applies=lambda client: bool(client.person),
    ),
    "limit": Scenario(
        act=scenarios.limit,
        meaning="a call beyond a time limit that is set in the client",
        variables=LONG,
        limit=True,
        applies=lambda client: bool(client.limit_seconds),
    ),
    "default_limit": Scenario(
        act=scenarios.limit, meaning="a call beyond the client's own time limit, or --patience", variables=LONG
    ),
}


def main() -> int:
    """Run the command line; return its exit code."""
    given = _arguments()
    known = catalogue()
    if given.command == "list":
        return _list(known)
    names = given.clients or list(known)
    if unknown := [name for name in names if name not in known]:
        print(f"Unknown client: {', '.join(unknown)}. Known: {', '.join(known)}.", file=sys.stderr)
        return 2
    # The first start compiles the server's modules, which is not a client's matter.
    subprocess.run([*shlex.split(given.server), "--version"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    for name in names:
        _run_client(known[name], given)
        text = _report(given.out)  # after each, so that nothing is lost
    print(text)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.clients", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print clients and scenarios")
    run = commands.add_parser("run", help="run clients and print the table")
    run.add_argument("clients", nargs="*", metavar="CLIENT", help="from the list (default: all)")
    run.add_argument("--out", type=Path, required=True, help="folder for traces, table.md and observed.json")
    run.add_argument("--server", default=str(SERVER), help="command of the server (default: %(default)s)")
    run.add_argument("--home", type=Path, default=HOME, help="folder for the installed clients (default: %(default)s)")
    run.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="variable of the server")
    run.add_argument("--only", action="append", choices=SCENARIOS, help="scenario; may be given several times")
    run.add_argument("--patience", type=float, default=75, help="seconds to wait for a time-out (default: %(default)s)")
    given = parser.parse_args()
    if given.command == "run":
        given.out = given.out.absolute()
        given.home = given.home.absolute()
    return given


def _list(known: Mapping[str, ClientProgram]) -> int:
    for client in known.values():
        print(f"{client.id:16} {client.title} {client.version}")
    print()
    for name, scenario in SCENARIOS.items():
        print(f"{name:16} {scenario.meaning}")
    return 0


def _run_client(client: ClientProgram, given: argparse.Namespace) -> None:
    """Run the scenarios of one client and write its finding."""
    try:
        programs = (install(client, given.home), install_node(given.home))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        print(f"{client.id}: cannot be installed: {error}", file=sys.stderr)
        return
    outcomes = {}
    for name, scenario in SCENARIOS.items():
        if scenario.applies(client) and name in (given.only or SCENARIOS):
            try:
                outcomes[name] = _run_scenario(client, name, programs, given)
            except (OSError, subprocess.SubprocessError) as error:  # the others still tell something
                print(f"{client.id}: {name} failed: {error}", file=sys.stderr)
    found = finding(client.title, client.version, client.limit_seconds, outcomes)
    _keep(found, given.out / client.id / "finding.json")


def _run_scenario(client: ClientProgram, name: str, programs: tuple[Path, ...], given: argparse.Namespace) -> Outcome:
    scenario = SCENARIOS[name]
    variables = {**scenario.variables, **dict(each.split("=", 1) for each in given.env)}
    print(f"{client.id}: {name} ...", file=sys.stderr)
    server = tuple(shlex.split(given.server))
    with stand(
        client, given.out / client.id / name, server=server, variables=variables, programs=programs,
        limit=scenario.limit, http=scenario.http,
    ) as ready:  # fmt: skip
        return scenario.act(ready, given.patience)


def _keep(found: Finding, file: Path) -> None:
    """Write the finding; what this run did not measure stays as an earlier one left it."""
    before = json.loads(file.read_text("utf-8")) if file.exists() else {}
    now = as_json(found)
    if before.get("version") == now["version"]:
        now = {key: before.get(key) if value is None else value for key, value in now.items()}
    file.write_text(json.dumps(now, indent=2) + "\n", "utf-8")


def _report(out: Path) -> str:
    """Return the table of all findings in `out`, and write it and `observed.json` there."""
    files = [out / name / "finding.json" for name in catalogue()]
    observed = [json.loads(file.read_text("utf-8")) for file in files if file.exists()]
    text = table([Finding(**each) for each in observed])
    (out / "observed.json").write_text(json.dumps(observed, indent=2) + "\n", "utf-8")
    (out / "table.md").write_text(text + "\n", "utf-8")
    return text


if __name__ == "__main__":
    sys.exit(main())
