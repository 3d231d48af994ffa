"""The ComfyUI engine: its parts put together behind the `Engine` contract."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, TypeVar

from mcp_image_gen_local.domain.capabilities import Capabilities
from mcp_image_gen_local.domain.engine import ImageReader
from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineStalled,
    EngineUnreachable,
    GenerationFailed,
    GenerationLost,
    ImageGenError,
    ModelIncomplete,
    ModelNotFound,
)
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import Plan, Progress, Ticket
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.domain.request import MAX_SEED, Feature, GenerationRequest, random_seed, seeds_of
from mcp_image_gen_local.engines.comfyui import graph as graphs
from mcp_image_gen_local.engines.comfyui.batch import MAX_IMAGES, by_index, fan_out, file_name, seeds_in
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient
from mcp_image_gen_local.engines.comfyui.failures import NOT_IN_LIST, failure_of, rejection
from mcp_image_gen_local.engines.comfyui.families import FLUX_SCHNELL, UNKNOWN
from mcp_image_gen_local.engines.comfyui.follow import Follower
from mcp_image_gen_local.engines.comfyui.models import (
    LOADERS,
    MODEL_ROLES,
    PLANNING_ROLES,
    Inventory,
    ResolvedModel,
    catalog,
    resolve,
)
from mcp_image_gen_local.engines.comfyui.object_info import MAX_OPTIONS, UNDESCRIBED, NodeInfo, check_graph
from mcp_image_gen_local.engines.comfyui.planning import values_for
from mcp_image_gen_local.engines.comfyui.prompt_reply import PromptReply
from mcp_image_gen_local.engines.comfyui.queueing import cancel_prompt, send
from mcp_image_gen_local.engines.comfyui.replies import ImageFile, Outcome, pick_images
from mcp_image_gen_local.engines.comfyui.settings import ComfyUISettings
from mcp_image_gen_local.engines.comfyui.socket import EventStream
from mcp_image_gen_local.engines.comfyui.values import label, whole
from mcp_image_gen_local.engines.comfyui.version import Version, check_version, too_old

Result = TypeVar("Result")
OUTPUT_FOLDER = "mcp-image-gen"  #: below ComfyUI's output folder
PNG_END = b"IEND\xaeB`\x82"
UNKNOWN_PLAN = Plan(model="unknown", seed=None)  #: of a job of which ComfyUI has only the files
#: value of a foreign graph -> its range; what lies outside is not known
RANGES = {
    "seed": (0, MAX_SEED),
    "width": (1, 2**16),
    "height": (1, 2**16),
    "steps": (1, 10_000),
    "batch_size": (1, 4096),
}
PROMPTS = ("prompt", "negative_prompt")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files that ComfyUI lists."""

    files: Inventory
    problems: Mapping[str, str]  #: role -> why its files are not known, a sentence


