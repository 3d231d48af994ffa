"""ComfyUI, the default engine: client and socket (I/O), events, graph, models and failures (pure), families (data)."""

from mcp_image_gen_local.engines.comfyui.engine import ComfyUIEngine

ENGINE = ComfyUIEngine
