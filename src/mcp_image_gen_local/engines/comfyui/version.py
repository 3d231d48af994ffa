"""Which ComfyUI is new enough."""

import re

from mcp_image_gen_local.domain.errors import EngineAnswerUnusable
from mcp_image_gen_local.engines.comfyui.replies import SystemStats

#: The first whose `/interrupt` looks at the prompt_id it is given (ComfyUI PR 9607); an older one stops whatever runs.
NEEDED = (0, 3, 57)


def check_version(stats: SystemStats, url: str) -> None:
    """Let a ComfyUI pass that is new enough, or that does not tell its version.

    Raises:
        EngineAnswerUnusable: it is too old.
    """
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", stats.version)
    if numbers and tuple(map(int, numbers.groups())) < NEEDED:
        raise too_old(url, f"it is version {stats.version}, which cannot interrupt one job alone")


def too_old(url: str, reason: str) -> EngineAnswerUnusable:
    """Return the error for a ComfyUI that lacks what we need."""
    needed = ".".join(map(str, NEEDED))
    return EngineAnswerUnusable(
        f"The ComfyUI at {url} is too old: {reason}.", hint=f"Update ComfyUI to {needed} or newer."
    )
