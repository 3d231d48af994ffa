"""The links of the documents, as they must read elsewhere: on the package's page and on the documentation site.

In the repository links are relative. Hatchling loads this file by its path when it builds the package, so that it
imports nothing of the project.
"""

import posixpath
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).resolve().parent.parent
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?P<start>!\[[^\]]*\]\(|\]\()(?P<target>[^)\s]+)(?=\))")
OUTSIDE = re.compile(r"[a-z]+:|#")


def project() -> dict[str, Any]:
    """Return the [project] table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def relinked(text: str, document: str, place: Callable[[str, bool], str]) -> str:
    """Return the text with each link into the project replaced; links to elsewhere, and code, stay.

    `document` is the text's path from the root. `place` gets a path from the root, and whether it is an image, and
    returns what to write; the anchor is put behind it.
    """

    def replace(found: re.Match[str]) -> str:
        start, target = found["start"], found["target"]
        if OUTSIDE.match(target):
            return found[0]
        path, mark, anchor = target.partition("#")
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(document), path))
        return start + place(whole, start.startswith("!")) + mark + anchor

    parts = CODE.split(text)
    parts[::2] = [LINK.sub(replace, part) for part in parts[::2]]
    return "".join(parts)


def at_repository(reference: str) -> Callable[[str, bool], str]:
    """Return a `place` for `relinked`: the file's address in the repository at this tag or branch."""
    repository = project()["urls"]["Repository"]
    return lambda path, image: f"{repository}/{'raw' if image else 'blob'}/{reference}/{path}"


def registry_name() -> str:
    """Return the server's name in the MCP registry: GitHub proves the owner, the rest is the package's."""
    about = project()
    owner = about["urls"]["Repository"].removeprefix("https://github.com/").split("/")[0]
    return f"io.github.{owner}/{about['name']}"


def package_page(version: str) -> str:
    """Return the README as the package index shows it; the MCP registry looks there for the server's name."""
    readme = (ROOT / "README.md").read_text("utf-8")
    page = relinked(readme, "README.md", at_repository(f"v{version}"))
    return f"{page.rstrip()}\n\n<!-- mcp-name: {registry_name()} -->\n"


class PackagePage(MetadataHookInterface):
    """Gives the package its README with links that work on the index."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the readme; hatchling calls this when it builds."""
        metadata["readme"] = {"content-type": "text/markdown", "text": package_page(metadata["version"])}
