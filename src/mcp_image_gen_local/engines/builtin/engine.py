"""The built-in engine: a small model of our own, in this process, behind the `Engine` contract."""

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_image_gen_local.domain.errors import (
    GenerationCancelled,
    GenerationFailed,
    ImageGenError,
    InvalidRequest,
    ModelNotFound,
    RequestNotSupported,
)
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import JobStatus, Plan, Progress
from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.domain.request import GenerationRequest, draw_seed
from mcp_image_gen_local.engines.builtin import pictures
from mcp_image_gen_local.engines.builtin.network import Network, read_facts, vocabulary_of, weights_folder
from mcp_image_gen_local.engines.builtin.sampler import Order, steps_of
from mcp_image_gen_local.engines.builtin.words import Reading, Vocabulary
from mcp_image_gen_local.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = "builtin"
PREVIEW_SIDE = 128  #: pixels
MAX_REMEMBERED = 16  #: drawings kept, so that a picture that could not be saved can be fetched again
MAX_NAMED = 12  #: unknown words named in an answer
DENOISE = 0.6  #: for an init_image without a denoise of its own: the shape stays, the thing changes
HONESTY = (
    "Drawn by the small built-in model, which knows emoji-style icons only; for real pictures run ComfyUI with "
    "FLUX.1-schnell and set IMAGE_GEN_ENGINE=comfyui."
)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What the network is to draw: a plan's payload."""

    asked: "NDArray[Any]"  #: token ids of the prompt
    avoided: "NDArray[Any]"  #: token ids of the negative prompt
    start: "NDArray[Any] | None"  #: picture to begin with


@dataclass(eq=False)
class _Drawing:
    """A job of this process."""

    plan: Plan
    events: asyncio.Queue[Progress | None] = field(default_factory=asyncio.Queue)  #: None ends it
    cancelled: threading.Event = field(default_factory=threading.Event)
    images: list[EngineImage] = field(default_factory=list)
    error: ImageGenError | None = None
    begun: bool = False  #: it is its turn
    task: asyncio.Task[None] | None = None


