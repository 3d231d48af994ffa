"""What an engine module exports as `ENGINE`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.finding import Finding
from mcp_image_gen_local.domain.request import Feature

ENGINE_SETTINGS = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)


class EngineSettings(BaseSettings):
    """Base of an engine's settings: an empty variable counts as not set."""

    model_config = ENGINE_SETTINGS


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """An engine, as the registry knows it before anything heavy is imported."""

    name: str  #: as IMAGE_GEN_ENGINE spells it
    title: str  #: for messages, e.g. "ComfyUI"
    settings: type[EngineSettings]  #: its own environment variables; reference tables are derived from it
    make: Callable[[Any], Engine]  #: called with an instance of `settings`; contacts nothing
    features: frozenset[Feature]  #: what it supports with the right model
    url_variable: str = ""  #: variable that --url sets; empty: it has no address
    probe: Callable[[Any], Awaitable[str | None]] | None = None  #: version line if it answers; None: always there
    #: what `doctor` tells beside the engine's check; called with `settings` and the check's failure, if it had one
    diagnose: Callable[[Any, Exception | None], Awaitable[Sequence[Finding]]] | None = None
