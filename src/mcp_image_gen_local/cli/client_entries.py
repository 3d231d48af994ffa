"""Entries of MCP servers in the files of clients, and which of them start the stranger's package. Pure."""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PureWindowsPath
from typing import Any

STRANGER = "mcp-image-gen"
RUNNERS = frozenset({"uvx", "uv", "pipx", "pip", "pip3", "npx", "npm", "pnpm", "pnpx", "yarn", "bun", "bunx"})
SOURCES = ("--from", "--spec", "--package")  #: name the package of the command that follows
BESIDE = ("--with", "--with-editable")  #: name a package to be installed too
TEXT = r'("(?:\\.|[^"\\])*(?:"|\Z))'  #: also without an end, or a long file of beginnings would take hours
#: a text, or what JSON does not have: comments; then commas before a closing bracket
COMMENTS = re.compile(TEXT + r"|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
LAST_COMMAS = re.compile(TEXT + r"|,(?=\s*[}\]])", re.DOTALL)
PROGRAM = ("command", "cmd", "path")  #: keys under which clients name it, beside `args`
YAML_COMMENT = re.compile(r"(?m)(?:^|\s)#.*$")
YAML_COMMAND = re.compile(r"(?m)^[ \t-]*(?:command|cmd):[ \t]*(.*)$")
YAML_ARGUMENTS = re.compile(r"(?m)^[ \t-]*args:[ \t]*(\[[^\]]*\]|(?:\r?\n[ \t]*-[ \t]+[^\n]*)+)")
YAML_SIGNS = re.compile(r"[\s,\"'\[\]]+|(?<!\S)-(?!\S)")


def parse(suffix: str, text: str) -> Any:
    """Return the values of a file; of YAML only the commands with their arguments.

    Raises:
        ValueError, RecursionError: it is no file of that kind.
    """
    if suffix == ".toml":
        return tomllib.loads(text)
    if suffix in (".yaml", ".yml"):
        return list(_yaml_commands(YAML_COMMENT.sub("", text)))
    without = COMMENTS.sub(lambda found: found[1] or " ", text)
    return json.loads(LAST_COMMAS.sub(lambda found: found[1] or "", without).strip() or "{}")


def _yaml_commands(text: str) -> Iterator[dict[str, Any]]:
    found = list(YAML_COMMAND.finditer(text))
    ends = [each.start() for each in found[1:]] + [len(text)]
    for command, end in zip(found, ends, strict=True):
        arguments = YAML_ARGUMENTS.search(text, command.end(), end)
        yield {"command": _yaml_words(command[1]), "args": _yaml_words(arguments[1]) if arguments else []}


def _yaml_words(text: str) -> list[str]:
    return [word for word in YAML_SIGNS.split(text) if word]


def runners_of_stranger(values: Any) -> list[str]:
    """Return the program, such as uvx, of each entry that starts the stranger's package."""
    return [runner for words in _commands(values) if (runner := runner_of_stranger(words))]


def _commands(values: Any) -> Iterator[list[str]]:
    """Yield the words of each command line, wherever it stands."""
    waiting = [values]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            parts = [text for key in (*PROGRAM, "args") for text in _texts(each.get(key))]
            yield [word for part in parts for word in part.split()]  # a shell has its command in one argument
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _texts(value: object) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [text for text in found if isinstance(text, str)]


def runner_of_stranger(words: Sequence[str]) -> str:
    """Return the program by which this command line starts or installs the stranger's package; empty if it does not."""
    words = [word.strip("\"'`;&|()") for word in words]
    at = next((place for place, word in enumerate(words) if _stem(word) in RUNNERS), None)
    if at is None:
        return ""
    rest = words[at + 1 :]
    sources, beside = _values(rest, SOURCES), _values(rest, BESIDE)
    runs_project = _stem(words[at]) == "uv" and "run" in rest and "tool" not in rest
    named = [*sources, *beside] if sources or runs_project else rest
    return _stem(words[at]) if any(map(_is_stranger, named)) else ""


def _values(words: Sequence[str], options: Sequence[str]) -> list[str]:
    after = [value for option, value in pairwise(words) if option in options]
    joined = [word.partition("=")[2] for word in words if word.partition("=")[0] in options and "=" in word]
    return after + joined


def _stem(program: str) -> str:
    return re.sub(r"\.(exe|cmd|bat)$", "", PureWindowsPath(program).name.lower())  # both kinds of slashes


def _is_stranger(requirement: str) -> bool:
    """Whether it is the bare name, with or without version and extras, in any of its spellings."""
    name = re.split(r"[@=<>~!\[;]", requirement.strip("\"'"), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name.lower()) == STRANGER
