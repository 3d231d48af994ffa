"""Which model a request means. Pure."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mcp_image_gen_local.domain.errors import ModelIncomplete, ModelNotFound, RequestNotSupported
from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.domain.text import MAX_NAME, clean
from mcp_image_gen_local.engines.comfyui import names
from mcp_image_gen_local.engines.comfyui.families import CHECKPOINT, FAMILIES, FLUX_SCHNELL, UNKNOWN, Family, by_id
from mcp_image_gen_local.engines.comfyui.installed import (
    LOADERS,
    MODEL_ROLES,
    PLANNING_ROLES,
    Inventory,
    ResolvedModel,
    choices,
    only_models,
)
from mcp_image_gen_local.engines.comfyui.recognition import foreign_of

__all__ = ["LOADERS", "MODEL_ROLES", "PLANNING_ROLES", "Inventory", "ResolvedModel", "catalog", "choices", "resolve"]

MAX_NAMED = 8  #: candidates that an error lists
MAX_COMPARED = 1000  #: names that a misspelt one is compared with
DEFAULT_NAMES = ("", "default", "auto")  #: what stands for no name


def resolve(name: str | None, inventory: Inventory) -> ResolvedModel:
    """Return the model that `name` means: a family, a file name however it is spelled, or a part of one.

    None means flux1-schnell, or else the best model that is ready.

    Raises:
        ModelNotFound: nothing fits, or several do; the error names the nearest, or those.
        ModelIncomplete: found, but a file that it needs is not installed.
        RequestNotSupported: found, but this version cannot generate with it.
    """
    known = choices(inventory)
    wanted = names.bare(name or "")
    if wanted.lower() in DEFAULT_NAMES:
        return _default(known)
    family = by_id(wanted)
    found = None if family else _by_spelling(wanted, known)
    found = found or _by_family(wanted, [family] if family else _families_called(wanted), known)
    found = found or _by_part(wanted, known)
    if found is None:
        raise _not_found(wanted, known)
    return _usable(found, known)


def _default(known: list[ResolvedModel]) -> ResolvedModel:
    if not known or known[0].foreign:
        raise _nothing_ready(known)
    first = _usable(known[0], known)
    return _said_if_variant(first) if first.is_doubtful else first


def _nothing_ready(known: list[ResolvedModel]) -> ModelNotFound:
    kinds = Counter(choice.foreign.kind for choice in known if choice.foreign)
    there = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(MAX_NAMED))
    reason = f" Nothing that is installed can generate with this version: {there}." if there else ""
    return ModelNotFound(
        f"ComfyUI has no model {FLUX_SCHNELL.id!r}.{reason}", hint=_what_else(FLUX_SCHNELL, FLUX_SCHNELL.id, known)
    )


def _by_spelling(wanted: str, known: list[ResolvedModel]) -> ResolvedModel | None:
    """Return the file of that name: as it is listed, or without case, folder, extension or signs."""
    path = names.normal(wanted)
    spellings: tuple[Callable[[str], bool], ...] = (
        lambda file: file == wanted,
        lambda file: names.normal(file) == path,
        lambda file: names.stem(names.normal(file)) == path,
        lambda file: path.endswith(f"/{names.normal(file)}"),  # a path of the file system
        lambda file: names.base(file) == path,
        lambda file: names.stem(names.base(file)) == path,
        lambda file: names.squash(names.stem(file)) == names.squash(names.stem(path)),
        lambda file: names.squash(names.stem(names.base(file))) == names.squash(names.stem(path)),
    )
    for fits in spellings:
        if found := [choice for choice in known if fits(choice.file)]:
            return _only(wanted, found)
    return None


def _families_called(wanted: str) -> list[Family]:
    """Return the families that people call so; a name with an extension is of a file."""
    if names.stem(wanted) != wanted:
        return []
    own = names.words(names.base(wanted))  # "stabilityai/sdxl" names a repository
    return [family for family in FAMILIES if family.alias.fullmatch(own)]


def _by_family(wanted: str, families: list[Family], known: list[ResolvedModel]) -> ResolvedModel | None:
    """Return the best file of the family; of several families the only one that is installed."""
    best = (min(_of(family, known), key=_by_rank, default=None) for family in families)
    found = [choice for choice in best if choice]
    usable = [choice for choice in found if choice.ready] or found[:1]
    if not usable:
        if families:
            raise _not_found(wanted, known, families[0])
        return None
    if len(usable) > 1:
        raise _ambiguous(wanted, usable)
    family = usable[0].family
    said = () if by_id(names.base(wanted)) else (f"model={_shown(wanted)} is {family.id}.",)
    return _said_if_variant(replace(usable[0], notes=said))


def _of(family: Family, known: Iterable[ResolvedModel]) -> Iterable[ResolvedModel]:
    return (choice for choice in known if choice.family is family)


def _by_rank(choice: ResolvedModel) -> tuple[object, ...]:
    return (choice.foreign is not None, bool(choice.missing), choice.rank)


def _by_part(wanted: str, known: list[ResolvedModel]) -> ResolvedModel | None:
    """Return the only file whose name contains what was asked for, in one piece or word by word."""
    whole, words = names.squash(names.stem(wanted)), names.words(names.base(wanted)).split("-")
    if len(whole) < 2:
        return None
    found = [c for c in known if whole in names.squash(c.file)]
    found = found or [c for c in known if all(word in _told_by(c) for word in words)]
    if not found:
        return None
    choice = _only(wanted, found)
    return replace(choice, notes=(f"model={_shown(wanted)} was taken as {clean(choice.file, MAX_NAME)}.",))


def _told_by(choice: ResolvedModel) -> str:
    """Return what the words of a request may be part of."""
    kind = choice.foreign.kind if choice.foreign else ""
    return " ".join(map(names.squash, (choice.file, choice.family.id, choice.variant, kind)))


def _only(wanted: str, found: Sequence[ResolvedModel]) -> ResolvedModel:
    """Return the one file that was meant: what can generate goes before what cannot.

    One name in both roles, or with two extensions, counts as one file.
    """
    usable = [c for c in found if c.ready] or [c for c in found if c.foreign is None] or found[:1]
    if len({names.stem(choice.file) for choice in usable}) > 1:
        raise _ambiguous(wanted, usable)
    return next((c for c in usable if c.file.endswith(".safetensors")), usable[0])


def _said_if_variant(choice: ResolvedModel) -> ResolvedModel:
    if not choice.variant:
        return choice
    note = (
        f"Of {choice.family.id} only a variant is ready, so {clean(choice.file, MAX_NAME)} ({choice.variant}) was used."
    )
    return replace(choice, notes=(*choice.notes, note))


def _usable(choice: ResolvedModel, known: list[ResolvedModel]) -> ResolvedModel:
    file = clean(choice.file, MAX_NAME)
    if choice.foreign:
        raise RequestNotSupported(
            f"The model {file!r} cannot generate: {choice.foreign.reason}.", hint=_what_else(choice.family, file, known)
        )
    if choice.missing:
        raise ModelIncomplete(
            f"The model {file!r} cannot generate yet. Missing: {'; '.join(choice.missing)}.",
            hint="Put the files into ComfyUI's folders, then call again.",
        )
    return choice


def _ambiguous(wanted: str, found: Sequence[ResolvedModel]) -> ModelNotFound:
    files = list(dict.fromkeys(clean(choice.file, MAX_NAME) for choice in found))
    more = f", and {len(files) - MAX_NAMED} more" if len(files) > MAX_NAMED else ""
    return ModelNotFound(
        f"model={_shown(wanted)} fits {len(files)} models.", hint=f"Name one: {', '.join(files[:MAX_NAMED])}{more}."
    )


def _not_found(wanted: str, known: list[ResolvedModel], family: Family | None = None) -> ModelNotFound:
    family = family or by_id(wanted)
    foreign = None if family else foreign_of(wanted)
    reason = f" {foreign.reason[0].upper()}{foreign.reason[1:]}." if foreign else ""
    return ModelNotFound(
        f"ComfyUI has no model {_shown(wanted)}.{reason}", hint=_what_else(family or UNKNOWN, wanted, known)
    )


def _what_else(family: Family, wanted: str, known: list[ResolvedModel]) -> str:
    """Return what to do instead: download the family, or take one of those that are ready, nearest name first."""
    download = f"Download {family.download}. " if family.download else ""
    files = [clean(choice.file, MAX_NAME) for choice in known if choice.ready]
    if not files:
        return download or f"Download {FLUX_SCHNELL.download}."
    near = _nearest(wanted, files)
    return f"{download}Installed: {', '.join(near)}. Call list_available_models for all."


def _nearest(wanted: str, files: list[str]) -> list[str]:
    by_lower = {file.lower(): file for file in files[:MAX_COMPARED]}
    close = difflib.get_close_matches(wanted.lower()[:MAX_NAME], by_lower, n=5, cutoff=0.3)
    near = [file for file in files if file.lower() in close]
    return list(dict.fromkeys((*near, *files)))[:5]


def _shown(name: str) -> str:
    return repr(clean(name, MAX_NAME))


def catalog(inventory: Inventory) -> ModelCatalog:
    """Return all models with their defaults; what flux1-schnell lacks stands first, if it is not ready."""
    known = choices(inventory)
    models = [_info(choice) for choice in _lacking_default(known)]
    models += [info for choice in known if (info := _info(choice)) not in models]
    return ModelCatalog(models=tuple(models), files=dict(only_models(inventory)))


def _lacking_default(known: Iterable[ResolvedModel]) -> list[ResolvedModel]:
    """Return flux1-schnell as it can be made ready; nothing if it is ready."""
    found = [choice for choice in known if choice.family is FLUX_SCHNELL and choice.foreign is None]
    if any(choice.ready for choice in found):
        return []
    absent = ResolvedModel(file=FLUX_SCHNELL.id, role=CHECKPOINT, family=FLUX_SCHNELL, missing=(FLUX_SCHNELL.download,))
    return found[:1] or [absent]


def _info(choice: ResolvedModel) -> ModelInfo:
    defaults, foreign = choice.defaults, choice.foreign
    return ModelInfo(
        name=choice.file,
        role=choice.role,
        family=foreign.kind if foreign and choice.family is UNKNOWN else defaults.id,
        ready=choice.ready,
        missing=choice.missing,
        kind=foreign.kind if foreign else "",
        unsupported=f"{foreign.reason[0].upper()}{foreign.reason[1:]}." if foreign else "",
        steps=defaults.steps,
        cfg=defaults.cfg,
        width=defaults.width,
        height=defaults.height,
    )
