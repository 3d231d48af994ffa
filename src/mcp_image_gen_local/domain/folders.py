"""Folders as people and clients write them: with quotes, blanks and variables. Pure."""

import re
from collections.abc import Mapping

#: ${NAME}, ${env:NAME} of editors, $NAME, %NAME%
VARIABLE = re.compile(r"\$\{(?:env:)?([^{}]*)\}|\$([A-Za-z_]\w*)|%([A-Za-z_]\w*)%")
AROUND = " \t\r\n\"'"


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Return the text without quotes and blanks around it, variables filled in; an unknown or empty one stays."""

    def fill(found: re.Match[str]) -> str:
        return variables.get(_name(found)) or found[0]

    return VARIABLE.sub(fill, text.strip(AROUND)).strip(AROUND)


def unset_variable(text: str) -> str | None:
    """Return the first variable that still stands in the text, as it is written there."""
    found = VARIABLE.search(text)
    return found[0] if found else None


def _name(found: re.Match[str]) -> str:
    return next((name for name in found.groups() if name), "")
