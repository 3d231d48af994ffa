"""Builds wheel and source distribution into dist/, checks what they hold, and runs the tests of the unpacked source.

`python -m scripts.packages [--no-tests] [arguments for pytest]`
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from scripts.links import ROOT
from scripts.lowest import UV, make_environment

DIST = ROOT / "dist"
PACKAGE = "mcp_image_gen_local"
#: Without these the wheel works badly or not at all, and no import tells.
NEEDED = (
    "py.typed",
    "engines/builtin/weights/denoiser.onnx",
    "engines/builtin/weights/vocabulary.json",
    "engines/builtin/weights/NOTICE",
    "engines/comfyui/workflows/flux_schnell.json",
)


def main(rest: list[str]) -> int:
    """Build, check, test; return the exit code."""
    wheel, source = build()
    problems = [*wheel_problems(wheel), *source_problems(source)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems or "--no-tests" in rest:
        return int(bool(problems))
    with tempfile.TemporaryDirectory() as folder:
        return test(source, Path(folder), rest)


def build() -> tuple[Path, Path]:
    """Return wheel and source distribution, built the way an installer does: the one from the other."""
    shutil.rmtree(DIST, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", str(DIST)], cwd=ROOT, check=True)
    (DIST / ".gitignore").unlink(missing_ok=True)  # uv's; what stands in dist/ is published
    (wheel,), (source,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    return wheel, source


def wheel_problems(wheel: Path) -> list[str]:
    """Return what the wheel lacks, and what it should not hold."""
    names = set(zipfile.ZipFile(wheel).namelist())
    lacking = [f"{wheel.name} lacks {name}" for name in (f"{PACKAGE}/{each}" for each in NEEDED) if name not in names]
    strange = [name for name in sorted(names) if name.split("/")[0] not in (PACKAGE, *facts(names))]
    return lacking + [f"{wheel.name} should not hold {name}" for name in strange]


def facts(names: set[str]) -> set[str]:
    """Return the folder of the wheel's metadata."""
    return {name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA")}


def source_problems(source: Path) -> list[str]:
    """Return where the source distribution differs from what git holds; nothing to compare with without git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        return []
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in (each.name for each in archive if each.isfile())} - {"PKG-INFO"}
    known = set(filter(None, listed.stdout.split("\0")))
    lacking = [f"{source.name} lacks {name}" for name in sorted(known - held)]
    return lacking + [f"{source.name} holds {name}, which git does not know" for name in sorted(held - known)]


def test(source: Path, folder: Path, rest: list[str]) -> int:
    """Run the tests of the unpacked source with nothing else around, on an installed package, not an editable one."""
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.glob("*")
    python = str(make_environment(folder / "environment"))
    install = [*UV, "install", "--quiet", "--python", python, ".[builtin]", "--group", "dev"]
    subprocess.run(install, cwd=root, check=True)
    return subprocess.run([python, "-m", "pytest", "-n", "auto", *rest], cwd=root, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
