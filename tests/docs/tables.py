"""The tables that are written from the code: `python -m tests.docs.tables` puts them into the documents again.

A table stands between `<!-- NAME:begin ... -->` and `<!-- NAME:end -->`; a test holds that it is up to date.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

from pydantic.fields import FieldInfo

from mcp_image_gen_local.engines.comfyui.families import CHECKPOINT, DIFFUSION_MODEL, FAMILIES, UNKNOWN, Family
from mcp_image_gen_local.settings import Settings, variable_names

ROOT = Path(__file__).resolve().parents[2]


def short_settings() -> str:
    """Variable, default, meaning."""
    rows = ([f"`{name}`", _default(info), _cell(info.description)] for name, info in _fields())
    return _table(("Variable", "Default", "Meaning"), rows)


def long_settings() -> str:
    """Variable, default, what it takes, example, meaning."""
    rows = (
        [f"`{name}`", _default(info), _takes(info), f"`{(info.examples or [''])[0]}`", _cell(info.description)]
        for name, info in _fields()
    )
    return _table(("Variable", "Default", "Takes", "Example", "Meaning"), rows)


def families() -> str:
    """What each family of models generates with."""
    rows = ([f"`{f.id}`", *_family(f)] for f in (*FAMILIES, UNKNOWN))
    return _table(
        ("Family", "Steps", "cfg", "Sampler, scheduler", "Size", "Multiple of", "Negative prompt", "Files"), rows
    )


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("README.md", "settings"): short_settings,
    ("docs/reference/settings.md", "settings"): long_settings,
    ("docs/reference/engines.md", "families"): families,
}


def placed(document: str, name: str, table: str) -> str:
    """Return the document with the table between its markers."""
    pattern = re.compile(rf"(<!-- {name}:begin[^>]*-->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    assert pattern.search(document), f"no markers for {name}"
    return pattern.sub(lambda found: f"{found[1]}{table}{found[2]}", document)


def _fields() -> Iterable[tuple[str, FieldInfo]]:
    return ((variable, Settings.model_fields[field]) for field, variable in variable_names().items())


def _default(info: FieldInfo) -> str:
    if info.default_factory:  # depends on the system; the example shows what it is on most
        return f"`{(info.examples or [''])[0]}`"
    if info.default in (None, {}, ()):
        return "not set"
    return f"`{str(info.default).lower()}`" if isinstance(info.default, bool) else f"`{info.default}`"


def _takes(info: FieldInfo) -> str:
    bounds = {k: getattr(m, k) for m in info.metadata for k in ("ge", "gt", "le") if hasattr(m, k)}
    words = {"ge": "from {:,}", "gt": "above {:,}", "le": "to {:,}"}
    numbers = " ".join(words[k].format(v) for k, v in bounds.items())
    choices = re.findall(r"'(\w+)'", str(info.annotation)) if "Literal" in str(info.annotation) else []
    kinds = {int: "a whole number", float: "a number", bool: "`true` or `false`"}
    kind = next((kinds[part] for part in (info.annotation, *get_args(info.annotation)) if part in kinds), "a text")
    return ", ".join(f"`{c}`" for c in choices) or f"{kind} {numbers}".strip()


def _family(family: Family) -> list[str]:
    kinds = {CHECKPOINT: "checkpoint", DIFFUSION_MODEL: "diffusion model with text encoders and VAE"}
    return [
        str(family.steps),
        f"{family.cfg:g}",
        f"{family.sampler}, {family.scheduler}",
        f"{family.width}x{family.height}",
        str(family.grid),
        "yes" if family.takes_negative else "no effect",
        "; ".join(kinds[role] for role in sorted(family.workflows)),
    ]


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _table(heads: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for (file, table_name), make in TABLES.items():
        path = ROOT / file
        path.write_text(placed(path.read_text("utf-8"), table_name, make()), "utf-8")
