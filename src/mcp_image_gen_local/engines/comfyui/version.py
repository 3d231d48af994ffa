"""Which ComfyUI is new enough."""

import re
import time

from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineStalled,
    EngineUnreachable,
    ImageGenError,
)
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient
from mcp_image_gen_local.engines.comfyui.replies import SystemStats

REMEMBERED_SECONDS = 300.0  #: for which a ComfyUI that is new enough, or does not tell, is not asked again

#: The first whose `/interrupt` looks at the prompt_id it is given (ComfyUI PR 9607); an older one stops whatever runs.
NEEDED = (0, 3, 57)


class Version:
    """Asks ComfyUI now and then which one it is."""

    def __init__(self, client: ComfyUIClient) -> None:
        self._client = client
        self._good_until = 0.0  #: on the monotonic clock

    async def fault(self) -> ImageGenError | None:
        """Return why this ComfyUI cannot be used; None if it is new enough, or does not tell its version."""
        if time.monotonic() < self._good_until:
            return None
        stats, answers = await self._ask()
        try:
            check_version(stats, self._client.url)
        except EngineAnswerUnusable as fault:
            return fault
        self._good_until = time.monotonic() + (REMEMBERED_SECONDS if answers else 0)
        return None

    async def _ask(self) -> tuple[SystemStats, bool]:
        """Return what ComfyUI tells of itself, and whether anything is there that answers."""
        try:
            return await self._client.system_stats(), True
        except ImageGenError as failure:  # a proxy may not pass the question; most are new enough
            return SystemStats(), isinstance(failure, EngineStalled) or not isinstance(failure, EngineUnreachable)


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
