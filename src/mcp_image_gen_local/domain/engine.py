"""The contract between the use case and an engine."""

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import Plan, Progress
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.domain.request import GenerationRequest


class Engine(Protocol):
    """Something that generates; made from the settings, and nothing is contacted before the first method is awaited.

    Every method raises `ImageGenError`s only. A job is known by one `prompt_id`, a uuid4 that the caller mints.
    """

    name: str  #: as IMAGE_GEN_ENGINE and the answer's "engine" spell it, e.g. "comfyui"
    url: str  #: where it answers, for people

    async def plan(self, request: GenerationRequest) -> Plan:
        """Resolve model and defaults, and refuse early what cannot be generated.

        Raises:
            EngineUnreachable, ModelNotFound, ModelIncomplete, NodeMissing, RequestNotSupported, InvalidRequest.
        """
        ...

    async def submit(self, plan: Plan, prompt_id: str) -> None:
        """Queue the plan under `prompt_id`, once: a lost reply is looked up, not sent again.

        Raises:
            EngineUnreachable, WorkflowRejected, ModelNotFound.
        """
        ...

    def follow(self, prompt_id: str) -> AsyncIterator[Progress]:
        """Yield what happens to the job; end when its images can be fetched.

        Raises:
            GenerationFailed, OutOfMemory, GenerationCancelled, GenerationLost, EngineUnreachable.
        """
        ...

    def fetch(self, prompt_id: str, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        """Yield the finished images but those whose index is in `skip`.

        What is wrong with one image is raised after all others were yielded.

        Raises:
            ImageGone, EngineUnreachable, GenerationFailed: it ended without an image.
        """
        ...

    async def recall(self, prompt_id: str) -> Plan | None:
        """Return what is known of a job that another process submitted; None if the engine does not know it.

        Raises:
            EngineUnreachable, EngineRefused, EngineAnswerUnusable.
        """
        ...

    async def cancel(self, prompt_id: str) -> bool:
        """Withdraw this job, and no other; return True once the engine no longer works on it.

        False means that the engine has not let go within the bound (it may be loading a model): call again. Whoever
        follows the job is told how it ended, which may also be with an image.
        """
        ...

    async def waiting(self) -> int:
        """Return how many jobs run or wait at the engine, those of its other clients too."""
        ...

    async def models(self) -> ModelCatalog:
        """Return what can be generated with."""
        ...

    async def check(self) -> str:
        """Return one line that says what answers: version and device.

        Raises:
            EngineUnreachable, EngineRefused, EngineAnswerUnusable.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; jobs at the engine go on."""
        ...
