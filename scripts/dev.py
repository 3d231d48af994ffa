"""Set-up and chores in one command each, on a machine that has only Python 3.11+ and git.

    python3 scripts/dev.py generate "a red apple"   generate an image (with your ComfyUI if COMFYUI_URL is set)
    python3 scripts/dev.py test                     run all tests
    python3 scripts/dev.py lint                     style, types, import contracts, workflows, Dockerfile
    python3 scripts/dev.py bench                    measure, against a bare FastMCP server
    python3 scripts/dev.py tables                   write tables and server.json from the code again
    python3 scripts/dev.py docs                     build the documentation site into build/site
    python3 scripts/dev.py lowest                   run all tests with the oldest dependencies that are allowed
    python3 scripts/dev.py sdist                    build the package, look into it, run the tests of its source
    python3 scripts/dev.py release v0.1.0           say what keeps this tag from being released

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


def main() -> int:
    """Run one chore; return its exit code."""
    chores = {
        "setup": lambda _: 0, "generate": generate, "draw": generate, "test": test, "lint": lint, "bench": bench,
        "tables": tables, "docs": docs, "lowest": lowest, "sdist": sdist, "release": release,
    }  # fmt: skip  # draw: the old name
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chore", choices=chores)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="passed on to the chore")
    given = parser.parse_args()
    if sys.version_info < (3, 11):
        parser.error(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
    install("dev", "--editable", ".")
    return chores[given.chore](given.rest)


def install(group: str, *more: str) -> None:
    """Install a dependency group into .venv, unless that has been done since pyproject.toml changed."""
    stamp = VENV / f".installed-{group}"
    if stamp.exists() and stamp.stat().st_mtime > (ROOT / "pyproject.toml").stat().st_mtime:
        return
    print(f"Setting up .venv ({group}) ...", file=sys.stderr)
    if uv := shutil.which("uv"):
        if not PYTHON.exists():
            check(uv, "venv", "--quiet", "--python", sys.executable, str(VENV))
        check(uv, "pip", "install", "--quiet", "--python", str(PYTHON), *more, "--group", group)
    else:
        pip = (str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check")
        if not PYTHON.exists():
            check(sys.executable, "-m", "venv", str(VENV))
            check(*pip, "install", "--upgrade", "pip>=25.1")  # the first that knows dependency groups
        check(*pip, "install", *more, "--group", group)
    stamp.touch()


def generate(rest: list[str]) -> int:
    """Generate one image with the user's ComfyUI, or with the built-in engine when none is named."""
    if os.environ.get("COMFYUI_URL"):
        return run("-m", "mcp_image_gen_local", "generate", *(rest or ["a lighthouse at dusk"]))
    return run("-m", "mcp_image_gen_local", "generate", *(rest or ["a red apple"]), "--engine", "builtin")


def test(rest: list[str]) -> int:
    """Run all tests in parallel."""
    return run("-m", "pytest", "-n", "auto", *rest)


def lint(_: list[str]) -> int:
    """Hold style, types and import contracts; look at the workflows and the Dockerfile. None of it asks the network."""
    install("lint")
    forms = sorted(map(str, (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")))
    codes = [
        run("-m", "ruff", "format", "--check", "."),
        run("-m", "ruff", "check", "."),
        run("-m", "mypy"),
        run("-c", "from importlinter.cli import lint_imports_command as c; c()"),
        tool("actionlint"),
        tool("zizmor", "--offline", "--persona=pedantic", "."),
        tool("hadolint", "Dockerfile"),
        tool("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml"),
        tool("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *forms),
    ]
    return max(codes)


def bench(rest: list[str]) -> int:
    """Measure and print a table and JSON."""
    return run("-m", "bench", *rest)


def tables(_: list[str]) -> int:
    """Write again what is made from the code: the tables of the documents, and server.json."""
    return run("-m", "tests.docs.tables") or run("-m", "scripts.server_json")


def docs(_: list[str]) -> int:
    """Build the documentation site; a broken link or anchor is an error."""
    install("docs")
    return run("-m", "scripts.site")


def lowest(rest: list[str]) -> int:
    """Run the tests with the oldest versions that pyproject.toml allows."""
    install("package")
    return run("-m", "scripts.lowest", *rest)


def sdist(rest: list[str]) -> int:
    """Build wheel and source distribution, check what they hold, run the tests of the unpacked source."""
    install("package")
    return run("-m", "scripts.packages", *rest)


def release(rest: list[str]) -> int:
    """Say what keeps a tag from being released; write what changed into build/notes.md."""
    return run("-m", "scripts.release", *rest)


def check(*command: str) -> None:
    """Run a command of the set-up; end with its exit code if it fails."""
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def run(*arguments: str) -> int:
    """Run the environment's Python in the repository's root."""
    return call(str(PYTHON), *arguments)


def tool(name: str, *arguments: str) -> int:
    """Run a program of the environment, or else of the machine; without one it is an error in CI only."""
    folders = os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", "")])
    if program := shutil.which(name, path=folders):
        print(f"{name} ...", file=sys.stderr)
        return call(program, *arguments, PATH=folders)  # actionlint looks for shellcheck there
    print(f"{name} cannot be installed on this system; passed over", file=sys.stderr)
    return int("CI" in os.environ)


def call(*command: str, **variables: str) -> int:
    """Run a command in the repository's root; return its exit code."""
    try:
        return subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, **variables}).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
