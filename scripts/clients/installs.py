"""Installs clients from npm and PyPI into a folder of their own each, never into this repository."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.clients.catalogue import ClientProgram

NODE = "node@24"  #: Node.js itself comes from npm too, so that the machine's own version does not matter
MINUTES = 10  #: that one install may take


def install(client: ClientProgram, home: Path) -> Path:
    """Return the folder with the client's programs, installed there unless they are already.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: npm or pip did not do it.
    """
    if client.npm:
        install_node(home)
        _once(home / client.id, client.npm, _npm)
        return home / client.id / (client.bin or "node_modules/.bin")
    _once(home / client.id, client.pip, _pip)
    return home / client.id / (client.bin or "bin")


def install_node(home: Path) -> Path:
    """Return the folder that holds `node`."""
    _once(home / "node", (NODE,), _npm)
    return home / "node" / "node_modules" / "node" / "bin"


def _once(folder: Path, packages: tuple[str, ...], how: Callable[[Path, tuple[str, ...]], None]) -> None:
    stamp, wanted = folder / ".installed", "\n".join(packages) + "\n"
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return
    print(f"Installing {' '.join(packages)} into {folder} ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    how(folder, packages)
    stamp.write_text(wanted, "utf-8")


def _npm(folder: Path, packages: tuple[str, ...]) -> None:
    _run("npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error", *packages)


def _pip(folder: Path, packages: tuple[str, ...]) -> None:
    if uv := shutil.which("uv"):
        _run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *packages)
    else:
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=60 * MINUTES, stdin=subprocess.DEVNULL)
