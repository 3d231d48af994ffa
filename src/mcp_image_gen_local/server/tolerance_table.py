"""The table of names and values that a call may use instead of the arguments that the tools list. Data."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def table() -> dict[str, Any]:
    """Return `tolerance.toml`."""
    return tomllib.loads(files(__package__).joinpath("tolerance.toml").read_text("utf-8"))


@cache
def synonyms() -> dict[str, frozenset[str]]:
    """Return argument -> its other names, in short form."""
    return {name: frozenset(map(short, others)) for name, others in table()["synonyms"].items()}


@cache
def absent() -> dict[str, str]:
    """Return name in short form -> advice, for arguments of other programs that this version does not have."""
    return {short(name): advice for name, advice in table()["absent"].items()}


@cache
def wrappers() -> frozenset[str]:
    """Return the names of arguments that hold arguments, in short form."""
    return frozenset(map(short, table()["wrappers"]["names"]))


@cache
def spellings(section: str) -> dict[str, str]:
    """Return every spelling of a sampler or scheduler, in short form -> ComfyUI's name."""
    return {short(each): name for name, others in table()[section].items() for each in (name, *others)}


def short(name: str) -> str:
    """Return the form in which names are compared: letters and digits, in lower case; "++" counts as "pp"."""
    return re.sub(r"[\W_]", "", name[:300].lower().replace("++", "pp"))
