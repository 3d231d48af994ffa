"""The server as clients start it: a process that speaks JSON-RPC over stdin and stdout."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui_server import ComfyUIServer
from tests.processes import HEARS_CTRL_C

HANDSHAKE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
GENERATE = {"name": "generate_image", "arguments": {"prompt": "a red apple", "width": 64, "height": 64, "seed": 7}}


class Server:
    """One server process; `said` holds every line of its stdout."""

    def __init__(self, environment: dict[str, str], *, code: str = "", folder: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *(("-c", code) if code else ("-m", "mcp_image_gen_local"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=folder,
            **HEARS_CTRL_C,
        )
        self.said: list[bytes] = []
        self._ids = iter(range(1, 1000))

    def send(self, method: str, params: dict[str, Any] | None = None, *, answer: bool = True) -> int:
        """Send a request, or a notification, and return its id."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        if answer:
            message["id"] = next(self._ids)
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()
        return message.get("id", 0)

    def read(self) -> dict[str, Any]:
        """Return the next message."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read().decode()
        self.said.append(line)
        return json.loads(line)

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of a request; notifications before it are kept in `said`."""
        wanted = self.send(method, params)
        while (message := self.read()).get("id") != wanted:
            pass
        return message["result"]

    def handshake(self) -> dict[str, Any]:
        """Initialize."""
        result = self.ask("initialize", HANDSHAKE)
        self.send("notifications/initialized", answer=False)
        return result

    def close(self) -> tuple[int, str]:
        """Close stdin; return exit code and stderr once the process has ended."""
        self.process.stdin.close()
        code = self.process.wait(timeout=30)
        self.said += self.process.stdout.readlines()
        return code, self.process.stderr.read().decode()


