"""Ends what a client has left running in a session of its own, such as Codex' background server."""

from pathlib import Path

import psutil


def end_strays(home: Path) -> None:
    """End the processes whose home is this scratch folder: no others can have it."""
    found = [process for process in psutil.process_iter() if _home(process) == str(home)]
    for process in found:
        process.terminate()
    for process in psutil.wait_procs(found, timeout=3)[1]:
        process.kill()


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME")
    except psutil.Error:
        return None
