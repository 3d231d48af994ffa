"""Set-up and chores in one command each, on a machine that has only Python 3.11+ and git.

    python3 scripts/dev.py generate "a red apple"   generate an image (with your ComfyUI if COMFYUI_URL is set)
    python3 scripts/dev.py test                     run all tests
    python3 scripts/dev.py lint                     style, types, import contracts
    python3 scripts/dev.py bench                    measure, against a bare FastMCP server

It uses uv when that is installed and a virtual environment of its own (.venv) either way.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / ".installed"  # newer than pyproject.toml = nothing to install


def main() -> int:
    """Run one chore; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chore", choices=["setup", "generate", "draw", "test", "lint", "bench"])
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="passed on to the chore")
    given = parser.parse_args()
    if sys.version_info < (3, 11):
        parser.error(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
    set_up()
    chores = {"generate": generate, "draw": generate, "test": test, "lint": lint, "bench": bench}  # draw: the old name
    return chores[given.chore](given.rest) if given.chore in chores else 0


def set_up() -> None:
    """Make .venv with the project and its development tools in it, unless it is up to date."""
    project = ROOT / "pyproject.toml"
    if STAMP.exists() and STAMP.stat().st_mtime > project.stat().st_mtime:
        return
    print("Setting up .venv ...", file=sys.stderr)
    if uv := shutil.which("uv"):
        if not PYTHON.exists():
            check(uv, "venv", "--quiet", "--python", sys.executable, str(VENV))
        check(uv, "pip", "install", "--quiet", "--python", str(PYTHON), "--editable", ".", "--group", "dev")
    else:
        if not PYTHON.exists():
            check(sys.executable, "-m", "venv", str(VENV))
        pip = (str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check")
        check(*pip, "install", "--upgrade", "pip>=25.1")  # the first that knows dependency groups
        check(*pip, "install", "--editable", ".", "--group", "dev")
    STAMP.touch()


def generate(rest: list[str]) -> int:
    """Generate one image with the user's ComfyUI, or with the built-in engine when none is named."""
    if os.environ.get("COMFYUI_URL"):
        return run("-m", "mcp_image_gen_local", "generate", *(rest or ["a lighthouse at dusk"]))
    return run("-m", "mcp_image_gen_local", "generate", *(rest or ["a red apple"]), "--engine", "builtin")


def test(rest: list[str]) -> int:
    """Run all tests in parallel."""
    return run("-m", "pytest", "-n", "auto", *rest)


def lint(_: list[str]) -> int:
    """Hold style, types and import contracts."""
    codes = [
        run("-m", "ruff", "format", "--check", "."),
        run("-m", "ruff", "check", "."),
        run("-m", "mypy"),
        run("-c", "from importlinter.cli import lint_imports_command as c; c()"),
    ]
    return max(codes)


def bench(rest: list[str]) -> int:
    """Measure and print a table and JSON."""
    return run("-m", "bench", *rest)


def check(*command: str) -> None:
    """Run a command of the set-up; end with its exit code if it fails."""
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def run(*arguments: str) -> int:
    """Run the environment's Python in the repository's root."""
    try:
        return subprocess.run([str(PYTHON), *arguments], cwd=ROOT, check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
