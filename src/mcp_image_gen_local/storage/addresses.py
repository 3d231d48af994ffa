"""What an agent may write to name an image: a path in many dresses, or what this server has handed out. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

MAX_WRAPS = 4  #: of quotes around quotes
QUOTES = {'"': '"', "'": "'", "`": "`", "<": ">", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
MARKDOWN = re.compile(r"!?\[[^\]]*\]\((.+)\)", re.DOTALL)
UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
BARE_JOB = re.compile(rf"(?:prompt_id\s*[=:]\s*)?[\"'`]?({UUID})[\"'`]?(?:[/#](\d{{1,4}}))?", re.IGNORECASE)
JOB = re.compile(r"(?:image|job):/{0,3}([A-Za-z0-9_-]{1,64})(?:/(\d{1,4}))?/?", re.IGNORECASE)
FILE = re.compile(r"file:(?://(?:localhost|127\.0\.0\.1)?(?=/|[A-Za-z]:))?(.*)", re.IGNORECASE | re.DOTALL)
DRIVE = re.compile(r"/+([A-Za-z]:[/\\].*)", re.DOTALL)
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
NEWEST = frozenset({"last", "latest", "newest"})
#: How the base64 of a PNG, JPEG, GIF and WebP begins; a path of that length and beginning is none.
BASE64 = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/=\s]{200}")


@dataclass(frozen=True)
class FilePath:
    """A file; the spellings are tried in turn."""

    spellings: tuple[str, ...]


@dataclass(frozen=True)
class JobImage:
    """An image of a job."""

    job_id: str
    index: int = 0


@dataclass(frozen=True)
class NewestImage:
    """The image that was saved last."""


@dataclass(frozen=True)
class Elsewhere:
    """Something that is no file of this machine."""

    kind: str  #: with its article, e.g. "a web address"


Address = FilePath | JobImage | NewestImage | Elsewhere


def read_address(name: str) -> Address:
    """Return what the text names; whatever is nothing else is a path."""
    text = unwrapped(name)
    if text.lower() in NEWEST:
        return NewestImage()
    if found := BARE_JOB.fullmatch(text) or JOB.fullmatch(text):
        return JobImage(found[1], int(found[2] or 0))
    if text[:5].lower() == "data:" or BASE64.match(text):
        return Elsewhere("the data of an image")
    if text[:5].lower() == "file:":
        return _of_uri(text)
    if found := SCHEME.match(text):
        is_web = found[1].lower() in ("http", "https", "ftp")
        return Elsewhere("a web address" if is_web else f"an address that begins {found[0][:20]}")
    return _path(text)


def unwrapped(text: str) -> str:
    """Return the text without the blanks, line ends, quotes and Markdown around it."""
    for _ in range(MAX_WRAPS):
        text = text.strip().strip("\ufeff\u200b")
        if found := MARKDOWN.fullmatch(text):
            text = found[1]
        elif len(text) > 1 and QUOTES.get(text[0]) == text[-1]:
            text = text[1:-1]
        else:
            break
    return text


def _of_uri(text: str) -> Address:
    found = FILE.fullmatch(text)
    path = unquote(found[1], errors="surrogateescape") if found else ""
    if not path or path.startswith("//"):  # file://server/share, say
        return Elsewhere("a file of another machine")
    drive = DRIVE.fullmatch(path)
    return _path(drive[1] if drive else path)


def _path(text: str) -> FilePath:
    """Return the path, and after it the path without the punctuation of a sentence."""
    shorter = text.rstrip(".,;:!")
    return FilePath((text, shorter) if shorter not in ("", text) else (text,))
