"""Versions, addresses and dependencies say the same wherever they stand."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from mcp_image_gen_local import __version__
from scripts.links import ROOT, project, registry_name
from scripts.release import SECTION

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
GROUPS = PYPROJECT["dependency-groups"]
EXTRAS = [each for extra in project()["optional-dependencies"].values() for each in extra]
TOOLS = [each for group in GROUPS.values() for each in group if isinstance(each, str)]
DISTRIBUTIONS = {"pil": "pillow"}  #: import name -> distribution, where they differ
#: Addresses in these name the owner: made by `dev.py tables`, or the place itself.
NAME_THE_OWNER = {"pyproject.toml", "server.json", "PKG-INFO"}  # the last in an unpacked source only


def test_the_changelog_knows_this_version():
    newest = SECTION.search((ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert newest
    assert newest["version"] == __version__


def test_the_command_tells_this_version():
    done = subprocess.run(
        [sys.executable, "-m", "mcp_image_gen_local", "--version"], capture_output=True, text=True, check=True
    )
    assert __version__ in done.stdout


def test_all_addresses_are_of_one_repository():
    urls = project()["urls"]
    owner, name = urls["Repository"].removeprefix("https://github.com/").split("/")
    assert urls["Documentation"] == f"https://{owner}.github.io/{name}/"
    assert all(urls[each].startswith(f"{urls['Repository']}/") for each in ("Issues", "Changelog", "Security"))
    assert registry_name() == f"io.github.{owner}/mcp-image-gen-local"


def test_the_owner_stands_in_one_place():
    """Everything else is made from [project.urls], or needs no owner."""
    owner = project()["urls"]["Repository"].split("/")[-2]
    address = re.compile(rf"(?:github\.com/|io\.github\.|ghcr\.io/|//){re.escape(owner)}[/.]")
    files = [path for path in ROOT.rglob("*") if is_ours(path)]
    assert {path.relative_to(ROOT).as_posix() for path in files if address.search(read(path))} <= NAME_THE_OWNER


def is_ours(path: Path) -> bool:
    """Return True for a text of the project, not for what tools leave."""
    parts = path.relative_to(ROOT).parts
    tools = {".git", ".venv", "build", "dist", "mutants", "node_modules", "__pycache__", "environment", "recordings"}
    return path.is_file() and not tools & set(parts) and path.suffix not in {".png", ".onnx"} and not is_cache(parts[0])


def is_cache(name: str) -> bool:
    return name.startswith(".") and name.endswith(("cache", "_cache", ".hypothesis"))


def read(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")


@pytest.mark.parametrize("text", [*project()["dependencies"], *EXTRAS, *TOOLS])
def test_each_dependency_has_a_floor_and_a_cap(text: str):
    operators = {each.operator for each in Requirement(text).specifier}
    assert operators in ({">=", "<"}, {"=="})


def test_the_development_tools_ask_for_what_users_get():
    """A floor that only tests have would hide one that is wrong for users."""
    ours = {Requirement(each).name: Requirement(each).specifier for each in [*project()["dependencies"], *EXTRAS]}
    tools = {Requirement(each).name: Requirement(each).specifier for each in TOOLS}
    assert {name: tools[name] for name in ours.keys() & tools.keys()} == {
        name: ours[name] for name in ours.keys() & tools.keys()
    }


def test_each_import_is_a_declared_dependency():
    declared = {Requirement(each).name.replace("-", "_") for each in [*project()["dependencies"], *EXTRAS]}
    imported = {
        name for path in (ROOT / "src").rglob("*.py") for name in imports(path) if name not in sys.stdlib_module_names
    }
    assert {DISTRIBUTIONS.get(name.lower(), name) for name in imported} - {"mcp_image_gen_local"} == declared


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {
        name.split(".")[0] for name in plain | {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    }


def test_pre_commit_runs_the_versions_of_the_project():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {tool for hook in hooks for tool in hook.get("additional_dependencies", [])} <= set(TOOLS)


@pytest.mark.parametrize("name", ["uv.lock", "package-lock.json", "poetry.lock", "requirements.lock", "pylock.toml"])
def test_no_lock_file_is_kept(name: str):
    listed = subprocess.run(["git", "ls-files", name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert listed.stdout == ""


@pytest.mark.parametrize("name", ["SECURITY.md", "CODE_OF_CONDUCT.md", ".github/pull_request_template.md"])
def test_a_reader_finds_what_github_looks_for(name: str):
    assert (ROOT / name).stat().st_size > 200


@pytest.mark.parametrize("form", ["bug", "engine"])
def test_an_issue_form_asks_for_what_is_needed(form: str):
    body = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text("utf-8"))["body"]
    assert [part["id"] for part in body if part.get("validations", {}).get("required")]
