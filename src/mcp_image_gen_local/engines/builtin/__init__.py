"""A small model that generates emoji-style icons on any CPU: to try the server, and to test it end to end."""

from mcp_image_gen_local.domain.engine import Engine
from mcp_image_gen_local.domain.request import Feature
from mcp_image_gen_local.engine_kit.spec import EngineSettings, EngineSpec


class BuiltinSettings(EngineSettings):
    """Nothing can be set."""


def make(_: BuiltinSettings) -> Engine:
    """Return the engine; the network is loaded when something is generated."""
    from mcp_image_gen_local.engine_kit.queued import QueuedEngine
    from mcp_image_gen_local.engines.builtin.engine import BuiltinBackend

    return QueuedEngine(BuiltinBackend())


ENGINE = EngineSpec(
    name="builtin",
    title="the built-in model",
    settings=BuiltinSettings,
    make=make,
    features=frozenset({Feature.NEGATIVE_PROMPT, Feature.STEPS, Feature.CFG, Feature.INIT_IMAGE}),
)