class ComfyUIEngine:
    """Generates with a ComfyUI server."""

    name = "comfyui"

    def __init__(self, settings: ComfyUISettings) -> None:
        self._client = ComfyUIClient(settings.url, settings.request_headers)
        self._stream = EventStream(self._client.http, self._client.url)
        self._version = Version(self._client)
        self.url = self._client.url
        self._classes: dict[str, NodeInfo] = {}
        self._graphs: dict[str, Mapping[str, Any]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._sending: set[str] = set()  #: prompts that may not have reached ComfyUI yet
        self._repeated: set[str] = set()  #: prompts that were sent twice

    async def capabilities(self, model: str | None) -> Capabilities:
        """Return what the model's family supports; files that may have changed are listed again."""
        choosing = self._fresh(lambda: self._choose(model))
        chosen, fault = await asyncio.gather(choosing, self._version.fault(), return_exceptions=True)
        if isinstance(fault, BaseException):  # what else is wrong may be due to it
            raise fault
        if isinstance(chosen, BaseException):
            raise chosen
        choice, _ = chosen
        family = choice.family
        features = frozenset(Feature) - ({Feature.GUIDANCE} if family.guidance is None else set())
        return Capabilities(model=choice.file if family is UNKNOWN else family.id, features=features)

    async def plan(self, request: GenerationRequest, images: ImageReader) -> Plan:
        """Fill the workflow that the server has the files for, and check it against the server's nodes."""
        return await self._fresh(lambda: self._plan(request, images))

    async def _fresh(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return what `work` returns; if it fails, once more without what is remembered of the server."""
        try:
            return await work()
        except ImageGenError:
            if not self._classes:
                raise
            self._classes.clear()  # the files may have changed since we asked
            return await work()

    async def _plan(self, request: GenerationRequest, images: ImageReader) -> Plan:
        choice, problems = await self._resolve(request.model)
        workflow = files(__package__).joinpath("workflows", choice.family.workflows[choice.role])
        graph = json.loads(workflow.read_text("utf-8"))
        init_size = None
        if request.init_image is not None:
            image = await images.read(request.init_image)
            init_size = (image.width, image.height)
            name = f"{request.init_image.sha256[:20]}.png"
            graph = graphs.begin_with_image(graph, await self._client.upload_image(image.data, name))
            self._classes.pop("LoadImage", None)  # its list of files has just grown
        seed = random_seed() if request.seed is None else request.seed
        values, notes = values_for(request, choice, seed=seed, init_size=init_size)
        graph = graphs.bind(graph, values)
        infos = await self._describe({node["class_type"] for node in graph.values()})
        check_graph(graph, {c: UNDESCRIBED if isinstance(i, ImageGenError) else i for c, i in infos.items()})
        values |= {"batch_size": request.batch_size}
        return _plan_of(values, choice.file, notes=(*notes, *problems), graph=graph)

    async def _choose(self, name: str | None) -> tuple[ResolvedModel, tuple[str, ...]]:
        remembered = bool(self._classes)
        choice, problems = await self._resolve(name)
        if remembered and name is None and choice.family is not FLUX_SCHNELL:
            self._classes.clear()  # the first choice may have been installed since we asked
            choice, problems = await self._resolve(name)
        return choice, problems

    async def _resolve(self, name: str | None) -> tuple[ResolvedModel, tuple[str, ...]]:
        """Return the model, and sentences for lists that could not be read, where they may have changed the choice.

        Raises:
            EngineAnswerUnusable: it was not found, or lacks a part, and a list that may hold it could not be read.
        """
        listing = await self._inventory(PLANNING_ROLES)
        try:
            choice = resolve(name, listing.files)
        except (ModelNotFound, ModelIncomplete) as error:
            is_model = isinstance(error, ModelNotFound)
            causes = [problem for role, problem in listing.problems.items() if (role in MODEL_ROLES) is is_model]
            if not causes:
                raise
            hint = f"ComfyUI's log says more. Without that list: {error.message}"
            raise EngineAnswerUnusable(" ".join(causes), hint=hint) from error
        is_second_choice = name is None and choice.family is not FLUX_SCHNELL
        return choice, tuple(listing.problems.values()) if is_second_choice else ()

    async def submit(self, plan: Plan, job_id: str) -> Ticket:
        """Queue the graph, with the socket open so that no event is missed."""
        seeds = seeds_of(plan.seed or 0, plan.batch_size)
        # A prefix of its own makes ComfyUI write the image anew where it would name a cached file, and finds the file
        # when ComfyUI is restarted before it reports its name.
        graph = fan_out(_graph_of(plan), seeds, f"{OUTPUT_FOLDER}/{job_id}")
        self._graphs[job_id] = graph
        self._sending.add(job_id)
        try:
            client_id = await self._stream.subscribe(job_id)
            await self._queue(graph, job_id, client_id, was_there=self._stream.is_open)
        except BaseException:
            await self._forget(job_id)
            raise
        finally:
            self._sending.discard(job_id)
        return Ticket(host=self.url, id=job_id, data={"seeds": seeds})

    async def _queue(self, graph: Mapping[str, Any], prompt_id: str, client_id: str, *, was_there: bool) -> None:
        sent = await send(self._client, graph, prompt_id, client_id, was_there=was_there)
        if sent.repeated:
            self._repeated.add(prompt_id)
        if sent.reply is None:
            return
        reply, queued_as = sent.reply, sent.reply.prompt_id or prompt_id
        if queued_as != prompt_id:
            await self._cancel(queued_as)
            raise too_old(self.url, "it does not take the prompt_id that it is given")
        if not reply.is_refused:
            return
        self._classes.clear()  # the server has changed since the graph was checked
        if reply.status == 200:
            await self._cancel(prompt_id)  # it would generate a part of the graph and call that a success
        raise rejection(await self._with_options(reply))

    async def _with_options(self, reply: PromptReply) -> PromptReply:
        """Return the refusal with the choices that ComfyUI lists now: of more than 20 it tells none."""
        fault = reply.faults[0] if reply.faults else None
        if fault is None or fault.kind != NOT_IN_LIST or fault.options is not None:
            return reply
        with contextlib.suppress(ImageGenError):
            if info := await self._client.object_info(fault.class_type):
                return replace(reply, faults=(replace(fault, options=info.options(fault.input_name)),))
        return reply

    async def follow(self, ticket: Ticket) -> AsyncIterator[Progress]:
        """Yield progress from socket and polls together; end when the images can be fetched."""
        prompt_id = ticket.id
        if prompt_id in self._outcomes:
            return
        follower = Follower(self._client, self._stream.inbox(prompt_id), prompt_id, self._graphs.get(prompt_id, {}))
        try:
            async for progress in follower.events():
                yield progress
            if follower.outcome:
                self._outcomes[prompt_id] = follower.outcome
        except GenerationLost:
            if not await self._find_files(ticket):
                raise
        finally:
            await self._forget(prompt_id)
            if prompt_id in self._repeated:  # the copy that was taken for lost must not run as well
                self._repeated.discard(prompt_id)
                with contextlib.suppress(ImageGenError):  # the image is worth more
                    await cancel_prompt(self._client, prompt_id)

    async def fetch(self, ticket: Ticket, *, skip: Collection[int] = ()) -> AsyncIterator[EngineImage]:
        """Yield the images of every output node, saved ones before previews."""
        outcome = self._outcomes.pop(ticket.id, None) or await self._outcome(ticket)
        images = by_index(pick_images(outcome.outputs), ticket.id)
        if not images:
            raise GenerationFailed(
                "ComfyUI finished without an image.",
                hint="The workflow needs a node that saves one, such as SaveImage.",
            )
        seeds, failure = dict(enumerate(await self._seeds(ticket))), None
        for index, image in sorted(images.items())[:MAX_IMAGES]:
            if index in skip:
                continue
            try:
                data = await self._client.view(image)  # one at a time: each may be large
            except ImageGenError as error:
                if isinstance(error, EngineUnreachable) and isinstance(failure, EngineUnreachable):
                    raise  # the others would be waited for in vain, one after the other
                failure = failure or error
                continue
            yield EngineImage(data=data, source=self._client.view_url(image), index=index, seed=seeds.get(index))
        # The prompt may have ended before all of them were finished.
        if failure := failure or failure_of(outcome) or _too_many(len(images)):
            raise failure

    async def _outcome(self, ticket: Ticket) -> Outcome:
        entry = await self._client.history(ticket.id)
        return entry.outcome if entry else Outcome(kind="success")

    async def _seeds(self, ticket: Ticket) -> Sequence[int | None]:
        """Return the seed of each image; a ticket without them is of a job that was found without our store."""
        if "seeds" in ticket.data:
            return list(ticket.data["seeds"])
        entry = await self._client.history(ticket.id)
        return seeds_in(entry.graph or {}) if entry else []

    async def lookup(self, ticket: Ticket) -> Plan | None:
        """Return what the graph in ComfyUI's queue or history says of a job that this object does not follow."""
        found = (await self._client.queue()).find(ticket.id) or await self._client.history(ticket.id)
        if found is None or found.graph is None:
            return UNKNOWN_PLAN if await self._find_files(ticket) else None
        self._graphs[ticket.id] = found.graph
        return _found_plan(found.graph)

    async def _find_files(self, ticket: Ticket) -> bool:
        """Look for images of a job that ComfyUI has forgotten: its files outlive its memory."""
        found: list[ImageFile] = []
        count = max(1, len(ticket.data.get("seeds", ())))
        for index in range(count):
            image = ImageFile(filename=file_name(ticket.id, index), subfolder=OUTPUT_FOLDER)
            end = await self._client.view_end(image)
            if end is not None and PNG_END in end:  # else there is none, or ComfyUI was killed while it wrote
                found.append(image)
        if found:
            kind = "success" if len(found) == count else "lost"
            self._outcomes[ticket.id] = Outcome(kind=kind, outputs={"": tuple(found)})
        return bool(found)

    async def cancel(self, ticket: Ticket) -> bool:
        """Take the prompt from ComfyUI, and end `follow`; one that is being sent may arrive yet."""
        return await self._cancel(ticket.id)

    async def _cancel(self, prompt_id: str) -> bool:
        if not await cancel_prompt(self._client, prompt_id):
            return False
        if prompt_id not in self._sending and not await self._client.history(prompt_id):
            self._stream.report_dequeued(prompt_id)
        return True

    async def queue_length(self) -> int:
        """Return the length of ComfyUI's queue."""
        return await self._client.queue_remaining()

    async def models(self) -> ModelCatalog:
        """Return what the server has now; nothing is remembered from earlier calls."""
        self._classes.clear()
        listing = await self._inventory(LOADERS)
        return replace(catalog(listing.files), problems=tuple(listing.problems.values()))

    async def check(self) -> str:
        """Return version and devices.

        Raises:
            EngineUnreachable, EngineRefused, EngineAnswerUnusable: no answer, or ComfyUI is too old.
        """
        stats = await self._client.system_stats()
        check_version(stats, self.url)
        devices = ", ".join(f"{device.name} ({device.vram / 2**30:.0f} GiB)" for device in stats.devices)
        version = stats.version or "of unknown version"
        return f"ComfyUI {version} at {self.url}, on {devices or 'an unknown device'}"

    async def aclose(self) -> None:
        """Close the socket and all connections."""
        await self._stream.aclose()
        await self._client.aclose()

    async def _inventory(self, roles: Iterable[str]) -> Listing:
        loaders = {role: LOADERS[role] for role in roles}
        infos = await self._describe({class_type for class_type, _ in loaders.values()})
        files: dict[str, tuple[str, ...]] = {}
        problems: dict[str, str] = {}
        for role, (class_type, name) in loaders.items():
            info = infos[class_type]
            files[role] = (info.options(name) or ()) if isinstance(info, NodeInfo) else ()
            if problem := _problem(role, info, class_type, name):
                problems[role] = problem
        return Listing(files=files, problems=problems)

    async def _describe(self, class_types: Iterable[str]) -> dict[str, NodeInfo | ImageGenError | None]:
        """Return the node classes' descriptions; known ones are not asked for again.

        A class that ComfyUI fails to describe, for a broken custom node perhaps, has its error in that place.

        Raises:
            ImageGenError: ComfyUI describes none of them, or does not answer.
        """
        found: dict[str, NodeInfo | ImageGenError | None] = {c: self._classes.get(c) for c in class_types}
        unknown = [c for c, info in found.items() if info is None]
        infos = await asyncio.gather(*map(self._describe_one, unknown))
        for class_type, info in zip(unknown, infos, strict=True):
            found[class_type] = info
            if isinstance(info, NodeInfo):
                self._classes[class_type] = info
        failures = [info for info in found.values() if isinstance(info, ImageGenError)]
        if failures and len(failures) == len(found):
            raise failures[0]
        return found

    async def _describe_one(self, class_type: str) -> NodeInfo | ImageGenError | None:
        try:
            return await self._client.object_info(class_type)
        except (EngineAnswerUnusable, EngineStalled) as error:
            return error.anew()  # its past may hold a reply of many megabytes

    async def _forget(self, prompt_id: str) -> None:
        self._graphs.pop(prompt_id, None)
        await self._stream.unsubscribe(prompt_id)


def _problem(role: str, info: NodeInfo | ImageGenError | None, class_type: str, name: str) -> str:
    """Return why the files of this role are not known; empty if they are, or the server lacks the class."""
    unknown = f"ComfyUI's files of role {role} are not known:"
    if isinstance(info, ImageGenError):
        return f"{unknown} {info.message}"
    choices = info.options(name) if info else ()
    if choices is None:
        return f"{unknown} it describes the node {class_type} in a form that this server does not know."
    many = f"ComfyUI lists more than {MAX_OPTIONS} files of role {role}; only the first are looked at."
    return many if len(choices) == MAX_OPTIONS else ""


def _too_many(count: int) -> GenerationFailed | None:
    if count <= MAX_IMAGES:
        return None
    return GenerationFailed(
        f"ComfyUI names {count} images of this job; only the first {MAX_IMAGES} are fetched.",
        hint="The others lie in ComfyUI's output folder.",
    )


def _found_plan(graph: graphs.Graph) -> Plan:
    """Return the plan of a graph that another program may have written: what its values must not be is left out."""
    values = graphs.read(graph)
    known = {name: whole(values.pop(name, None), *bounds) for name, bounds in RANGES.items()}
    model = label(values.get("checkpoint")) or label(values.get("diffusion_model")) or "unknown"
    texts = {n: v if n in PROMPTS else label(v) for n, v in values.items() if isinstance(v, str)}
    numbers = {n: v for n, v in values.items() if isinstance(v, int | float)}
    return _plan_of({**numbers, **texts, **known}, model, graph=graph)


def _plan_of(values: Mapping[str, Any], model: str, *, graph: graphs.Graph, notes: tuple[str, ...] = ()) -> Plan:
    """Return the plan of a graph that holds these values."""
    known = ("seed", "width", "height", "steps")
    return Plan(
        model=model,
        **{name: values.get(name) for name in known},
        batch_size=values.get("batch_size") or 1,
        extra={name: value for name, value in values.items() if name not in (*known, "batch_size")},
        notes=notes,
        payload=graph,
    )


def _graph_of(plan: Plan) -> Mapping[str, Any]:
    if not isinstance(plan.payload, dict):
        message = "a plan of another engine"
        raise TypeError(message)
    return plan.payload
