"""Watching one prompt: the socket for speed, history and queue for certainty.

Neither alone is safe. The socket can be deaf while it looks open; the history is empty before, during, and after a
restart alike. So: events drive progress and the quick end, and whenever they are silent for a while, a poll decides.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineStalled,
    EngineUnreachable,
    GenerationFailed,
    GenerationLost,
)
from mcp_image_gen_local.domain.job import JobStatus, Progress
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient
from mcp_image_gen_local.engines.comfyui.events import (
    Cached,
    Dequeued,
    Disconnected,
    Ended,
    Event,
    NodeOutput,
    NodeRunning,
    Preview,
    QueueChanged,
    Started,
    Step,
)
from mcp_image_gen_local.engines.comfyui.failures import failure_of
from mcp_image_gen_local.engines.comfyui.graph import SAMPLERS
from mcp_image_gen_local.engines.comfyui.replies import Outcome, pick_images, queue_place
from mcp_image_gen_local.engines.comfyui.socket import Inbox

POLL_SECONDS = 1.0  #: silence after which history and queue are asked
RECHECK_SECONDS = 0.2  #: until a prompt that seems absent is asked for again
UNREACHABLE_SECONDS = 600.0  #: how long ComfyUI may be away before the job is given up; a restart can take minutes
STALLED_SECONDS = 120.0  #: how long it may take connections without an answer: reading a large model can block it
HISTORY_DELAYS = (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  #: the history can lag behind execution_success

#: Nodes that are done before anybody could read of them.
QUICK = frozenset({"EmptySD3LatentImage", "EmptyLatentImage", "FluxGuidance", "SaveImage"})
PHASES = {
    "CheckpointLoaderSimple": "loading the model",
    "UNETLoader": "loading the model",
    "DualCLIPLoader": "loading the text encoders",
    "VAELoader": "loading the VAE",
    "CLIPTextEncode": "reading the prompt",
    "VAEDecode": "decoding",
}
AWAY = "ComfyUI does not answer, waiting for it"
WORKING = Progress(status=JobStatus.RUNNING, phase="working")


class Follower:
    """Follows one prompt to its end; `outcome` is set when `events` ends by itself."""

    def __init__(self, client: ComfyUIClient, inbox: Inbox, prompt_id: str, graph: Mapping[str, Any]) -> None:
        self._client = client
        self._inbox = inbox
        self._prompt_id = prompt_id
        self._classes = {node_id: str(node.get("class_type")) for node_id, node in graph.items()}
        self._outputs: dict[str, Any] = {}
        self._cached: frozenset[str] = frozenset()
        self._sampled: dict[str, tuple[int, int]] = {}  #: sampler -> steps done, steps in all
        self._absences = 0
        self._was_away = False  #: since the prompt was last seen
        self._has_run = False  #: a prompt that runs cannot be taken from the queue
        self._silent_since: float | None = None
        self._is_stalled = False
        self._newest: Progress | None = None
        self.outcome: Outcome | None = None

    async def events(self) -> AsyncIterator[Progress]:
        """Yield progress until there are images: all of them, or those that were finished before the prompt failed.

        Raises:
            GenerationFailed, OutOfMemory, GenerationCancelled, GenerationLost, EngineUnreachable.
        """
        while self.outcome is None:
            event = await self._next_event()
            progress = await self._poll() if event is None or isinstance(event, QueueChanged) else self._note(event)
            if isinstance(event, Ended):
                self.outcome = await self._confirm(event)
            elif isinstance(event, Dequeued):
                self.outcome = Outcome(kind="interrupted")
            if progress:
                self._newest = progress
                yield progress
        failure = failure_of(self.outcome)
        if failure and not pick_images(self.outcome.outputs):
            raise failure

    async def _next_event(self) -> Event | None:
        wait = RECHECK_SECONDS if self._absences else POLL_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                return await self._inbox.get()
        return None

    def _note(self, event: Event) -> Progress | None:
        if not isinstance(event, Disconnected):
            self._silent_since = None
        self._has_run = self._has_run or isinstance(event, Started | NodeRunning | Step)
        match event:
            case Started():
                return Progress(status=JobStatus.RUNNING, phase="loading the model")
            case Cached(node_ids):
                self._cached = node_ids
            case NodeRunning(node_id) if self._classes.get(node_id) not in QUICK:
                return Progress(status=JobStatus.RUNNING, phase=self._phase(node_id))
            case Step(node_id, value, maximum) if self._classes.get(node_id, "KSampler") in SAMPLERS:
                return self._step(node_id, value, maximum)
            case Preview(image):
                newest = self._newest or Progress(status=JobStatus.RUNNING, phase="generating")
                return replace(newest, status=JobStatus.RUNNING, queue_position=None, preview=image)
            case NodeOutput(node_id, output):
                self._outputs[node_id] = output
            case Disconnected(was_open):
                self._was_away = self._was_away or was_open
                self._absences = 1  # ask at once: ComfyUI may have ended
        return None

    def _step(self, node_id: str, value: int, maximum: int) -> Progress:
        """Count the steps of all samplers that run: each image of a batch has one of its own."""
        self._sampled[node_id] = (value, maximum)
        samplers = {n for n, class_type in self._classes.items() if class_type in SAMPLERS} - self._cached | {node_id}
        steps = sum(self._sampled.get(n, (0, maximum))[1] for n in samplers)
        step = sum(done for done, _ in self._sampled.values())
        return Progress(status=JobStatus.RUNNING, phase="generating", step=step, steps=steps)

    def _phase(self, node_id: str) -> str:
        class_type = self._classes.get(node_id, "")
        return "generating" if class_type in SAMPLERS else PHASES.get(class_type, "working")

    async def _confirm(self, event: Ended) -> Outcome | None:
        """Return the outcome that the event announces, with its outputs; None if polling must find it."""
        if event.kind == "error":
            return Outcome(kind="error", outputs=self._outputs, error=event.detail)
        if event.kind == "interrupted":
            return Outcome(kind="interrupted", outputs=self._outputs)
        if pick_images(self._outputs):
            return Outcome(kind="success", outputs=self._outputs)
        for delay in HISTORY_DELAYS:
            await asyncio.sleep(delay)
            try:
                entry = await self._client.history(self._prompt_id)
            except (EngineUnreachable, EngineAnswerUnusable):
                return None
            if entry:
                return entry.outcome
        raise GenerationFailed(
            "ComfyUI says that the image is finished, but neither names it nor keeps a history of it.",
            hint="Look into ComfyUI's output folder, below mcp-image-gen.",
        )

    async def _poll(self) -> Progress | None:
        try:
            place = queue_place(await self._client.queue(), self._prompt_id)
            entry = None if place is not None else await self._client.history(self._prompt_id)
        except (EngineUnreachable, EngineAnswerUnusable) as error:
            return self._unavailable(error)  # a proxy before a ComfyUI that is starting answers, but not usably
        self._silent_since = None
        if entry:
            self.outcome = entry.outcome
            return None
        if place is None:
            self._count_absence()
            return None
        self._absences, self._was_away = 0, False
        if place:
            return Progress(status=JobStatus.QUEUED, phase="waiting in the queue", queue_position=place)
        self._has_run, known = True, self._newest
        return None if known and known.status is JobStatus.RUNNING and known.phase != AWAY else WORKING

    def _unavailable(self, error: EngineUnreachable | EngineAnswerUnusable) -> Progress:
        now, is_stalled = time.monotonic(), isinstance(error, EngineStalled)
        if self._silent_since is None or is_stalled is not self._is_stalled:
            self._silent_since, self._is_stalled = now, is_stalled
        if now - self._silent_since > (STALLED_SECONDS if is_stalled else UNREACHABLE_SECONDS):
            raise error
        self._was_away, self._absences = self._was_away or not is_stalled, 0
        return Progress(status=JobStatus.RUNNING, phase=AWAY)

    def _count_absence(self) -> None:
        """Count an absence; two in a row, with a pause between, mean that ComfyUI forgot the prompt."""
        self._absences += 1
        if self._absences <= 2:
            return
        was_removed = not (self._was_away or self._has_run)
        reason = "its queue was cleared, or ComfyUI was restarted" if was_removed else "ComfyUI was restarted"
        raise GenerationLost(
            f"ComfyUI no longer knows the job {self._prompt_id}: {reason}.",
            hint="Call generate_image again.",
            was_removed=was_removed,
        )
