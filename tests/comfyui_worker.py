"""The thread of the ComfyUI test double that runs prompts and tells of it as ComfyUI does."""

import json
import os.path
import random
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests import comfyui_images as images
from tests.comfyui_control import Controls
from tests.comfyui_memory import OUT_OF_MEMORY
from tests.comfyui_messages import Audience, Teller
from tests.comfyui_nodes import NodeInfo
from tests.comfyui_plan import Plan
from tests.comfyui_state import Files, Json, Prompt, State
from tests.comfyui_values import NodeError, Render, Value, evaluate, load, render

_SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class _Interrupted(Exception):
    """POST /interrupt was seen at a step or node border."""


class Stopped(Exception):
    """The server is gone."""


@dataclass
class Machine:
    """What all runs share."""

    controls: Controls
    state: State
    files: Files
    audience: Audience
    node_info: Callable[[str], NodeInfo | None]
    image: Callable[[], Render]
    step_seconds: Callable[[], float]
    previews: Callable[[], bool]
    rendered: list[str]  #: prompt_ids whose images SaveImage has written
    cache: dict[str, tuple[Value, Json]] = field(default_factory=dict)  #: the previous prompt's nodes
    executing: tuple[str | None, str] | None = None  #: (client_id, node id) of this moment


class Worker(threading.Thread):
    """Runs one prompt after the other."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(name="comfyui-worker", daemon=True)
        self._machine = machine

    def run(self) -> None:
        """Work until the server stops."""
        machine = self._machine
        while (prompt := machine.state.take()) is not None:
            if machine.state.free_wanted:
                machine.state.free_wanted = False
                machine.cache.clear()
            try:
                Run(machine, prompt).run()
            except Stopped:
                return


class Run:
    """One prompt from execution_start to its place in the history."""

    def __init__(self, machine: Machine, prompt: Prompt) -> None:
        self._machine, self._prompt = machine, prompt
        self._controls, self._state = machine.controls, machine.state
        self._graph = prompt.graph
        self._plan = Plan(self._graph, machine.files)
        self._values: dict[str, Value] = {}
        self._tell = Teller(machine.audience, prompt)
        self._outputs: dict[str, Json] = {}
        self._executed: list[str] = []
        self._loading_seen = False
        self._rendered = False
        self._samplers = 0

    def run(self) -> None:
        """Execute the graph; the entry is in the history before `executing` null goes out."""
        self._tell.message("execution_start", {})
        self._strike_socket("execution_start")
        self._prune_cache()
        cached = [node_id for node_id in self._graph if self._plan.key(node_id) in self._machine.cache]
        self._tell.message("execution_cached", {"nodes": cached})
        status = {"status_str": "error", "completed": False}
        if self._execute_all():
            self._tell.message("execution_success", {})
            status = {"status_str": "success", "completed": True}
        meta = {
            node_id: {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}
            for node_id in self._outputs
        }
        status["messages"] = self._tell.messages
        entry = {"prompt": self._prompt.as_item(), "outputs": self._outputs, "status": status, "meta": meta}
        self._machine.executing = None
        self._state.finish(entry)
        self._tell.addressed("executing", {"node": None})

    def _execute_all(self) -> bool:
        """Run all nodes; an error or interrupt is told, noted and answered with False."""
        node_id = ""
        try:
            for node_id in self._plan.order(self._prompt.outputs, self._machine.cache):
                if self._plan.key(node_id) in self._machine.cache:
                    self._repeat(node_id)
                else:
                    self._execute(node_id)
        except _Interrupted:
            self._tell.message("execution_interrupted", self._where(node_id), everybody=True)
            return False
        except NodeError as error:
            self._fail(node_id, error.kind, f"{error}")
            return False
        except Stopped:
            raise
        except Exception as error:
            self._fail(node_id, type(error).__name__, f"{error}\n{traceback.format_exc()}")
            return False
        return True

    def _execute(self, node_id: str) -> None:
        """Run one node with all that is told of it."""
        node = self._graph[node_id]
        self._check_interrupt()
        self._machine.executing = self._prompt.client_id, node_id
        self._tell.report(node_id, 0.0, 1.0)
        self._tell.addressed("executing", {"node": node_id, "display_node": node_id})
        if "Loader" in node["class_type"]:
            self._load()
        inputs = {name: self._value(value) for name, value in node["inputs"].items()}
        shown: Json = {}
        if self._info(node_id)["output_node"]:
            value, shown = Value(), self._put_out(node_id, node["class_type"], inputs)
        elif node["class_type"] in ("LoadImage", "LoadImageMask"):
            value = load(self._machine.files.find(inputs["image"]) or b"")
        else:
            value = evaluate(node["class_type"], inputs)
        if node["class_type"] in _SAMPLERS:
            self._sample(node_id, value)
        self._values[node_id] = value
        self._machine.cache[self._plan.key(node_id)] = value, shown
        self._executed.append(node_id)
        self._tell_output(node_id, shown)
        last = self._tell.progress[node_id]
        self._tell.report(node_id, last["value"] or 1.0, last["max"], "finished")

    def _repeat(self, node_id: str) -> None:
        """Tell of a cached output node: `executed` with the old files, but never `executing`."""
        value, shown = self._machine.cache[self._plan.key(node_id)]
        self._values[node_id] = value
        if self._info(node_id)["output_node"]:
            self._tell_output(node_id, shown)
            self._tell.report(node_id, 1, 1, "finished")

    def _load(self) -> None:
        """Load a model: silent, and deaf to interrupts."""
        if not self._loading_seen:
            self._loading_seen = True
            self._pause("loading")
        if self._controls.use("node_error") is not None:
            path = "/srv/ComfyUI/models/checkpoints/unknown_arch.safetensors"
            raise NodeError("RuntimeError", f"ERROR: Could not detect model type of: {path}\n\n")

    def _sample(self, node_id: str, value: Value) -> None:
        """Take the steps, with an interrupt seen at the next border."""
        self._samplers += 1
        planned = self._controls.options("out_of_memory") or {}
        failure = self._controls.use("out_of_memory") if self._samplers > planned.get("after", 0) else None
        if failure is not None:
            raise NodeError(*OUT_OF_MEMORY[failure.get("text", "cuda")])
        for step in range(1, value.steps + 1):
            if seconds := self._machine.step_seconds():
                self._state.sleep(seconds)
            self._hang()
            self._check_interrupt()
            self._tell.report(node_id, step, value.steps)
            self._tell_step(node_id, step, value)
            self._strike_socket(f"step:{step}")
            self._pause(f"step:{step}", or_interrupted=True)

    def _tell_step(self, node_id: str, step: int, value: Value) -> None:
        def progress() -> None:
            self._tell.streamed("progress", {"value": step, "max": value.steps}, {"node": node_id})

        if not self._machine.previews():
            return progress()
        image = images.preview(value.width, value.height, value.seed)
        return self._tell.show(image, "jpeg", node_id, progress)

    def _put_out(self, node_id: str, class_type: str, inputs: Json) -> Json:
        """Do what an output node does, and return what history and `executed` show of it."""
        if class_type == "PreviewAny":
            source = inputs["source"]
            return {"text": [source.text if isinstance(source, Value) else str(source)]}
        image: Value = inputs["images"]
        if class_type == "SaveImageWebsocket":
            self._stream_images(node_id, image)
            return {}
        self._pause("saving")
        if class_type == "PreviewImage":
            letters = "".join(random.choices(_LETTERS, k=5))
            shown = self._save(image, "temp", f"ComfyUI_temp_{letters}")
        else:
            shown = self._save(image, "output", inputs["filename_prefix"])
            self._note_rendered()
        self._pause("finishing")
        return {"images": shown}

    def _save(self, image: Value, kind: str, prefix: str) -> list[Json]:
        """Store a batch as numbered files."""
        path = os.path.normpath(_expand(prefix, image))
        if path.startswith(("/", "..")):
            text = "**** ERROR: Saving image outside the output folder is not allowed."
            folder = os.path.normpath(os.path.join("/srv/run/output", os.path.dirname(path)))  # noqa: PTH118, PTH120
            details = f"\n full_output_folder: {folder}\n         output_dir: /srv/run/output\n         commonpath: /"
            raise NodeError("Exception", text + details)
        texts = self._texts()
        shown = []
        for index in range(image.batch):
            data = images.with_texts(self._generate(image, index), texts)
            saved = self._machine.files.save(kind, path.replace("%batch_num%", str(index)), data)
            subfolder, _, filename = saved.rpartition("/")
            shown.append({"filename": filename, "subfolder": subfolder, "type": kind})
        return shown

    def _note_rendered(self) -> None:
        """Note the prompt, once a run."""
        if not self._rendered:
            self._rendered = True
            with self._controls.changed:
                self._machine.rendered.append(self._prompt.prompt_id)
                self._controls.changed.notify_all()

    def _texts(self) -> dict[str, str]:
        """Return the PNG text chunks: the graph, and what the client wants kept beside it."""
        extra = self._prompt.extra_data if isinstance(self._prompt.extra_data, dict) else {}
        more = extra.get("extra_pnginfo") or {}
        return {"prompt": json.dumps(self._graph)} | {name: json.dumps(value) for name, value in more.items()}

    def _generate(self, image: Value, index: int) -> bytes:
        if self._controls.options("black") is not None:
            return images.plain(image.width, image.height)
        return render(image, index, self._machine.image())

    def _stream_images(self, node_id: str, image: Value) -> None:
        for index in range(image.batch):
            self._tell.report(node_id, index, image.batch)

            def progress(index: int = index) -> None:
                self._tell.streamed("progress", {"value": index, "max": image.batch}, {"node": node_id})

            self._tell.show(self._generate(image, index), "png", node_id, progress)

    def _tell_output(self, node_id: str, shown: Json) -> None:
        if shown:
            self._outputs[node_id] = shown
            self._tell.addressed("executed", {"node": node_id, "display_node": node_id, "output": shown})

    def _fail(self, node_id: str, kind: str, message: str) -> None:
        given = self._graph[node_id]["inputs"] if node_id else {}
        data = self._where(node_id) | {
            "exception_message": message if message.endswith("\n") else f"{message}\n",
            "exception_type": kind,
            "traceback": ['  File "execution.py", line N, in execute (cut)'],
            "current_inputs": {name: [_inspect(value)] for name, value in given.items()},
            "current_outputs": list(self._graph),
        }
        self._tell.message("execution_error", data)

    def _where(self, node_id: str) -> Json:
        node_type = self._graph[node_id]["class_type"] if node_id else ""
        return {"node_id": node_id, "node_type": node_type, "executed": list(self._executed)}

    # -- what is to be done -----------------------------------------------------------------------

    def _prune_cache(self) -> None:
        """Keep what this prompt can use again; a fault must not be hidden by the cache."""
        if any(self._controls.options(name) is not None for name in ("node_error", "out_of_memory", "stuck", "black")):
            self._machine.cache.clear()
        keys = self._plan.keys()
        self._machine.cache = {key: kept for key, kept in self._machine.cache.items() if key in keys}

    def _value(self, given: Any) -> Any:
        """Return an input: a plain one as it is, a linked one as the node's value, fresh or cached."""
        if not self._plan.is_link(given):
            return given
        node_id = given[0]
        if node_id not in self._values:
            self._values[node_id] = self._machine.cache[self._plan.key(node_id)][0]
        return self._values[node_id]

    def _info(self, node_id: str) -> NodeInfo:
        info = self._machine.node_info(self._graph[node_id]["class_type"])
        if info is None:  # removed after the prompt was queued
            raise NodeError("KeyError", f"'{self._graph[node_id]['class_type']}'")
        return info

    # -- borders ----------------------------------------------------------------------------------

    def _check_interrupt(self) -> None:
        if self._state.stopped:
            raise Stopped
        if self._state.interrupt_wanted:
            raise _Interrupted

    def _pause(self, point: str, *, or_interrupted: bool = False) -> None:
        state = self._state
        self._controls.pause(point, lambda: state.stopped or (or_interrupted and state.interrupt_wanted))
        if state.stopped:
            raise Stopped

    def _hang(self) -> None:
        state, controls = self._state, self._controls
        if controls.options("stuck") is None:
            return
        with controls.changed:
            controls.changed.wait_for(
                lambda: state.stopped or state.interrupt_wanted or controls.options("stuck") is None
            )

    def _strike_socket(self, point: str) -> None:
        fault = self._controls.options("drop_socket")
        if fault is not None and "after" not in fault and fault.get("at", "execution_start") == point:
            self._controls.use("drop_socket")
            self._machine.audience.drop(self._prompt.client_id)


def _expand(prefix: str, image: Value) -> str:
    """Replace the variables ComfyUI knows in a filename_prefix; %date:...% is the frontend's."""
    now = time.localtime()
    variables = {
        "width": str(image.width),
        "height": str(image.height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for name, value in variables.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix


def _inspect(value: Any) -> Any:
    """Return an input as execution_error shows it: plain, or the text of a tensor."""
    return "tensor([[[[...]]]])" if isinstance(value, list) else value
