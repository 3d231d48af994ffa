"""The documentation site: `python -m scripts.site` builds it into build/site; a broken link is an error."""

import posixpath
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.links import ROOT, at_repository, relinked

PAGES, SITE = ROOT / "build" / "pages", ROOT / "build" / "site"
#: Documents outside docs/ that are pages too.
MORE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}


def main() -> int:
    """Write the pages and build the site; return the exit code."""
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for document, page in places().items():
        text = (ROOT / document).read_text("utf-8")
        text = text.replace("<details>", '<details markdown="1">')  # there is Markdown inside; GitHub knows it unasked
        text = relinked(text, document, lambda path, image, page=page: link(path, image, page))
        (PAGES / page).write_text(text, "utf-8")
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(build, cwd=ROOT, check=False).returncode


def places() -> dict[str, str]:
    """Return document -> page: a path from the root, and one from the root of the site."""
    docs = ROOT / "docs"
    inside = {f"docs/{name}": name for name in (path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))}
    return inside | MORE


def link(path: str, image: bool, page: str) -> str:
    """Return what a page writes to link to a file of the project: another page, an image of it, or the repository."""
    copied = path.startswith("docs/") and Path(path).suffix not in ("", ".py")
    target = places().get(path) or (path.removeprefix("docs/") if copied else None)
    if target is None:
        return at_repository("main")(path, image)
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


if __name__ == "__main__":
    sys.exit(main())
