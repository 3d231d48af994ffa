"""Processes that tests start."""

import signal
import sys
from typing import Any

#: For Popen: Ctrl-C ends the process also where the tests run in a shell's background, which ignores it for all.
HEARS_CTRL_C: dict[str, Any] = (
    {} if sys.platform == "win32" else {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
)
