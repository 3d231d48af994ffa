"""The documents, as a test reads them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
FOLDERS = ("docs", "examples", "src", "training", "packaging", ".github")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def all_documents() -> list[Path]:
    """Return every Markdown file of the project."""
    return sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])


def sections(text: str) -> dict[str, str]:
    """Return heading -> what stands below it, up to the next heading of any level; code blocks hold no headings."""
    parts = re.split(r"^#{1,6} (.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def sections_with_code(text: str) -> dict[str, str]:
    """Return heading -> what stands below it, code blocks included; a line of code that begins with # ends none."""
    marked = FENCE.sub(lambda block: block[0].replace("\n#", "\n\0#"), text)
    parts = re.split(r"^#{1,6} (.+)$", marked, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.replace("\0", "") for part in parts[2::2]), strict=True))


def table(text: str, head: str) -> str:
    """Return the rows of the first table whose head begins so; nothing if there is none."""
    _, _, rest = text.partition(f"| {head} |")
    return rest.partition("\n\n")[0]


def named(text: str) -> list[str]:
    """Return what stands in backticks in the first cells of the tables, in order."""
    cells = re.findall(r"^\| ([^|]*) \|", text, flags=re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [body for found, body in FENCE.findall(text) if found == language]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
