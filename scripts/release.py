"""What keeps a tag from being released, and what changed: `python -m scripts.release v0.1.0`."""

import re
import sys

from mcp_image_gen_local import __version__
from scripts.links import ROOT, project
from scripts.server_json import FILE, text

NOTES = ROOT / "build" / "notes.md"
SECTION = re.compile(r"^## \[(?P<version>[^\]]+)\] - (?P<date>.+)$", re.MULTILINE)


def main(tag: str) -> int:
    """Print what is wrong, or write the notes; return the exit code."""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    problems = problems_of(tag, changelog)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    NOTES.parent.mkdir(exist_ok=True)
    NOTES.write_text(changes(changelog, __version__), "utf-8")
    return 0


def problems_of(tag: str, changelog: str) -> list[str]:
    """Return what keeps this tag from being released."""
    dates = {found["version"]: found["date"] for found in SECTION.finditer(changelog)}
    date = dates.get(__version__, "no section")
    checks = {
        f"The tag {tag} is not v{__version__}, the version of the package.": tag == f"v{__version__}",
        f"CHANGELOG.md gives no date for {__version__}: {date}.": bool(re.fullmatch(r"\d{4}-\d\d-\d\d", date)),
        "[project.urls] in pyproject.toml still names no owner.": "OWNER" not in str(project()["urls"]),
        "server.json is old: run `python3 scripts/dev.py tables`.": FILE.read_text("utf-8") == text(),
    }
    return [problem for problem, passed in checks.items() if not passed]


def changes(changelog: str, version: str) -> str:
    """Return the changelog's section of this version, without its heading."""
    for found in SECTION.finditer(changelog):
        if found["version"] == version:
            following = SECTION.search(changelog, found.end())
            return changelog[found.end() : following.start() if following else None].strip() + "\n"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