@pytest.fixture
def spawn(comfyui: ComfyUIServer, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server on the test's ComfyUI; what still runs at the end is killed."""
    started: list[Server] = []

    def start(*, code: str = "", folder: Path | None = None, without: str = "", **environment: str) -> Server:
        ours = {"COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": str(tmp_path / "images"), **environment}
        whole = {name: value for name, value in {**os.environ, **ours}.items() if name not in without.split()}
        server = Server(whole, code=code, folder=folder)
        started.append(server)
        alarm = threading.Timer(25, server.process.kill)  # a read that waits for ever ends with the process
        alarm.daemon = True
        alarm.start()
        server.alarm = alarm
        return server

    yield start
    for server in started:
        server.alarm.cancel()
        server.process.kill()
        server.process.wait()
        for stream in (server.process.stdin, server.process.stdout, server.process.stderr):
            stream.close()


def test_stdout_holds_json_alone(spawn, comfyui: ComfyUIServer):
    """A client connects lists and generates and stdout holds json alone."""
    server = spawn(IMAGE_GEN_LOG_LEVEL="debug")
    assert server.handshake()["serverInfo"]["name"] == "mcp-image-gen"
    assert len(server.ask("tools/list")["tools"]) == 5
    result = server.ask("tools/call", {**GENERATE, "_meta": {"progressToken": "p"}})
    assert result["isError"] is False
    assert "structuredContent" not in result
    assert [block["type"] for block in result["content"]] == ["text", "image"]
    facts = json.loads(result["content"][0]["text"].splitlines()[0])
    assert Path(facts["path"]).is_file()
    code, log = server.close()
    assert code == 0
    messages = [json.loads(line) for line in server.said]
    told = [m["params"] for m in messages if m.get("method") == "notifications/progress"]
    assert [p["message"].split(" (")[0] for p in told if "step" in p["message"]] == [
        f"generating, step {step}/4" for step in range(1, 5)
    ]
    assert {m["jsonrpc"] for m in messages} == {"2.0"}
    assert facts["prompt_id"] in log
    assert "red apple" not in log
    comfyui.wait_until(lambda s: s.sockets == 0)


def test_it_starts_while_comfyui_is_off(spawn, comfyui: ComfyUIServer):
    """It starts while ComfyUI is off and generates once it is on."""
    comfyui.stop()
    server = spawn()
    server.handshake()
    result = server.ask("tools/call", GENERATE)
    assert result["isError"] is True
    line, sentence = result["content"][0]["text"].split("\n")
    assert json.loads(line)["error"]["code"] == "engine_unreachable"
    assert sentence == f"ComfyUI not reachable at {comfyui.url}. Start with: python main.py --listen 127.0.0.1"
    comfyui.start()
    assert server.ask("tools/call", GENERATE)["isError"] is False
    code, log = server.close()
    assert code == 0
    assert "Traceback" not in log


def test_no_request_before_a_tool_needs_it(spawn, comfyui: ComfyUIServer, tmp_path: Path):
    """No request goes out before a tool needs the engine."""
    server = spawn()
    server.handshake()
    assert len(server.ask("tools/list")["tools"]) == 5
    server.ask("tools/call", {"name": "get_output_directory", "arguments": {}})
    assert server.close() == (0, "")
    assert comfyui.requests == []
    assert not (tmp_path / "images").exists()


def test_closed_stdin_leaves_the_job_running(spawn, comfyui: ComfyUIServer, tmp_path: Path):
    """Stdin closed in the middle of a call leaves the job running for the next server.

    The client may only have been restarted: its image is fetched and saved as soon as a server works again.
    """
    comfyui.hold("step:1")
    first = spawn()
    first.handshake()
    first.send("tools/call", GENERATE)
    comfyui.wait_reached("step:1", timeout=20)
    assert first.close()[0] == 0
    assert (comfyui.interrupted, comfyui.queue_remaining) == ([], 1)
    comfyui.release("step:1")
    second = spawn()
    second.handshake()
    second.ask("tools/call", {"name": "get_generation_status", "arguments": {"prompt_id": "unknown"}})
    comfyui.wait_until(lambda s: any(seen.path == "/view" and "filename" in seen.query for seen in s.requests))
    lost = {"name": "get_generation_status", "arguments": {"prompt_id": comfyui.prompts[0]["prompt_id"]}}
    facts = json.loads(second.ask("tools/call", lost)["content"][0]["text"].splitlines()[0])
    assert (facts["status"], facts["seed"]) == ("done", 7)
    assert [str(path) for path in (tmp_path / "images").iterdir()] == [facts["path"]]
    assert len(comfyui.rendered) == 1


def test_a_cancelled_request_cancels_its_job(spawn, comfyui: ComfyUIServer):
    """A cancelled request cancels its job and the server continues."""
    comfyui.hold("step:1")
    server = spawn()
    server.handshake()
    request = server.send("tools/call", GENERATE)
    comfyui.wait_reached("step:1", timeout=20)
    server.send("notifications/cancelled", {"requestId": request}, answer=False)
    comfyui.wait_until(lambda s: s.interrupted == [s.prompts[0]["prompt_id"]])
    comfyui.release("step:1")
    assert server.ask("tools/call", GENERATE)["isError"] is False


def test_a_job_left_by_one_process(spawn, comfyui: ComfyUIServer):
    """A job left running by one process is returned by the next. Clients restart their servers all the time."""
    comfyui.hold("step:1")
    first = spawn(IMAGE_GEN_WAIT_SECONDS="0.2")
    first.handshake()
    answer = first.ask("tools/call", GENERATE)["content"][0]["text"]
    prompt_id = json.loads(answer.splitlines()[0])["prompt_id"]
    comfyui.wait_reached("step:1", timeout=20)
    assert first.close() == (0, "")
    assert (comfyui.interrupted, comfyui.queue_remaining) == ([], 1)
    comfyui.release("step:1")
    second = spawn()
    second.handshake()
    result = second.ask("tools/call", {"name": "get_generation_status", "arguments": {"prompt_id": prompt_id}})
    assert [block["type"] for block in result["content"]] == ["text", "image"]
    assert json.loads(result["content"][0]["text"].splitlines()[0])["seed"] == 7


def test_what_is_no_json_does_not_end_the_server(spawn):
    server = spawn()
    server.process.stdin.write(b"hello\n\n{\xff}\n")
    server.process.stdin.flush()
    server.handshake()
    assert len(server.ask("tools/list")["tools"]) == 5


@pytest.mark.parametrize("name", ["IMAGE_GEN_WAIT_SECONDS", "COMFYUI_URL"])
def test_a_bad_variable_ends_it_at_once_with_one_line(spawn, name: str):
    server = spawn(**{name: "nope"})
    code, log = server.close()
    assert (code, server.said) == (2, [])
    assert log.startswith(f"mcp-image-gen: A setting cannot be read. {name}: ")
    assert log.count("\n") == 1


def test_the_library_client_generates_too(comfyui: ComfyUIServer, tmp_path: Path):
    """FastMCP's own, in the newest protocol."""
    import asyncio

    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    environment = {"COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": str(tmp_path)}

    async def generate() -> list[str]:
        transport = StdioTransport(sys.executable, ["-m", "mcp_image_gen_local"], env={**os.environ, **environment})
        async with Client(transport) as client:
            result = await client.call_tool_mcp(GENERATE["name"], GENERATE["arguments"])
            return [block.type for block in result.content]

    assert asyncio.run(generate()) == ["text", "image"]


@pytest.mark.parametrize(
    ("line", "code", "answered"),
    [
        (b"this is no JSON", -32700, None),
        (b'{"jsonrpc": "2.0", "id": 9, "method": "ping"', -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"\xff\xfe{}", -32700, None),
        (b"x" * 10_000_000, -32700, None),
        (b"5", -32600, None),
        (b"[]", -32600, None),
        (b'{"id": 9}', -32600, 9),
        (b'{"jsonrpc": "1.0", "id": "nine", "method": "ping"}', -32600, "nine"),
        (b'{"jsonrpc": "2.0", "id": 9, "method": 5}', -32600, 9),
    ],
    ids=["text", "cut", "deep", "bytes", "long", "number", "list", "id", "version", "method"],
)
def test_a_line_that_is_no_message_is_answered(spawn, line: bytes, code: int, answered: object):
    """And the next one is served."""
    server = spawn()
    server.handshake()
    server.process.stdin.write(line + b"\n")
    server.process.stdin.flush()
    answer = server.read()
    assert (answer["error"]["code"], answer["id"]) == (code, answered)
    assert server.ask("tools/list")["tools"]


def test_blank_lines_and_a_byte_order_mark_do_no_harm(spawn):
    server = spawn()
    server.process.stdin.write(b"\xef\xbb\xbf\r\n\n  \n")
    server.handshake()
    server.process.stdin.write(b"\r\n")
    assert server.ask("tools/list")["tools"]
    assert server.close()[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("tries", range(3))
def test_two_interrupts_at_once_end_it(spawn, comfyui: ComfyUIServer, tries: int):
    """Terminal and client both send one for one Ctrl-C; the job is withdrawn all the same."""
    server = spawn()
    server.handshake()
    comfyui.hold("step:1")
    server.send("tools/call", GENERATE)
    comfyui.wait_reached("step:1", 20)
    for _ in range(2):
        server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=20) == 0
    assert comfyui.interrupted == [comfyui.prompts[0]["prompt_id"]]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_sigterm_ends_it_and_no_job(spawn, comfyui: ComfyUIServer, cancelled: bool):
    """A call that was cancelled just before takes its job back all the same."""
    server = spawn()
    server.handshake()
    comfyui.hold("step:1")
    call = server.send("tools/call", GENERATE)
    comfyui.wait_reached("step:1", 20)
    if cancelled:
        server.send("notifications/cancelled", {"requestId": call, "reason": "by caller"}, answer=False)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) == 0
    assert comfyui.interrupted == ([comfyui.prompts[0]["prompt_id"]] if cancelled else [])


