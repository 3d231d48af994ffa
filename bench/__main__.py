"""Measure and print a table, then JSON.

    python -m bench [--rounds 15]
    python -m bench load [--jobs 1000] [--parallel 20] [--step-seconds 0.0125] [--trace]
    python -m bench [--rounds 15] faults

The first measures what this server adds to one image (bench/overhead.py), the second what many images do to the
server (bench/load.py), the third what a broken WebSocket and a restart of ComfyUI cost (bench/faults.py).
"""

import argparse
import json
import platform
import tempfile

from bench import faults, load, overhead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each measurement (default: 15)")
    commands = parser.add_subparsers(dest="command", metavar="load|faults")
    more = commands.add_parser("load", help="many images through one server")
    more.add_argument("--jobs", type=int, default=1000, help="images in all (default: 1000)")
    more.add_argument("--parallel", type=int, default=20, help="calls in flight at a time (default: 20)")
    more.add_argument(
        "--step-seconds",
        type=float,
        default=load.STEP_SECONDS,
        help="a step of ComfyUI, of 4; with 0 this server sets the pace (default: %(default)s)",
    )
    more.add_argument("--trace", action="store_true", help="tell which lines hold more memory at the end; slow")
    commands.add_parser("faults", help="a broken WebSocket, a restart of ComfyUI")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.command == "load":
            pace = {"step_seconds": given.step_seconds, "trace": given.trace}
            found, shown = load.measure(folder, given.jobs, given.parallel, **pace), load.in_table
        elif given.command == "faults":
            found, shown = faults.measure(folder, given.rounds), faults.in_table
        else:
            found, shown = overhead.measure(folder, given.rounds), overhead.in_table
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    print(shown(found))
    print(json.dumps({"machine": machine, **found}, indent=2))


if __name__ == "__main__":
    main()
