"""Bringing a prompt into ComfyUI's queue once, and taking it out again."""

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineUnreachable,
    GenerationFailed,
    ImageGenError,
)
from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient, SubmitUncertain
from mcp_image_gen_local.engines.comfyui.prompt_reply import PromptReply
from mcp_image_gen_local.engines.comfyui.replies import queue_place
from mcp_image_gen_local.engines.comfyui.version import check_version

LOOKUP_DELAYS = (0.0, 0.1, 0.5)  #: when a submitted prompt's reply was lost
CANCEL_SECONDS = 2.0  #: an interrupt takes effect at the next step or node, which can take much longer
CANCEL_PAUSES = (0.05, 0.05, 0.05, 0.1, 0.25)  #: seconds from one look to the next; the last one stays
ABSENCES_TO_BELIEVE = 3


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What came of sending a prompt."""

    reply: PromptReply | None  #: ComfyUI's; None if it got lost: see `send`
    repeated: bool  #: it was sent twice, and the first may arrive yet


async def send(
    client: ComfyUIClient, graph: Mapping[str, Any], prompt_id: str, client_id: str, *, was_there: bool
) -> Sent:
    """Queue the graph; a prompt whose reply got lost is looked for before it is sent once more.

    Without a reply ComfyUI has the prompt; or, if it `was_there` just before, it went away meanwhile, and who follows
    the prompt finds out when it is back.

    Raises:
        GenerationFailed: no reply, and ComfyUI does not have the prompt.
        EngineUnreachable, EngineAnswerUnusable: ComfyUI does not answer, and was not there before.
    """
    try:
        return await _send(client, graph, prompt_id, client_id)
    except (EngineUnreachable, EngineAnswerUnusable):
        if not was_there:
            raise
        return Sent(reply=None, repeated=True)


async def _send(client: ComfyUIClient, graph: Mapping[str, Any], prompt_id: str, client_id: str) -> Sent:
    for repeated in (False, True):
        try:
            reply = await client.queue_prompt(graph, prompt_id=prompt_id, client_id=client_id)
            return Sent(reply=reply, repeated=repeated)
        except SubmitUncertain as error:
            if await _is_known(client, prompt_id):
                return Sent(reply=None, repeated=repeated)
            doubt = error
            if not doubt.cut:  # it may still be on its way
                break
    is_gone = await cancel_prompt(client, prompt_id)
    state = "It is not in its queue, so calling again is safe." if is_gone else "It may be generated all the same."
    raise GenerationFailed(
        f"ComfyUI did not take the job: {clean(doubt)}.", hint=f"{state} ComfyUI's log says more."
    ) from doubt


async def _is_known(client: ComfyUIClient, prompt_id: str) -> bool:
    for delay in LOOKUP_DELAYS:
        await asyncio.sleep(delay)
        if queue_place(await client.queue(), prompt_id) is not None:
            return True
        if await client.history(prompt_id):
            return True
    return False


async def cancel_prompt(client: ComfyUIClient, prompt_id: str) -> bool:
    """Delete the prompt while it waits, interrupt it while it runs; return True once ComfyUI has let go of it.

    Raises:
        EngineAnswerUnusable: it runs, and this ComfyUI is so old that it might interrupt another client's prompt.
    """
    deadline, absences, checked = time.monotonic() + CANCEL_SECONDS, 0, False
    pauses = itertools.chain(CANCEL_PAUSES, itertools.repeat(CANCEL_PAUSES[-1]))
    while time.monotonic() < deadline:
        place = queue_place(await client.queue(), prompt_id)
        if place is None:
            absences += 1
            if absences == ABSENCES_TO_BELIEVE:  # a POST /prompt that was cut off may still be on its way in
                return True
        elif place == 0:
            if not checked:
                await _check_version(client)
                checked = True
            await client.interrupt(prompt_id)
        else:
            await client.delete_pending(prompt_id)
        await asyncio.sleep(CANCEL_PAUSES[0] if absences else next(pauses))
    return False


async def _check_version(client: ComfyUIClient) -> None:
    try:
        stats = await client.system_stats()
    except ImageGenError:  # a proxy may not pass the question; most are new enough
        return
    check_version(stats, client.url)
