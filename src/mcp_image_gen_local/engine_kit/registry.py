"""The engines by name: modules of `engines/`, and what other packages register as entry points."""

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from mcp_image_gen_local.domain.errors import SettingsInvalid
from mcp_image_gen_local.domain.request import Feature
from mcp_image_gen_local.engine_kit.spec import EngineSpec
from mcp_image_gen_local.settings import Settings

PACKAGE = "mcp_image_gen_local.engines"
ENTRY_POINTS = "mcp_image_gen_local.engines"  #: group in which other packages register an EngineSpec by name


def engine_names() -> list[str]:
    """Return the names that IMAGE_GEN_ENGINE takes; modules that begin with "_" are helpers."""
    package = importlib.import_module(PACKAGE)
    own = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
    return sorted(own | {point.name for point in entry_points(group=ENTRY_POINTS)})


def find_engine(name: str) -> EngineSpec:
    """Return the engine of that name.

    Raises:
        SettingsInvalid: there is none.
    """
    if not is_engine(name):
        raise SettingsInvalid(
            f"IMAGE_GEN_ENGINE={name!r} is not an engine.", hint=f"Use one of: {', '.join(engine_names())}."
        )
    return _load(name)


def is_engine(name: str) -> bool:
    """Return True for a name that `find_engine` finds."""
    return _is_own(name) or name in engine_names()


def _is_own(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and bool(find_spec(f"{PACKAGE}.{name}"))


@cache
def _load(name: str) -> EngineSpec:
    if _is_own(name):  # before the metadata of all installed packages are read
        found = importlib.import_module(f"{PACKAGE}.{name}").ENGINE
    else:
        found = next(point for point in entry_points(group=ENTRY_POINTS) if point.name == name).load()
    if not isinstance(found, EngineSpec):
        raise SettingsInvalid(
            f"The engine {name!r} does not export an EngineSpec.", hint="Update the package that provides it."
        )
    return found


def supporters(feature: Feature, *, other_than: str = "") -> list[str]:
    """Return the names of the engines that support the feature with the right model."""
    return [name for name in engine_names() if name != other_than and feature in _load(name).features]


def all_variables() -> dict[str, tuple[type[BaseSettings], str, FieldInfo]]:
    """Return environment variable -> (settings class, field name, field), of the server and of every engine."""
    classes: list[type[BaseSettings]] = [Settings, *(_load(name).settings for name in engine_names())]
    return {
        str(info.validation_alias): (kind, name, info) for kind in classes for name, info in kind.model_fields.items()
    }
