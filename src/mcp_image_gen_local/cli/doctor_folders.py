"""What `doctor` finds about the folders of the settings."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.finding import Finding, Level
from mcp_image_gen_local.domain.folders import expand
from mcp_image_gen_local.settings import Settings

LITTLE, NEARLY_NONE = 10**9, 50 * 10**6  #: free bytes: some hundred images, a dozen
VARIABLE = "IMAGE_OUTPUT_DIR"


async def examine_output(app: App) -> Sequence[Finding]:
    """Return whether images can be saved, and how many more.

    Raises:
        SettingsInvalid: the folder is not known.
    """
    path = app.settings.folder("output_dir")
    if problem := await asyncio.to_thread(obstacle, path):
        return [Finding(subject="folder", level=Level.FAIL, text=problem)]
    folder = await asyncio.to_thread(app.store.describe)
    if not folder.writable:
        text = f"{path} cannot be written to: make it writable, or set {VARIABLE} to another folder"
        return [Finding(subject="folder", level=Level.FAIL, text=text)]
    holds = folder.summary if folder.exists else "will be made"
    found = Finding(subject="folder", text=f"{path} ({holds}{_written(path)})")
    return [found, await asyncio.to_thread(_disk, path)]


def obstacle(path: Path) -> str:
    """Return what stands where the folder should be, with the fix; empty if nothing does."""
    nearest = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
    if nearest.is_dir() or not os.path.lexists(nearest):
        return ""
    if nearest.is_symlink() and not nearest.exists():
        target = os.readlink(nearest)  # noqa: PTH115  (as it is written)
        return f"{nearest} is a link to {target}, which does not exist: make that folder, or set {VARIABLE} to another"
    where = "" if nearest == path else f", so {path} cannot be made"
    return f"{nearest} is a file, not a folder{where}: set {VARIABLE} to a folder"


def _written(path: Path) -> str:
    """Return how the variable spells the folder, where quotes, blanks or variables were read away."""
    written = os.environ.get(VARIABLE, "")
    return f"; {VARIABLE} says {written!r}" if expand(written, os.environ) not in (written, "") else ""


def _disk(path: Path) -> Finding:
    nearest = next(p for p in (path, *path.parents) if p.exists())
    return free_space(path, shutil.disk_usage(nearest).free)


def free_space(path: Path, free: int) -> Finding:
    """Return what so many free bytes mean for the folder's disk."""
    told = f"{free / 10**9:.1f} GB free" if free >= LITTLE else f"only {free / 10**6:.0f} MB free"
    if free >= LITTLE:
        return Finding(subject="disk", text=told)
    level = Level.FAIL if free < NEARLY_NONE else Level.WARN
    text = f"{told} where {path} is: make room, or set {VARIABLE} to a folder on another disk"
    return Finding(subject="disk", level=level, text=text)


async def examine_inputs(settings: Settings) -> Sequence[Finding]:
    """Return which of the folders for init_image are no folders."""
    folders = settings.input_dirs
    missing = await asyncio.to_thread(lambda: [str(path) for path in folders if not os.path.isdir(path)])  # noqa: PTH112
    if missing:
        text = f"IMAGE_GEN_INPUT_DIRS names what is no folder: {', '.join(missing)}. Correct it, or make the folder"
        return [Finding(subject="inputs", level=Level.FAIL, text=text)]
    return [Finding(subject="inputs", text=", ".join(map(str, folders)))] if folders else []
