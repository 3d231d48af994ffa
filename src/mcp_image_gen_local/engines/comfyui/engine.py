"""The ComfyUI engine: its parts put together behind the `Engine` contract."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeVar

import httpx2

from mcp_image_gen_local.domain.capabilities import Capabilities
from mcp_image_gen_local.domain.engine import ImageReader
from mcp_image_gen_local.domain.errors import (
    GenerationFailed,
    GenerationLost,
    ImageGenError,
)
from mcp_image_gen_local.domain.image import EngineImage
from mcp_image_gen_local.domain.job import Plan, Progress, Ticket
from mcp_image_gen_local.domain.model import ModelCatalog
from mcp_image_gen_local.domain.request import Feature, GenerationRequest, random_seed, seeds_of
from mcp_image_gen_local.engines.comfyui import graph as graphs
from mcp_image_gen_local.engines.comfyui.batch import by_index, fan_out, file_name, seeds_in
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient
from mcp_image_gen_local.engines.comfyui.events import (
    Outcome,
    graph_of,
    parse_history,
    pick_images,
    queue_items,
)
from mcp_image_gen_local.engines.comfyui.failures import failure_of, rejection
from mcp_image_gen_local.engines.comfyui.families import FLUX_SCHNELL, UNKNOWN
from mcp_image_gen_local.engines.comfyui.follow import Follower
from mcp_image_gen_local.engines.comfyui.models import (
    LOADERS,
    PLANNING_ROLES,
    Inventory,
    ResolvedModel,
    catalog,
    resolve,
)
from mcp_image_gen_local.engines.comfyui.object_info import NodeInfo, check_graph, input_specs, options
from mcp_image_gen_local.engines.comfyui.planning import values_for
from mcp_image_gen_local.engines.comfyui.queueing import cancel_prompt, send
from mcp_image_gen_local.engines.comfyui.settings import ComfyUISettings
from mcp_image_gen_local.engines.comfyui.socket import EventStream
from mcp_image_gen_local.engines.comfyui.version import Version, check_version, too_old, version_of

Result = TypeVar("Result")
QUEUE = ("queue_running", "queue_pending")
OUTPUT_FOLDER = "mcp-image-gen"  #: below ComfyUI's output folder
PNG_END = b"IEND\xaeB`\x82"
UNKNOWN_PLAN = Plan(model="unknown", seed=None)  #: of a job of which ComfyUI has only the files


class ComfyUIEngine:
    """Generates with a ComfyUI server."""

    name = "comfyui"

    def __init__(self, settings: ComfyUISettings) -> None:
        self._client = ComfyUIClient(settings.url, settings.request_headers)
        self._stream = EventStream(self._client.http, settings.url)
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
        choice, fault = await asyncio.gather(choosing, self._version.fault(), return_exceptions=True)
        if isinstance(fault, BaseException):  # what else is wrong may be due to it
            raise fault
        if isinstance(choice, BaseException):
            raise choice
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
        choice = resolve(request.model, await self._inventory(PLANNING_ROLES))
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
        check_graph(graph, await self._describe({node["class_type"] for node in graph.values()}))
        return _plan_of({**values, "batch_size": request.batch_size}, choice.file, notes=notes, graph=graph)

    async def _choose(self, name: str | None) -> ResolvedModel:
        remembered = bool(self._classes)
        choice = resolve(name, await self._inventory(PLANNING_ROLES))
        if remembered and name is None and choice.family is not FLUX_SCHNELL:
            self._classes.clear()  # the first choice may have been installed since we asked
            choice = resolve(name, await self._inventory(PLANNING_ROLES))
        return choice

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
        reply, body = sent.reply, _json_of(sent.reply)
        queued_as = body.get("prompt_id", prompt_id)
        if queued_as != prompt_id:
            await self._cancel(str(queued_as))
            raise too_old(self.url, "it does not take the prompt_id that it is given")
        if reply.status_code == 200 and not body.get("node_errors"):
            return
        self._classes.clear()  # the server has changed since the graph was checked
        if reply.status_code == 200:
            await self._cancel(prompt_id)  # it would generate a part of the graph and call that a success
        raise rejection(reply.status_code, body)

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
        outcome = self._outcomes.pop(ticket.id, None)
        if outcome is None:
            outcome = parse_history(await self._client.history(ticket.id) or {})
        images = by_index(pick_images(outcome.outputs), ticket.id)
        if not images:
            raise GenerationFailed(
                "ComfyUI finished without an image.",
                hint="The workflow needs a node that saves one, such as SaveImage.",
            )
        wanted = {index: image for index, image in sorted(images.items()) if index not in skip}
        found = await asyncio.gather(*map(self._client.view, wanted.values()), return_exceptions=True)
        seeds, failures = dict(enumerate(await self._seeds(ticket))), []
        for (index, image), data in zip(wanted.items(), found, strict=True):
            if isinstance(data, bytes):
                source = self._client.view_url(image)
                yield EngineImage(data=data, source=source, index=index, seed=seeds.get(index))
            else:
                failures.append(data)
        if failures:
            raise failures[0]
        if failure := failure_of(outcome):  # the prompt ended before all of them were finished
            raise failure

    async def _seeds(self, ticket: Ticket) -> Sequence[int]:
        """Return the seed of each image; a ticket without them is of a job that was found without our store."""
        if "seeds" in ticket.data:
            return list(ticket.data["seeds"])
        entry = await self._client.history(ticket.id)
        return seeds_in(graph_of((entry or {}).get("prompt")) or {})

    async def lookup(self, ticket: Ticket) -> Plan | None:
        """Return what the graph in ComfyUI's queue or history says of a job that this object does not follow."""
        items = queue_items(await self._client.queue(), *QUEUE)
        item: object = next((i for i in items if i[1] == ticket.id), None)
        if item is None and (entry := await self._client.history(ticket.id)):
            item = entry.get("prompt")
        graph = graph_of(item)
        if graph is None:
            return UNKNOWN_PLAN if await self._find_files(ticket) else None
        self._graphs[ticket.id] = graph
        values = graphs.read(graph)
        model = values.get("checkpoint") or values.get("diffusion_model") or "unknown"
        return _plan_of(values, str(model), graph=graph)

    async def _find_files(self, ticket: Ticket) -> bool:
        """Look for images of a job that ComfyUI has forgotten: its files outlive its memory."""
        found: list[dict[str, str]] = []
        count = max(1, len(ticket.data.get("seeds", ())))
        for index in range(count):
            image = {"filename": file_name(ticket.id, index), "subfolder": OUTPUT_FOLDER, "type": "output"}
            end = await self._client.view_end(image)
            if end is not None and end.endswith(PNG_END):  # else there is none, or ComfyUI was killed while it wrote
                found.append(image)
        if found:
            kind = "success" if len(found) == count else "lost"
            self._outcomes[ticket.id] = Outcome(kind=kind, outputs={"": {"images": found}})
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
        return catalog(await self._inventory(LOADERS))

    async def check(self) -> str:
        """Return version and devices.

        Raises:
            EngineUnreachable, EngineRefused, EngineAnswerUnusable: no answer, or ComfyUI is too old.
        """
        stats = await self._client.system_stats()
        check_version(stats, self.url)
        version, devices = version_of(stats) or "of unknown version", stats.get("devices") or []
        shown = ", ".join(f"{d.get('name')} ({(d.get('vram_total') or 0) / 2**30:.0f} GiB)" for d in devices)
        return f"ComfyUI {version} at {self.url}, on {shown or 'an unknown device'}"

    async def aclose(self) -> None:
        """Close the socket and all connections."""
        await self._stream.aclose()
        await self._client.aclose()

    async def _inventory(self, roles: Iterable[str]) -> Inventory:
        loaders = {role: LOADERS[role] for role in roles}
        infos = await self._describe({class_type for class_type, _ in loaders.values()})
        return {
            role: options(input_specs(infos[class_type] or {}).get(name)) or ()
            for role, (class_type, name) in loaders.items()
        }

    async def _describe(self, class_types: Iterable[str]) -> dict[str, NodeInfo | None]:
        """Return the node classes' descriptions; known ones are not asked for again."""
        found: dict[str, NodeInfo | None] = {c: self._classes.get(c) for c in class_types}
        unknown = [c for c, info in found.items() if info is None]
        infos = await asyncio.gather(*map(self._client.object_info, unknown))
        for class_type, info in zip(unknown, infos, strict=True):
            if info is not None:
                found[class_type] = self._classes[class_type] = info
        return found

    async def _forget(self, prompt_id: str) -> None:
        self._graphs.pop(prompt_id, None)
        await self._stream.unsubscribe(prompt_id)


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


def _json_of(reply: httpx2.Response) -> dict[str, Any]:
    try:
        body = reply.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
