"""The tables that are written from the code: `python -m tests.docs.tables` puts them into the documents again.

A table stands between `<!-- NAME:begin ... -->` and `<!-- NAME:end -->`; a test holds that it is up to date.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_args

from cyclopts import Parameter
from pydantic.fields import FieldInfo

from mcp_image_gen_local.cli import commands
from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.request import GenerationRequest, Option, options_of
from mcp_image_gen_local.engine_kit.registry import all_variables
from mcp_image_gen_local.engines.comfyui.families import CHECKPOINT, DIFFUSION_MODEL, FAMILIES, UNKNOWN, Family
from mcp_image_gen_local.server.clients import profiles
from mcp_image_gen_local.server.tolerance_table import table

ROOT = Path(__file__).resolve().parents[2]


def settings() -> str:
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


def arguments() -> str:
    """The arguments of generate_image, from the fields of the request."""
    rows = (
        [f"`{name}`", _kind(field.type), _range(about), _default_of(field), _cell(about.about)]
        for name, field, about in _request_fields()
    )
    return _table(("Argument", "Kind", "Range", "Default", "Meaning"), rows)


def options() -> str:
    """The options of `mcp-image-gen generate`: the fields of the request, then its own."""
    rows = [[f"`--{name.replace('_', '-')}`", _cell(f"{about.about}.")] for name, _, about in _request_fields()]
    own = inspect.signature(commands.generate).parameters.values()
    rows += [
        [", ".join(f"`{name}`" for name in reversed(_names(each))), _cell(_parameter(each).help)]
        for each in own
        if each.name not in ("common", "arguments")
    ]
    return _table(("Option", "Meaning"), rows)


def _request_fields() -> Iterable[tuple[str, Field[Any], Option]]:
    return ((each.name, each, options_of(GenerationRequest)[each.name]) for each in fields(GenerationRequest))


def _kind(kind: Any) -> str:
    words = {int: "whole number", float: "number", str: "text", ImageRef: "path of an image file"}
    return next(words[part] for part in (kind, *get_args(kind)) if part in words)


def _range(about: Option) -> str:
    return f"{about.ge:g} to {int(about.le) if about.le == int(about.le) else about.le}" if about.le is not None else ""


def _default_of(field: Field[Any]) -> str:
    if field.default is MISSING:
        return "required"
    return "" if field.default in (None, "") else f"`{field.default}`"


def _parameter(parameter: inspect.Parameter) -> Parameter:
    return next(part for part in get_args(parameter.annotation) if isinstance(part, Parameter))


def _names(parameter: inspect.Parameter) -> list[str]:
    return list(_parameter(parameter).name or (f"--{parameter.name}",))


def synonyms() -> str:
    """Other names of arguments."""
    rows = ([f"`{name}`", _names_of(others)] for name, others in table()["synonyms"].items())
    return _table(("Argument", "Other names"), rows)


def wrappers() -> str:
    """Names of arguments that hold arguments."""
    return _names_of(table()["wrappers"]["names"]) + ".\n"


def values() -> str:
    """Words that mean "not given", and sizes by name."""
    words, sizes = table()["not_given"], table()["sizes"]
    rows = [
        ["any", _names_of(word or '""' for word in words["words"]), "not given"],
        ["`seed`", _names_of(words["seed"]), "random"],
        *(["`size`, `aspect_ratio`", f"`{name}`", value] for name, value in sizes.items()),
    ]
    return _table(("Argument", "Value", "Means"), rows)


def samplers() -> str:
    """Names of samplers and schedulers in other programs."""
    rows = (
        [kind, f"`{name}`" if name else "the model's default", _names_of(others)]
        for kind in ("sampler", "scheduler")
        for name, others in table()[f"{kind}s"].items()
        if others
    )
    return _table(("Argument", "ComfyUI", "Other names"), rows)


def absent() -> str:
    """Arguments of other programs that the tools do not have."""
    return _table(("Argument", "Advice"), ([f"`{name}`", why] for name, why in table()["absent"].items()))


def injected() -> str:
    """Arguments that clients add by themselves."""
    return _names_of(table()["injected"]["names"]) + ".\n"


def clients() -> str:
    """What each client gets."""
    rows = (
        [
            each.title,
            each.source,
            ", else ".join(kind.upper() for kind in each.formats) if each.image == "image" else "text only",
            "yes" if each.link else "no",
            f"{each.call_limit_seconds:g} s" if each.call_limit_seconds else "none found",
            "yes" if each.progress_extends else "no",
            f"{each.wait_seconds:g} s",
        ]
        for each in profiles().values()
    )
    heads = ("Client", "Source", "Inline image", "Link", "Its limit of a call", "Progress extends it", "A call waits")
    return _table(heads, rows)


def _names_of(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("docs/reference/settings.md", "settings"): settings,
    ("docs/reference/engines.md", "families"): families,
    ("docs/reference/tools.md", "arguments"): arguments,
    ("docs/reference/cli.md", "options"): options,
    ("docs/how-to/clients.md", "clients"): clients,
    **{
        ("docs/reference/arguments.md", make.__name__): make
        for make in (synonyms, wrappers, values, samplers, absent, injected)
    },
}


def placed(document: str, name: str, table: str) -> str:
    """Return the document with the table between its markers."""
    pattern = re.compile(rf"(<!-- {name}:begin[^>]*-->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    assert pattern.search(document), f"no markers for {name}"
    return pattern.sub(lambda found: f"{found[1]}{table}{found[2]}", document)


def _fields() -> Iterable[tuple[str, FieldInfo]]:
    return ((variable, info) for variable, (_, _, info) in all_variables().items())


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
