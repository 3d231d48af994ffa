"""The contract between the use case and an engine."""

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from mcp_image_gen_local.domain.capabilities import Capabilities
from mcp_image_gen_local.domain.image import EngineImage, ImageRef, InputImage
from mcp_image_gen_local.domain.job import Plan, Progress, Ticket
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.domain.request import GenerationRequest


class ImageReader(Protocol):
    """Reads the images that a request names."""

    async def read(self, image: ImageRef) -> InputImage:
        """Return the file and its size.

        Raises:
            InvalidRequest: it cannot be read or decoded, or is no longer what it was when it was named.
        """
        ...


class Engine(Protocol):
    """Generates images; made from its settings, and nothing is contacted before the first method is awaited.

    Every method raises `ImageGenError`s only. `capabilities` and `plan` come first, `submit` returns the ticket by
    which all other methods find the job, in this process or another one.
    """

    name: str  #: as IMAGE_GEN_ENGINE and the answer's "engine" spell it, e.g. "comfyui"
    url: str  #: its address, for people

    async def capabilities(self, model: str | None) -> Capabilities:
        """Return what the engine supports with this model; None is the default model.

        Raises:
            EngineUnreachable, ModelNotFound, ModelIncomplete, EngineNotInstalled.
        """
        ...

    async def plan(self, request: GenerationRequest, images: ImageReader) -> Plan:
        """Resolve model and defaults of a request that uses supported features only.

        Raises:
            EngineUnreachable, ModelNotFound, ModelIncomplete, NodeMissing, RequestNotSupported, InvalidRequest.
        """
        ...

    async def submit(self, plan: Plan, job_id: str) -> Ticket:
        """Queue the plan once, under `job_id` where the engine takes an id: a lost reply is looked up, not resent.

        Raises:
            EngineUnreachable, WorkflowRejected, ModelNotFound.
        """
        ...

    def follow(self, ticket: Ticket) -> AsyncIterator[Progress]:
        """Yield progress; end when the images can be fetched.

        Raises:
            GenerationFailed, OutOfMemory, GenerationCancelled, GenerationLost, EngineUnreachable.
        """
        ...

    def fetch(self, ticket: Ticket, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        """Yield the finished images except those whose index is in `skip`.

        A fault of one image is raised after all others were yielded.

        Raises:
            ImageGone, EngineUnreachable, GenerationFailed: the job ended without an image.
        """
        ...

    async def lookup(self, ticket: Ticket) -> Plan | None:
        """Return what the engine knows of a job that another process submitted; None if it does not know it.

        Raises:
            EngineUnreachable, EngineRefused, EngineAnswerUnusable.
        """
        ...

    async def cancel(self, ticket: Ticket) -> bool:
        """Cancel this job, and no other; return True once the engine no longer works on it.

        False: the engine still works on it after the bound (it may be loading a model); call again. `follow` reports
        how the job ended, which may also be with an image.
        """
        ...

    async def queue_length(self) -> int:
        """Return the number of queued and running jobs at the engine, including those of its other clients."""
        ...

    async def models(self) -> ModelCatalog:
        """Return the engine's models."""
        ...

    async def check(self) -> str:
        """Return one line with version and device.

        Raises:
            EngineUnreachable, EngineRefused, EngineAnswerUnusable.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; jobs at the engine continue."""
        ...