HOMELESS = """
import pwd
def unknown(*_):
    raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = unknown
from mcp_image_gen_local.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="accounts")
@pytest.mark.parametrize("has_folders", [True, False])
def test_it_starts_without_a_home_and_an_account(spawn, has_folders: bool, tmp_path: Path):
    without = "HOME XDG_DATA_HOME XDG_CONFIG_HOME" + ("" if has_folders else " IMAGE_OUTPUT_DIR IMAGE_GEN_STATE_DIR")
    server = spawn(code=HOMELESS, folder=tmp_path, without=without)
    server.handshake()
    assert server.ask("tools/list")["tools"]
    result = server.ask("tools/call", GENERATE)
    assert result["isError"] is not has_folders
    if not has_folders:
        assert "set IMAGE_OUTPUT_DIR to another folder" in result["content"][0]["text"]
    assert not list(tmp_path.rglob("no-home*"))


def test_a_strangers_env_file_is_not_read(spawn, tmp_path: Path):
    """Clients start the server in the project that they open."""
    (tmp_path / ".env").write_text("FASTMCP_LOG_LEVEL=nonsense\nFASTMCP_MASK_ERROR_DETAILS=banana\n")
    server = spawn(folder=tmp_path)
    assert server.handshake()
    assert server.ask("tools/call", GENERATE)["isError"] is False


def test_a_wrong_call_leaves_the_log_empty(spawn):
    server = spawn()
    server.handshake()
    result = server.ask("tools/call", {"name": "generate_image", "arguments": {"prompt": "a", "steps": "many"}})
    assert result["isError"] is True
    assert server.close() == (0, "")


def test_progress_token_0_gets_progress(spawn):
    server = spawn()
    server.handshake()
    server.ask("tools/call", {**GENERATE, "_meta": {"progressToken": 0}})
    told = [json.loads(line) for line in server.said if b"notifications/progress" in line]
    assert {each["params"]["progressToken"] for each in told} == {0}
    assert {each["params"]["total"] for each in told} == {100.0}
