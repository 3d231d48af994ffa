"""The models of an engine in a few kilobytes of JSON and a sentence or two, however many there are. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.domain.text import clean

MAX_BYTES = 6000  #: of the whole answer
MAX_NAME = 120  #: characters of one name
MAX_KINDS = 20  #: kinds of unsupported files that are counted on their own
MAX_PROBLEMS = 4  #: sentences about lists that cannot be read
FEW = 3  #: ready models that the sentence repeats, and parts that an incomplete one is said to lack
#: Names of files of each other role, and incomplete models that are listed; the first that leaves a third for models.
SHARES = ((3, 5), (0, 5), (0, 1))


def summary(catalog: ModelCatalog, engine: str) -> tuple[dict[str, Any], str]:
    """Return the JSON and the sentences: every ready model by name as far as they fit, the rest in numbers."""
    ready = [m for m in catalog.models if m.ready]
    for few, incomplete in SHARES:
        rest = _rest(catalog, few, incomplete)
        longest = " ".join(_sentences(catalog, ready, len(ready), rest))
        room = MAX_BYTES - _bytes(longest) - _bytes({"engine": engine, "models": [], **rest})
        if room >= MAX_BYTES // 3:
            break
    models, listed = _grouped(ready, room)
    facts = {"engine": engine, "models": models, **rest}
    return facts, " ".join(_sentences(catalog, ready, len(ready) - listed, rest))


def _rest(catalog: ModelCatalog, few: int, incomplete: int) -> dict[str, Any]:
    """Return what there is beside ready models, without what is empty."""
    facts = {
        "incomplete": [_incomplete(m) for m in catalog.models if m.missing][:incomplete],
        "unsupported": _kinds(catalog.models),
        "files": _files(catalog, few),
    }
    return {name: value for name, value in facts.items() if value}


def _incomplete(model: ModelInfo) -> dict[str, Any]:
    missing = [clean(part) for part in model.missing[:FEW]]
    return {"name": clean(model.name, MAX_NAME), "family": clean(model.family, MAX_NAME), "missing": missing}


def _kinds(models: Iterable[ModelInfo]) -> dict[str, int]:
    """Return how many files of each kind this version cannot generate with."""
    common = Counter(clean(m.kind, MAX_NAME) for m in models if m.kind).most_common()
    kinds = dict(common[:MAX_KINDS])
    rest = sum(count for _, count in common[MAX_KINDS:])
    return {**kinds, "other": rest} if rest else kinds


def _files(catalog: ModelCatalog, few: int) -> dict[str, Any]:
    """Return number and first names of the files of each role that holds no models."""
    of_models = {"checkpoint", "diffusion_model", *(m.role for m in catalog.models)}
    return {
        role: {"count": len(names), "names": [clean(name, MAX_NAME) for name in names[:few]]}
        for role, names in catalog.files.items()
        if names and role not in of_models
    }


def _grouped(ready: Iterable[ModelInfo], room: int) -> tuple[list[dict[str, Any]], int]:
    """Return the models that fit into `room` bytes, those with the same defaults together, and their number."""
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    listed = 0
    for model in ready:
        defaults = {"steps": model.steps, "cfg": model.cfg, "width": model.width, "height": model.height}
        head = {"family": clean(model.family, MAX_NAME), "names": [], **defaults}
        key, name = (model.family, *defaults.values()), clean(model.name, MAX_NAME)
        room -= _bytes(name) + 2 + (0 if key in groups else _bytes(head) + 2)
        if room < 0:
            break
        groups.setdefault(key, head)["names"].append(name)
        listed += 1
    return list(groups.values()), listed


def _sentences(catalog: ModelCatalog, ready: list[ModelInfo], left_out: int, rest: Mapping[str, Any]) -> Iterable[str]:
    names = [clean(m.name, MAX_NAME) for m in ready[:FEW]]
    if not ready:
        yield "No model is ready to generate."
    elif len(ready) <= FEW:
        yield f"Ready to generate: {', '.join(names)}."
    else:
        yield f"{len(ready)} models are ready, {names[0]} first. A part of a name works as model."
    first = catalog.models[0] if catalog.models else None
    if first and first.missing:
        yield f"{clean(first.family, MAX_NAME)} is not ready; missing: {clean('; '.join(first.missing))}."
    if told := ", ".join(_not_listed(catalog, left_out, rest)):
        yield f"Not listed: {told}; `mcp-image-gen models` lists all."
    yield from catalog.problems[:MAX_PROBLEMS]


def _not_listed(catalog: ModelCatalog, left_out: int, rest: Mapping[str, Any]) -> Iterable[str]:
    """Yield how many models and files are told as a number only."""
    counts = {
        "ready models": left_out,
        "incomplete": sum(1 for m in catalog.models if m.missing) - len(rest.get("incomplete", ())),
        "unsupported": sum(1 for m in catalog.models if m.kind),
        **{f"of role {role}": told["count"] - len(told["names"]) for role, told in rest.get("files", {}).items()},
    }
    return (f"{count} {what}" for what, count in counts.items() if count)


def _bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
