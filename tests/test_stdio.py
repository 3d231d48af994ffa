"""The server as clients start it: a process that speaks JSON-RPC over stdin and stdout."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui_server import ComfyUIServer

HANDSHAKE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
GENERATE = {"name": "generate_image", "arguments": {"prompt": "a red apple", "width": 64, "height": 64, "seed": 7}}


class Server:
    """One server process; `said` holds every line of its stdout."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_image_gen_local"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
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

    def start(**environment: str) -> Server:
        ours = {"COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": str(tmp_path / "images"), **environment}
        server = Server({**os.environ, **ours})
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
    assert [block["type"] for block in result["content"]] == ["text", "image", "resource_link"]
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
    assert [block["type"] for block in result["content"]] == ["text", "image", "resource_link"]
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

    assert asyncio.run(generate()) == ["text", "image", "resource_link"]
