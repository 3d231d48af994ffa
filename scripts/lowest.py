"""The tests with the oldest dependencies that are allowed: `python -m scripts.lowest`, arguments go to pytest.

Only what pyproject.toml names is old; what those packages need in turn is as new as ever, as users would get it.
"""

import os
import subprocess
import sys
from pathlib import Path

from scripts.links import ROOT

VENV = ROOT / "build" / "lowest"
UV = (sys.executable, "-m", "uv", "pip")


def main() -> int:
    """Install the oldest versions into an environment of their own and run the tests there; return the exit code."""
    python = str(make_environment(VENV))
    install = [*UV, "install", "--quiet", "--python", python, "--resolution", "lowest-direct"]
    subprocess.run([*install, "--editable", ".[builtin]", "--group", "dev"], cwd=ROOT, check=True)
    subprocess.run([*UV, "tree", "--depth", "1", "--package", "mcp-image-gen-local", "--python", python], check=False)
    return subprocess.run([python, "-m", "pytest", "-n", "auto", *sys.argv[1:]], cwd=ROOT, check=False).returncode


def make_environment(folder: Path) -> Path:
    """Return the Python of a new, empty environment."""
    make = [sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
    subprocess.run(make, check=True)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


if __name__ == "__main__":
    sys.exit(main())
