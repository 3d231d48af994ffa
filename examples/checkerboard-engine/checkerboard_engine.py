"""An engine of another package: it generates checkerboards, whatever the prompt says.

The contract is `mcp_image_gen_local.domain.engine.Engine`; this is the least that keeps it.
"""

import io
from collections.abc import AsyncIterator, Collection
from random import Random
from typing import Any

from PIL import Image

from mcp_image_gen_local.domain.errors import RequestNotSupported
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import JobStatus, Plan, Progress
from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.domain.request import GenerationRequest, random_seed

SIDE = 256  #: pixels, when the request names no size
FIELDS = 8  #: along each side


class CheckerboardEngine:
    """Generates a checkerboard in two colours that the seed decides."""

    name = "checkerboard"
    url = "this process"

    def __init__(self, settings: Any) -> None:
        """Take the server's settings; this engine needs none of them."""
        self._plans: dict[str, Plan] = {}

    async def plan(self, request: GenerationRequest) -> Plan:
        """Fill in the defaults, and refuse what would be ignored."""
        for name in ("negative_prompt", "cfg", "sampler", "scheduler", "init_image"):
            if getattr(request, name):
                raise RequestNotSupported(f"The checkerboard engine has no use for {name}.", hint=f"Leave {name} out.")
        values = {
            "prompt": request.prompt,
            "width": request.width or SIDE,
            "height": request.height or SIDE,
            "batch_size": request.batch_size,
            "steps": request.steps or FIELDS,
        }
        seed = random_seed() if request.seed is None else request.seed
        return Plan(seed=seed, model=self.name, settings=values, notes=("The prompt has no say in a checkerboard.",))

    async def submit(self, plan: Plan, prompt_id: str) -> None:
        """Remember the job; generating it takes no time."""
        self._plans[prompt_id] = plan

    async def follow(self, prompt_id: str) -> AsyncIterator[Progress]:
        """Yield one progress a step."""
        steps = int(str(self._plans[prompt_id].settings["steps"]))
        for step in range(1, steps + 1):
            yield Progress(status=JobStatus.RUNNING, phase="generating", step=step, steps=steps)

    async def fetch(self, prompt_id: str, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        """Generate and yield the images that are not yet on disk."""
        plan = self._plans[prompt_id]
        width, height, count = (int(str(plan.settings[name])) for name in ("width", "height", "batch_size"))
        for index in range(count):
            if index not in skip:
                data = checkerboard(width, height, Random(f"{plan.seed}/{index}"))
                yield EngineImage(data=data, source=self.url, index=index)

    async def recall(self, prompt_id: str) -> Plan | None:
        """Return the plan of a job of this process."""
        return self._plans.get(prompt_id)

    async def cancel(self, prompt_id: str) -> bool:
        """Forget the job."""
        self._plans.pop(prompt_id, None)
        return True

    async def waiting(self) -> int:
        """Return 0: nothing ever waits."""
        return 0

    async def models(self) -> ModelCatalog:
        """Return the only model."""
        model = ModelInfo(
            name=self.name, role="code", family=self.name, ready=True, steps=FIELDS, cfg=1.0, width=SIDE, height=SIDE
        )
        return ModelCatalog(models=(model,))

    async def check(self) -> str:
        """Return what answers."""
        return "checkerboard 0.1.0, always ready"

    async def aclose(self) -> None:
        """Nothing is open."""


def checkerboard(width: int, height: int, random: Random) -> bytes:
    """Return a PNG of 8x8 fields in two random colours."""
    colours = [tuple(random.randbytes(3)) for _ in range(2)]
    board = Image.new("RGB", (FIELDS, FIELDS))
    board.putdata([colours[(x + y) % 2] for y in range(FIELDS) for x in range(FIELDS)])
    buffer = io.BytesIO()
    board.resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
