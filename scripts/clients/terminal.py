"""A program in a terminal of its own: keys in, screen out. POSIX only."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

ROWS, COLUMNS = 60, 250  #: wide, so that few paths are broken into lines
ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b]*\x1b\\|\x1b[@-Z\\-_=>78]"
)
MOVES = re.compile(r"\x1b\[\d*;?\d*[HfGC]|\x1b\[\d*[ABEF]")
#: What programs ask a terminal, and what it says: cursor position, kind, colours.
QUESTIONS = {
    b"\x1b[6n": b"\x1b[1;1R",
    b"\x1b[c": b"\x1b[?62;22c",
    b"\x1b[0c": b"\x1b[?62;22c",
    b"\x1b]10;?": b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
    b"\x1b]11;?": b"\x1b]11;rgb:0000/0000/0000\x1b\\",
}
KEYS = {"esc": b"\x1b", "ctrl-c": b"\x03", "enter": b"\r", "up": b"\x1b[A", "clear": b"\x15"}


class Terminal:
    """A running program; leaving the `with` block ends it and all that it started."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._log = log
        self._output = bytearray()
        self._written_at = time.monotonic()
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=dict(env),
            start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    @property
    def text(self) -> str:
        """All that was written so far, as text without colours; a cursor movement counts as a space."""
        written = self._output.decode("utf-8", "replace")
        return ESCAPE.sub("", MOVES.sub(" ", written))

    @property
    def ended(self) -> bool:
        """Whether the program has ended."""
        return self._process.poll() is not None

    @property
    def quiet_seconds(self) -> float:
        """How long nothing has been written."""
        return time.monotonic() - self._written_at

    def press(self, keys: str) -> None:
        """Press keys by name, separated by spaces, e.g. "esc esc"."""
        for key in keys.split():
            self._write(KEYS[key])
            time.sleep(0.3)  # pressed together they would be another key

    def type(self, text: str) -> None:
        """Type as a person does, key by key."""
        for letter in text:
            self._write(letter.encode())
            time.sleep(0.01)
        time.sleep(0.5)  # else a client takes it for pasted text, in which Enter is a line break

    def _write(self, keys: bytes) -> None:
        with suppress(OSError):  # the program has ended
            os.write(self._master, keys)

    def end(self) -> None:
        """End the program's process group: politely, and after 3 seconds by force."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            if self._gone_within(3):
                break
        self._process.wait()
        self._log.write_bytes(bytes(self._output))

    def _gone_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._process.poll()
            try:
                os.killpg(self._process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)
        return False

    def _read(self) -> None:
        while True:
            try:
                got = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has the other side open
                return
            if not got:
                return
            self._output += got
            self._written_at = time.monotonic()
            for question, answer in QUESTIONS.items():
                if question in got:
                    self._write(answer)


def _take_terminal() -> None:
    """Make the terminal the controlling one, so that Ctrl-C becomes a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
