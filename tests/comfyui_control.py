"""The switches by which a test steers the ComfyUI test double: faults and gates."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

FAULTS: dict[str, str] = {
    "deaf_socket": (
        "The WebSocket stays open and answers pings, but sends nothing after its greeting, "
        "or with after=N nothing after N text messages about prompts."
    ),
    "drop_socket": (
        'The prompt\'s socket is closed abruptly; at="execution_start" (default) or "step:N", '
        "or once (times=1) after=N text messages about prompts."
    ),
    "no_socket": "The WebSocket handshake is answered with 404.",
    "lost_reply": "POST /prompt queues the item, but the connection is cut without a reply.",
    "lost_request": "POST /prompt is read, but queues nothing, and the connection is cut without a reply.",
    "late_prompt": "POST /prompt is cut without a reply, and its item is queued seconds=0.05 after that.",
    "reply_500": "POST /prompt queues the item, yet answers 500 text/plain.",
    "refuse_500": "POST /prompt answers 500 text/plain and queues nothing.",
    "html": "Every request is answered 200 with an HTML page, as by a login portal or a wrong port.",
    "unauthorized": 'Everything answers 401 without header=("Authorization", "Bearer x").',
    "history_late": "/history/{id} is still {} for the first reads=1 reads after the end.",
    "history_empty": "A finished prompt never appears in the history.",
    "out_of_memory": 'The sampler fails; text="cuda" (default), "rocm" or "cpu"; after=0 samplers of the prompt.',
    "node_error": "The first loader fails: the model type cannot be detected.",
    "black": "The run succeeds, but every image is uniformly black.",
    "file_gone": "The history names the file, but /view answers 404.",
    "truncated_view": "/view announces the whole length and closes after at=100 bytes, if the file has more.",
    "slow_view": "/view announces the whole length and sends chunk=1 bytes every seconds=0.05.",
    "view_500": "/view answers 500 text/plain.",
    "stalled": (
        'Requests are taken and not answered until the fault is healed; paths=("GET /queue", "GET /history/"): '
        'without a method any is meant, with "/" at the end all below, and "/" is everything.'
    ),
    "stuck": "Sampling hangs until it is interrupted or the fault is healed.",
}

_POINT = re.compile(r"pending|loading|step:\d+|saving|finishing")


class Controls:
    """Faults and gates, safe to use from every thread."""

    def __init__(self) -> None:
        #: Guards all state of one server and is notified of every change of it.
        self.changed = threading.Condition()
        self.heals: Counter[str] = Counter()  #: how often each fault was healed by name
        self._faults: dict[str, dict[str, Any]] = {}
        self._held: set[str] = set()
        self._at: str | None = None

    @property
    def faults(self) -> set[str]:
        """The names of the faults that are on."""
        with self.changed:
            return set(self._faults)

    def fail(self, name: str, **options: Any) -> None:
        """Switch a fault on; `times=N` switches it off again after N uses.

        Its option `told` counts the text messages about prompts that each socket got since.
        """
        if name not in FAULTS:
            raise ValueError(f"Unknown fault {name!r}; one of: {', '.join(FAULTS)}")
        once = {"times": 1} if name == "drop_socket" and "after" in options else {}
        with self.changed:
            self._faults[name] = {"told": Counter()} | once | options
            self.changed.notify_all()

    def heal(self, name: str) -> None:
        """Switch a fault off; one that is not on is fine."""
        if name not in FAULTS:
            raise ValueError(f"Unknown fault {name!r}; one of: {', '.join(FAULTS)}")
        with self.changed:
            self._faults.pop(name, None)
            self.heals[name] += 1
            self.changed.notify_all()

    def options(self, name: str) -> dict[str, Any] | None:
        """Return a fault's options without using it up, or None if it is off."""
        return self._faults.get(name)

    def use(self, name: str) -> dict[str, Any] | None:
        """Return a fault's options if it strikes now, or None; counts one use."""
        if name not in self._faults:
            return None
        with self.changed:
            options = self._faults.get(name)
            if options is not None and "times" in options:
                self._faults[name] = options | {"times": options["times"] - 1}
                if options["times"] <= 1:
                    del self._faults[name]
                    self.changed.notify_all()
            return options

    def hold(self, point: str) -> None:
        """Make the worker stop when it gets to `point`."""
        if not _POINT.fullmatch(point):
            raise ValueError(f"Unknown point {point!r}; one of: pending, loading, step:N, saving, finishing")
        with self.changed:
            self._held.add(point)

    def release(self, point: str) -> None:
        """Let the worker pass `point` from now on."""
        with self.changed:
            self._held.discard(point)
            self.changed.notify_all()

    def wait_reached(self, point: str, timeout: float = 5) -> None:
        """Return when the worker stands at `point`; TimeoutError after `timeout` seconds."""
        self.wait_until(lambda: self._at == point, timeout, f"the worker at {point!r}")

    def wait_until(self, claim: Callable[[], bool], timeout: float = 5, what: str = "the claim") -> None:
        """Return when `claim()` holds, asked at every change; TimeoutError after `timeout` seconds."""
        with self.changed:
            if not self.changed.wait_for(claim, timeout):
                raise TimeoutError(f"Not within {timeout} s: {what} (worker at {self._at!r})")

    def pause(self, point: str, give_up: Callable[[], bool]) -> None:
        """Stand at `point` for as long as it is held and `give_up()` is false; for the worker."""
        if point not in self._held:
            return
        with self.changed:
            self._at = point
            self.changed.notify_all()
            self.changed.wait_for(lambda: point not in self._held or give_up())
            self._at = None
