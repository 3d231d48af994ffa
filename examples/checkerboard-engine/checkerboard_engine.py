"""An engine of another package: it generates checkerboards, whatever the prompt says.

It answers one call with images, so it implements `Backend`; queue, progress, cancel and memory come from
`QueuedEngine`.
"""

import io
from collections.abc import AsyncIterator, Callable
from random import Random

from PIL import Image

from mcp_image_gen_local.domain.capabilities import Capabilities
from mcp_image_gen_local.domain.engine import Engine, ImageReader
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import JobStatus, Plan, Progress
from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.domain.request import Feature, GenerationRequest, random_seed, seeds_of
from mcp_image_gen_local.engine_kit.queued import QueuedEngine
from mcp_image_gen_local.engine_kit.spec import EngineSettings, EngineSpec

SIDE = 256  #: pixels, when the request names no size
FIELDS = 8  #: along each side
FEATURES = frozenset({Feature.STEPS})


class CheckerboardBackend:
    """Generates a checkerboard in two colours that the seed decides."""

    name = "checkerboard"
    url = "this process"

    async def capabilities(self, model: str | None) -> Capabilities:
        """Return what a checkerboard depends on."""
        return Capabilities(model=self.name, features=FEATURES, survives_restart=False)

    async def plan(self, request: GenerationRequest, images: ImageReader) -> Plan:
        """Fill in the defaults."""
        return Plan(
            model=self.name,
            seed=random_seed() if request.seed is None else request.seed,
            width=request.width or SIDE,
            height=request.height or SIDE,
            steps=request.steps or FIELDS,
            batch_size=request.batch_size,
            extra={"prompt": request.prompt},
            notes=("A checkerboard does not depend on the prompt.",),
        )

    async def generate(self, plan: Plan, report: Callable[[Progress], None]) -> AsyncIterator[EngineImage]:
        """Yield one board for each seed."""
        steps = plan.steps or FIELDS
        for index, seed in enumerate(seeds_of(plan.seed or 0, plan.batch_size)):
            for step in range(1, steps + 1):
                done, total = index * steps + step, plan.batch_size * steps
                report(Progress(status=JobStatus.RUNNING, phase="generating", step=done, steps=total))
            data = checkerboard(plan.width or SIDE, plan.height or SIDE, Random(seed))
            yield EngineImage(data=data, source=self.url, index=index, seed=seed)

    async def models(self) -> ModelCatalog:
        """Return the only model."""
        model = ModelInfo(
            name=self.name, role="code", family=self.name, ready=True, steps=FIELDS, cfg=1.0, width=SIDE, height=SIDE
        )
        return ModelCatalog(models=(model,))

    async def check(self) -> str:
        """Return version and device."""
        return "checkerboard 0.1.0, always ready"

    async def aclose(self) -> None:
        """Nothing is open."""


class CheckerboardSettings(EngineSettings):
    """Nothing can be set."""


def make(_: CheckerboardSettings) -> Engine:
    """Return the engine."""
    return QueuedEngine(CheckerboardBackend())


ENGINE = EngineSpec(
    name="checkerboard", title="Checkerboard", settings=CheckerboardSettings, make=make, features=FEATURES
)


def checkerboard(width: int, height: int, random: Random) -> bytes:
    """Return a PNG of 8x8 fields in two random colours."""
    colours = [tuple(random.randbytes(3)) for _ in range(2)]
    board = Image.new("RGB", (FIELDS, FIELDS))
    board.putdata([colours[(x + y) % 2] for y in range(FIELDS) for x in range(FIELDS)])
    buffer = io.BytesIO()
    board.resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
