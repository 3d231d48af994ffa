"""`mcp-image-gen` on the package index is another project: nothing of ours installs or runs it from there."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.documents import ROOT

FOLDERS = ("src", "docs", "examples", "packaging", "scripts", "training", ".github", ".roo", ".vscode", ".ci")
TEXTS = {".py", ".md", ".json", ".toml", ".yml", ".yaml", ".txt", ".cfg", ""}
#: A program that resolves names on the index, then the bare name: not `-local`, and no path or option before it.
TOOL = r"(?:uvx|uv tool (?:install|run)|uv (?:pip install|add)|uv run --with|pipx (?:install|run)|pip3? install)"
OPTION = r"(?:--?[\w-]+(?:[= ][\w.]+)?|[\w.]+\[[\w,]+\])"
GAP = r"""["',\s\]\[]+"""
INSTALLS = re.compile(rf"{TOOL}(?:{GAP}{OPTION})*{GAP}mcp[-_]image[-_]gen(?!-local|[-_]local|/|\w)")


def files() -> list[Path]:
    """Return every text file that users or their tools read."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*") if (ROOT / folder).is_dir() else []
    return [p for p in found if p.is_file() and p.suffix in TEXTS and "__pycache__" not in p.parts]


def install_of(text: str) -> str | None:
    """Return the words that install or run the bare name; None if there are none. JSON spreads them over two keys."""
    found = INSTALLS.search(text.replace('"args":', ""))
    return found[0] if found else None


def test_nothing_installs_the_other_project():
    guilty = {
        str(path.relative_to(ROOT)): found
        for path in files()
        if (found := install_of(path.read_text("utf-8", errors="replace")))
    }
    assert guilty == {}


@pytest.mark.parametrize(
    "text",
    [
        "uvx mcp-image-gen doctor",
        "uv tool install mcp-image-gen",
        'pip install "mcp-image-gen[builtin]"',
        "pip install --upgrade mcp-image-gen",
        '"command": "uvx",\n  "args": ["mcp-image-gen"]',
        "uvx --from mcp-image-gen mcp-image-gen",
        "pipx run mcp_image_gen",
    ],
)
def test_the_search_finds_the_bare_name(text: str):
    assert install_of(text)


@pytest.mark.parametrize("text", ["uvx mcp-image-gen-local", "uv tool install .", "pip install mcp_image_gen_local"])
def test_the_search_passes_our_own_name(text: str):
    assert not install_of(text)


def test_the_distribution_has_a_name_of_its_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == "mcp-image-gen-local"
    assert set(project["scripts"]) == {"mcp-image-gen", "mcp-image-gen-local"}


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/clients.md"])
def test_the_reader_is_warned_of_the_other_project(page: str):
    text = " ".join((ROOT / page).read_text("utf-8").split())
    assert "Do not install `mcp-image-gen` from the package index: that package is another project" in text
