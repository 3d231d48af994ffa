"""What a ComfyUI process remembers: its queue and history, and the files on its disk."""

import heapq
import posixpath
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.comfyui_control import Controls

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One queued graph."""

    number: float
    prompt_id: str
    graph: Json
    extra_data: Any  #: a dict as a rule; ComfyUI takes anything
    outputs: list[str]  #: output nodes to run

    @property
    def client_id(self) -> str | None:
        """Whose socket gets the events; None: everybody's gets some."""
        return self.extra_data.get("client_id") if isinstance(self.extra_data, dict) else None

    def as_item(self) -> list[Any]:
        """Return the 5-tuple that /queue and /history show."""
        return [self.number, self.prompt_id, self.graph, self.extra_data, self.outputs]


class Files:
    """What lies in ComfyUI's folders, by path: "lab/x_00001_.png"."""

    def __init__(self) -> None:
        self.outputs: dict[str, bytes] = {}  #: outlives a restart, as inputs do
        self.inputs: dict[str, bytes] = {}
        self.temp: dict[str, bytes] = {}
        self._counters: dict[tuple[str, str], int] = {}

    def folder(self, kind: str) -> dict[str, bytes]:
        """Return the files of type "output", "input" or "temp"."""
        return {"output": self.outputs, "input": self.inputs, "temp": self.temp}[kind]

    def save(self, kind: str, prefix: str, data: bytes) -> str:
        """Store `data` under the next number of `prefix` and return the path."""
        counter = self._counters.get((kind, prefix), 0) + 1
        self._counters[kind, prefix] = counter
        path = f"{prefix}_{counter:05}_.png"
        self.folder(kind)[path] = data
        return path

    def upload(self, kind: str, subfolder: str, filename: str, data: bytes, *, overwrite: bool) -> str:
        """Store an upload and return the name it got: another one if other bytes hold that name."""
        stem, dot, ending = filename.rpartition(".")
        folder, name, copy = self.folder(kind), filename, 0
        while not overwrite and folder.get(posixpath.join(subfolder, name), data) != data:
            copy += 1
            name = f"{stem} ({copy}){dot}{ending}" if dot else f"{filename} ({copy})"
        folder[posixpath.join(subfolder, name)] = data
        return name

    def find(self, name: str) -> bytes | None:
        """Return what a LoadImage finds under `sub/name.png` or `name.png [output]`."""
        match = re.fullmatch(r"(.*) \[(input|output|temp)\]", name)
        path, kind = (match[1], match[2]) if match else (name, "input")
        return self.folder(kind).get(path)

    def uploads(self) -> list[str]:
        """Return the names that LoadImage offers: the top of the input folder."""
        return sorted(path for path in self.inputs.copy() if "/" not in path)


class State:
    """Queue and history of one run of the server; a restart makes a new one."""

    def __init__(self, controls: Controls, announce: Callable[[int], None], finished: list[str]) -> None:
        self.controls = controls
        self.finished = finished  #: prompt_ids, also of earlier runs of the server
        self.stopped = False
        self.next_number = 0
        self.history: dict[str, Json] = {}
        self.running: Prompt | None = None
        self.interrupt_wanted = False
        self.free_wanted = False
        self._pending: list[tuple[float, str, int, Prompt]] = []
        self._announce = announce
        self._queued = 0
        self._late_reads: dict[str, int] = {}

    @property
    def remaining(self) -> int:
        """How many prompts run or wait."""
        return len(self._pending) + (self.running is not None)

    def queue(self) -> Json:
        """Return the body of GET /queue."""
        with self.controls.changed:
            running = [self.running.as_item()] if self.running else []
            return {"queue_running": running, "queue_pending": [entry[-1].as_item() for entry in self._pending]}

    def put(self, prompt: Prompt) -> None:
        """Queue a prompt and tell everybody."""
        with self.controls.changed:
            self._queued += 1
            heapq.heappush(self._pending, (prompt.number, prompt.prompt_id, self._queued, prompt))
            self._tell()

    def take(self) -> Prompt | None:
        """Wait for the next prompt and make it the running one; None when the server stops."""
        with self.controls.changed:
            while True:
                self.controls.changed.wait_for(lambda: self.stopped or self._pending)
                self.controls.pause("pending", lambda: self.stopped or not self._pending)
                if self.stopped:
                    return None
                if self._pending:
                    self.running = heapq.heappop(self._pending)[-1]
                    self.interrupt_wanted = False
                    self._tell()
                    return self.running

    def finish(self, entry: Json) -> None:
        """Put the running prompt's entry into the history and tell everybody."""
        with self.controls.changed:
            if self.running is None or self.stopped:
                return
            if self.controls.use("history_empty") is None:
                self.history.pop(self.running.prompt_id, None)
                self.history[self.running.prompt_id] = entry
                if entry["status"]["status_str"] == "success":
                    self.finished.append(self.running.prompt_id)
                late = self.controls.use("history_late")
                if late is not None:
                    self._late_reads[self.running.prompt_id] = late.get("reads", 1)
            self.running = None
            self._tell()

    def entry(self, prompt_id: str) -> Json:
        """Return the body of GET /history/{id}."""
        with self.controls.changed:
            if prompt_id not in self.history:
                return {}
            if self._late_reads.get(prompt_id, 0) > 0:
                self._late_reads[prompt_id] -= 1
                return {}
            return {prompt_id: self.history[prompt_id]}

    def delete(self, prompt_ids: list[str]) -> list[str]:
        """Take one copy of each waiting prompt off the queue; return those that were there."""
        with self.controls.changed:
            gone = []
            for prompt_id in prompt_ids:
                for entry in self._pending:
                    if entry[-1].prompt_id == prompt_id:
                        self._pending.remove(entry)
                        heapq.heapify(self._pending)
                        gone.append(prompt_id)
                        break
            if gone:
                self._tell()
            return gone

    def clear(self) -> list[str]:
        """Take all waiting prompts off the queue and return their ids."""
        with self.controls.changed:
            gone = [entry[-1].prompt_id for entry in self._pending]
            self._pending.clear()
            self._tell()
            return gone

    def interrupt(self, prompt_id: str | None) -> str | None:
        """Ask the running prompt to end (None: whichever runs); return its id if one was asked."""
        with self.controls.changed:
            if self.running is None or prompt_id not in (None, self.running.prompt_id):
                return None
            self.interrupt_wanted = True
            self.controls.changed.notify_all()
            return self.running.prompt_id

    def stop(self) -> None:
        """End every wait of the worker, for good."""
        with self.controls.changed:
            self.stopped = True
            self.controls.changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Wait as a sampling step does: nothing but a stop shortens it."""
        deadline = time.monotonic() + seconds
        with self.controls.changed:
            while not self.stopped and (left := deadline - time.monotonic()) > 0:
                self.controls.changed.wait(left)

    def _tell(self) -> None:
        self._announce(self.remaining)
        self.controls.changed.notify_all()
