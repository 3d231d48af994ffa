"""ComfyUI: the default engine."""

from typing import TYPE_CHECKING

from mcp_image_gen_local.domain.request import Feature
from mcp_image_gen_local.engine_kit.spec import EngineSpec
from mcp_image_gen_local.engines.comfyui.settings import ComfyUISettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_image_gen_local.domain.finding import Finding
    from mcp_image_gen_local.engines.comfyui.engine import ComfyUIEngine


def make(settings: ComfyUISettings) -> "ComfyUIEngine":
    """Return the engine, not yet connected."""
    from mcp_image_gen_local.engines.comfyui.engine import ComfyUIEngine  # HTTP and WebSocket: slow to import

    return ComfyUIEngine(settings)


async def probe(settings: ComfyUISettings) -> str | None:
    """Return ComfyUI's version and devices; None if nothing answers."""
    from mcp_image_gen_local.domain.errors import ImageGenError

    try:
        engine = make(settings)
    except ImageGenError:  # the certificates that it names cannot be read
        return None
    try:
        return await engine.check()
    except ImageGenError:
        return None
    finally:
        await engine.aclose()


async def diagnose(settings: ComfyUISettings, failure: Exception | None) -> "Sequence[Finding]":
    """Return what `doctor` tells beside the check: whether the WebSocket passes, or what answers instead."""
    from mcp_image_gen_local.engines.comfyui import diagnosis

    return await diagnosis.diagnose(settings, failure)


ENGINE = EngineSpec(
    name="comfyui",
    title="ComfyUI",
    settings=ComfyUISettings,
    make=make,
    features=frozenset(Feature),
    url_variable="COMFYUI_URL",
    probe=probe,
    diagnose=diagnose,
)