class BuiltinEngine:
    """Draws icons with numpy and ONNX Runtime, one picture at a time, in a thread of its own."""

    name = "builtin"
    url = "this process"

    def __init__(self, settings: Settings, folder: Path | None = None) -> None:
        """Take the weights from `folder`; None means the shipped ones."""
        del settings  # nothing of them concerns this engine
        self._folder = folder or weights_folder()
        self._drawings: dict[str, _Drawing] = {}
        self._turn = asyncio.Lock()
        self._loading = asyncio.Lock()
        self._waiting: list[str] = []

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return read_facts(self._folder)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return vocabulary_of(self._facts)

    @cached_property
    def _network(self) -> Network:
        return Network(self._folder)

    @property
    def _native_side(self) -> int:
        return int(self._facts["side"] * self._facts["enlarge"])

    async def _load(self) -> None:
        """Load the networks once, in a thread: it takes half a second."""
        async with self._loading:
            await asyncio.to_thread(lambda: self._network)

    async def plan(self, request: GenerationRequest) -> Plan:
        """Find the words that the model knows and fill in its defaults.

        Raises:
            EngineNotInstalled: the runtime or the weights are missing.
            InvalidRequest: the model knows none of the words, or init_image is no picture.
            ModelNotFound, RequestNotSupported: a model, sampler or scheduler was asked for.
        """
        await self._load()
        _refuse_foreign(request)
        # In a thread: to compare unknown words with all known ones, or to decode a large picture, takes a second.
        reading = await asyncio.to_thread(self._vocabulary.understand, request.prompt)
        avoided = await asyncio.to_thread(self._vocabulary.understand, request.negative_prompt)
        if not reading.words:
            raise InvalidRequest(
                f"The built-in model knows no word of this prompt ({_named(reading.ignored) or 'no words at all'}).",
                hint="It draws single things such as 'a red apple', 'cat face' or 'sailboat'; for anything else run "
                "ComfyUI and set IMAGE_GEN_ENGINE=comfyui.",
            )
        start = await asyncio.to_thread(_read_start, request.init_image, self._facts["side"])
        native, defaults = self._native_side, self._facts["defaults"]
        values: dict[str, Any] = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "steps": request.steps or defaults["steps"],
            "cfg": defaults["cfg"] if request.cfg is None else request.cfg,
            "width": request.width or native,
            "height": request.height or native,
            "batch_size": request.batch_size,
        }
        if start is not None:
            values["denoise"] = DENOISE if request.denoise is None else request.denoise
        seed = draw_seed() if request.seed is None else request.seed
        notes = [HONESTY, *self._notes(request, values, reading, avoided)]
        work = _Work(asked=self._ids(reading), avoided=self._ids(avoided), start=start)
        return Plan(seed=seed, model=MODEL, settings={**values, "seed": seed}, notes=tuple(notes), payload=work)

    def _ids(self, reading: Reading) -> "NDArray[Any]":
        import numpy as np  # heavy; only wanted when something is drawn

        return np.array(self._vocabulary.encode(list(reading.words)), dtype=np.int64)

    def _notes(
        self, request: GenerationRequest, values: dict[str, Any], reading: Reading, avoided: Reading
    ) -> list[str]:
        notes, native = [], self._native_side
        if reading.mended:
            read_as = (f"{word} as {known}" for word, known in reading.mended.items())
            notes.append(f"It read {_named(tuple(read_as))}.")
        if reading.ignored:
            notes.append(f"It does not know these words and left them out: {_named(reading.ignored)}.")
        if avoided.ignored:
            notes.append(f"Of the negative prompt it does not know: {_named(avoided.ignored)}.")
        if request.negative_prompt and values["cfg"] == 1:
            notes.append("negative_prompt had no effect: at cfg 1 the model is not guided.")
        if (values["width"], values["height"]) != (native, native):
            notes.append(f"Drawn at {native}x{native} and resampled to {values['width']}x{values['height']}.")
        return notes

    async def submit(self, plan: Plan, prompt_id: str) -> None:
        """Put the job in the queue of this process."""
        drawing = self._drawings[prompt_id] = _Drawing(plan)
        for old in list(self._drawings)[:-MAX_REMEMBERED]:
            if (task := self._drawings[old].task) and task.done():
                del self._drawings[old]
        self._waiting.append(prompt_id)
        drawing.task = asyncio.create_task(self._work(prompt_id, drawing), name=f"builtin-{prompt_id}")

    async def _work(self, prompt_id: str, drawing: _Drawing) -> None:
        """Draw when it is this job's turn."""
        place = len(self._waiting) - 1
        if place:
            phase = "waiting in the queue"
            drawing.events.put_nowait(Progress(status=JobStatus.QUEUED, phase=phase, queue_position=place))
        try:
            async with self._turn:
                drawing.begun = True
                await asyncio.to_thread(self._draw, drawing, asyncio.get_running_loop())
        except asyncio.CancelledError:  # only while it waits for its turn
            drawing.error = GenerationCancelled("The job was cancelled.")
        except ImageGenError as error:
            drawing.error = error
        except Exception as error:  # the runtime's; without this the job would end as done, with no picture
            drawing.error = GenerationFailed(f"The built-in engine failed: {error!r}.", hint="Please report it.")
        finally:
            self._waiting.remove(prompt_id)
            drawing.events.put_nowait(None)

    def _draw(self, drawing: _Drawing, loop: asyncio.AbstractEventLoop) -> None:
        """Draw all pictures of the job, in a worker thread."""
        values = drawing.plan.settings
        width, height, steps, count = (int(str(values[k])) for k in ("width", "height", "steps", "batch_size"))
        for index in range(count):
            picture = None
            for step, picture in enumerate(steps_of(self._order(drawing.plan, index), self._network.denoise), 1):
                if drawing.cancelled.is_set():
                    raise GenerationCancelled("The job was cancelled.")
                progress = Progress(
                    status=JobStatus.RUNNING,
                    phase="drawing" if count == 1 else f"drawing picture {index + 1} of {count}",
                    step=index * steps + step,
                    steps=count * steps,
                    preview=pictures.to_png(picture, PREVIEW_SIDE, PREVIEW_SIDE),
                )
                loop.call_soon_threadsafe(drawing.events.put_nowait, progress)
            if picture is not None:
                data = pictures.to_png(self._network.finish(picture), width, height)
                drawing.images.append(EngineImage(data=data, source="the memory of this process", index=index))

    def _order(self, plan: Plan, index: int) -> Order:
        values, work = plan.settings, plan.payload
        if not isinstance(work, _Work):
            message = "a plan of another engine"
            raise TypeError(message)
        return Order(
            seed=plan.seed or 0,
            index=index,
            steps=int(str(values["steps"])),
            cfg=float(str(values["cfg"])),
            asked=work.asked,
            avoided=work.avoided,
            side=self._facts["side"],
            start=work.start,
            denoise=float(str(values.get("denoise", 1.0))),
        )

    async def follow(self, prompt_id: str) -> AsyncIterator[Progress]:
        """Yield each step; end when the pictures are drawn."""
        drawing = self._drawings[prompt_id]
        if drawing.task and not drawing.task.done():
            while progress := await drawing.events.get():
                yield progress
        if drawing.error:
            raise drawing.error

    async def fetch(self, prompt_id: str, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        """Yield the drawn pictures."""
        for image in list(self._drawings[prompt_id].images):
            if image.index not in skip:
                yield image

    async def recall(self, prompt_id: str) -> Plan | None:
        """Return the plan of a job of this process; those of others ended with them."""
        drawing = self._drawings.get(prompt_id)
        return drawing.plan if drawing else None

    async def cancel(self, prompt_id: str) -> bool:
        """Stop the job at the end of its step."""
        drawing = self._drawings.get(prompt_id)
        if drawing and drawing.task:
            drawing.cancelled.set()
            if not drawing.begun:
                drawing.task.cancel()
            await asyncio.wait({drawing.task})
        return True

    async def waiting(self) -> int:
        """Return how many jobs of this process are drawn or wait."""
        return len(self._waiting)

    async def models(self) -> ModelCatalog:
        """Return the one model."""
        defaults, native = self._facts["defaults"], self._native_side
        model = ModelInfo(
            name=MODEL,
            role="builtin",
            family=MODEL,
            ready=True,
            steps=defaults["steps"],
            cfg=defaults["cfg"],
            width=native,
            height=native,
        )
        return ModelCatalog(models=(model,))

    async def check(self) -> str:
        """Load the networks and return what they are."""
        await self._load()
        facts, native = self._facts, self._native_side
        return (
            f"built-in model {facts['version']}: {len(facts['concepts'])} things at {native}x{native}, on this "
            "machine's CPU"
        )

    async def aclose(self) -> None:
        """Stop all drawings."""
        await asyncio.gather(*(self.cancel(prompt_id) for prompt_id in list(self._drawings)))


def _refuse_foreign(request: GenerationRequest) -> None:
    if request.model and request.model.lower() != MODEL:
        raise ModelNotFound(
            f"The built-in engine has no model {request.model!r}.",
            hint="It has one, named builtin. For others run ComfyUI and set IMAGE_GEN_ENGINE=comfyui.",
        )
    for name in ("sampler", "scheduler"):
        if value := getattr(request, name):
            raise RequestNotSupported(f"The built-in engine has no {name} {value!r}.", hint=f"Leave {name} out.")


def _read_start(data: bytes | None, side: int) -> "NDArray[Any] | None":
    if data is None:
        return None
    try:
        return pictures.from_file(data, side)
    except (OSError, SyntaxError) as error:
        raise InvalidRequest("init_image is no picture that can be read.", hint="Give a PNG, JPEG or WebP.") from error


def _named(words: Sequence[str]) -> str:
    shown = ", ".join(word[:40] for word in words[:MAX_NAMED])
    return f"{shown} and {len(words) - MAX_NAMED} more" if len(words) > MAX_NAMED else shown
