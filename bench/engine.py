"""The test ComfyUI in its own process, as the bench sees it."""

import json
import queue
import subprocess
import sys
import threading
from typing import Any, Self

import psutil


class ComfyUI:
    """The process of `bench.comfyui`, and what it tells."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.comfyui", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.usage = psutil.Process(self.process.pid)
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.url = self.wait("ready")["url"]

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def wait(self, event: str, **facts: str) -> dict[str, Any]:
        while True:
            told = self.events.get(timeout=30)
            if told["event"] == event and all(told.get(k) == v for k, v in facts.items()):
                return told

    def drain(self) -> list[dict[str, Any]]:
        told = []
        while not self.events.empty():
            told.append(self.events.get())
        return told

    def cpu_seconds(self) -> float:
        times = self.usage.cpu_times()
        return times.user + times.system

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(10)
