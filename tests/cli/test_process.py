"""mcp-image-gen as a process of its own: streams, signals, terminals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.comfyui_server import ComfyUIServer
from tests.processes import HEARS_CTRL_C

POSIX = pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal or opens a pseudo-terminal")
COMMAND = [sys.executable, "-m", "mcp_image_gen_local"]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


@pytest.fixture
def environment(comfyui: ComfyUIServer, tmp_path: Path) -> dict[str, str]:
    """The variables of a process on the test's ComfyUI and folder."""
    return {**os.environ, "COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": str(tmp_path / "images")}


@pytest.fixture
def spawn(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts mcp-image-gen; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=environment,
            text=True,
            **HEARS_CTRL_C,
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_generate_prints_the_path_alone(spawn):
    process = spawn("generate", "a red apple", "--width", 64, "--height", 64, "--seed", 7)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert Path(out.removesuffix("\n")).name.endswith("_7.png")
    assert err.startswith("flux1-schnell.safetensors, seed 7, ")


@POSIX
def test_no_argument_on_a_terminal_prints_help(spawn):
    import pty

    controller, terminal = pty.openpty()
    try:
        process = spawn(stdin=terminal)
        out, _ = process.communicate(timeout=20)
    finally:
        os.close(controller)
        os.close(terminal)
    assert process.returncode == 0
    assert out.startswith("Usage: mcp-image-gen COMMAND")


@POSIX
def test_ctrl_c_takes_the_job_back_and_exits_130(spawn, comfyui: ComfyUIServer, tmp_path: Path):
    comfyui.hold("step:1")
    process = spawn("generate", "a red apple", "--width", 64, "--height", 64)
    comfyui.wait_reached("step:1", timeout=20)
    process.send_signal(signal.SIGINT)
    comfyui.wait_until(lambda s: s.interrupted == [s.prompts[0]["prompt_id"]])
    comfyui.release("step:1")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == ("", "Cancelling the job ...\n")
    comfyui.wait_until(lambda s: s.queue_remaining == 0)
    assert list((tmp_path / "images").iterdir()) == []


@POSIX
def test_ctrl_c_cancels_its_queued_job_alone(spawn, comfyui: ComfyUIServer):
    """Ctrl-C takes a waiting job off the queue and no other."""
    comfyui.hold("step:1")
    first = spawn("generate", "first", "--width", 64, "--height", 64)
    comfyui.wait_reached("step:1", timeout=20)
    second = spawn("generate", "second", "--width", 64, "--height", 64)
    comfyui.wait_until(lambda s: s.queue_remaining == 2, timeout=20)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=30)
    assert second.returncode == 130
    assert comfyui.deleted == [comfyui.prompts[1]["prompt_id"]]
    comfyui.release("step:1")
    out, _ = first.communicate(timeout=30)
    assert (first.returncode, comfyui.interrupted) == (0, [])
    assert Path(out.strip()).is_file()


@POSIX
def test_ctrl_c_ends_a_server_whose_stdin_stays_open(spawn):
    process = spawn("serve")
    process.stdin.write(json.dumps(INITIALIZE) + "\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""


@POSIX
def test_ctrl_c_cancels_jobs_of_running_calls(spawn, comfyui: ComfyUIServer):
    """Ctrl-C on a server takes the jobs of running calls back."""
    comfyui.hold("step:1")
    process = spawn("serve")
    call = {"name": "generate_image", "arguments": {"prompt": "x", "width": 64, "height": 64}}
    for message in (
        INITIALIZE,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ):
        process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()
    comfyui.wait_reached("step:1", timeout=20)
    process.send_signal(signal.SIGINT)
    comfyui.wait_until(lambda s: s.interrupted == [s.prompts[0]["prompt_id"]])
    assert process.wait(timeout=30) == 0
