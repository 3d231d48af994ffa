"""Streamable HTTP: as it is served by `mcp-image-gen serve --http`."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from tests.answers import Answer
from tests.comfyui_server import ComfyUIServer
from tests.processes import HEARS_CTRL_C
from tests.server.test_asked_again import withdraw

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}
TOKEN = {"IMAGE_GEN_HTTP_TOKEN": "a-long-random-text"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """One server process and its address."""

    def __init__(self, arguments: list[str], environment: dict[str, str], **options: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_image_gen_local", "serve", "--http", "--port", str(self.port), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **{**HEARS_CTRL_C, **options},
        )

    def wait_until_it_answers(self) -> None:
        """Return once uvicorn has said that it runs."""
        for line in self.process.stderr:
            if "Uvicorn running" in line:
                return
        pytest.fail(f"the server ended with {self.process.wait()}")

    def ended(self) -> str:
        """End the server and return what it has written to stderr since it answers."""
        self.process.terminate()
        return self.process.communicate(timeout=30)[1]

    def post(self, **headers: str) -> int:
        """Return the HTTP status of an initialize."""
        return httpx2.post(self.url, json=INITIALIZE, headers={**ACCEPT, **headers}, trust_env=False).status_code


@pytest.fixture
def serve(comfyui: ComfyUIServer, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return a function that serves on a free port; what still runs at the end is killed."""
    started: list[Served] = []

    def start(*arguments: str, options: dict[str, Any] | None = None, **environment: str) -> Served:
        ours = {
            "COMFYUI_URL": comfyui.url,
            "IMAGE_OUTPUT_DIR": str(tmp_path / "images"),
            "IMAGE_GEN_LOG_LEVEL": "info",
        }
        started.append(Served(list(arguments), {**os.environ, **ours, **environment}, **(options or {})))
        started[-1].wait_until_it_answers()
        return started[-1]

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate()


async def generate(transport: Any, mode: str = "auto") -> Answer:
    async with Client(transport, mode=mode) as client:
        arguments = {"prompt": "a red apple", "width": 64, "height": 64, "seed": 7}
        return Answer(await client.call_tool_mcp("generate_image", arguments))


async def test_clients_of_both_eras_generate_over_http(serve):
    served = serve()
    for mode in ("auto", "legacy"):
        answer = await generate(served.url, mode)
        assert answer.facts["seed"] == 7
        assert answer.image().size == (64, 64)


def test_another_host_or_origin_is_refused(serve):
    """A web page that points its own name at 127.0.0.1 cannot talk to the server."""
    served = serve()
    here = f"127.0.0.1:{served.port}"
    assert served.post() == 200
    assert served.post(Origin=f"http://{here}") == 200
    assert served.post(Host=f"localhost:{served.port}") == 200
    assert served.post(Host="evil.example") == 421
    assert served.post(Host=f"evil.example:{served.port}") == 421
    assert served.post(Origin="http://evil.example") == 403
    assert served.post(Host=here, Origin="http://evil.example") == 403


async def test_with_a_token_nothing_is_answered_without_it(serve):
    served = serve(**TOKEN)
    assert served.post() == 401
    assert served.post(Authorization="Bearer wrong") == 401
    assert served.post(Authorization="Bearer") == 401
    assert served.post(Authorization="a-long-random-text") == 401
    assert served.post(Authorization="Bearer a-long-random-text") == 200
    transport = StreamableHttpTransport(served.url, headers={"Authorization": "Bearer a-long-random-text"})
    assert (await generate(transport)).facts["status"] == "done"


def test_the_token_guards_beyond_this_machine(serve):
    """Beyond this machine the token guards and any name is taken."""
    served = serve("--host", "0.0.0.0", **TOKEN)
    bearer = {"Authorization": "Bearer a-long-random-text"}
    assert served.post(Host="gpu.lan") == 401
    assert served.post(Host="gpu.lan", **bearer) == 200


def test_names_in_the_settings_are_answered(serve):
    """A client in a container addresses the server by another name; a page of another server may ask."""
    served = serve(
        IMAGE_GEN_HTTP_ALLOWED_HOSTS="host.docker.internal:8765, *.lan",
        IMAGE_GEN_HTTP_ALLOWED_ORIGINS="open-webui,https://app.example:444",
    )
    assert served.post() == 200
    assert served.post(Host=f"host.docker.internal:{served.port}") == 200
    assert served.post(Host="HOST.docker.internal") == 200
    assert served.post(Host="gpu.lan") == 200
    assert served.post(Host="evil.example") == 421
    assert served.post(Host="host.docker.internal.evil.example") == 421
    assert served.post(Origin="http://open-webui:3000") == 200
    assert served.post(Origin="https://open-webui") == 200
    assert served.post(Origin="https://app.example:444") == 200
    assert served.post(Origin="http://app.example:444") == 403
    assert served.post(Origin="https://app.example") == 403
    assert served.post(Origin="http://evil.example") == 403


def test_names_also_limit_beyond_this_machine(serve):
    served = serve("--host", "0.0.0.0", **TOKEN, IMAGE_GEN_HTTP_ALLOWED_HOSTS="gpu.lan")
    bearer = {"Authorization": "Bearer a-long-random-text"}
    assert served.post(Host="gpu.lan", **bearer) == 200
    assert served.post(Host="other.lan", **bearer) == 421


def test_a_refused_name_is_told_once(serve):
    """The log names the host or origin that was refused and the setting that lets it pass, once a minute."""
    served = serve(IMAGE_GEN_LOG_LEVEL="info")
    for _ in range(3):
        assert served.post(Host="host.docker.internal:8765") == 421
        assert served.post(Origin=f"http://{'x' * 5000}.example") == 403
    told = [line for line in served.ended().splitlines() if "was refused" in line]
    assert len(told) == 2
    assert "'host.docker.internal:8765'. If you trust that name, add it to IMAGE_GEN_HTTP_ALLOWED_HOSTS" in told[0]
    assert "xxx…'. If you trust that name, add it to IMAGE_GEN_HTTP_ALLOWED_ORIGINS" in told[1]
    assert len(told[1]) < 400


@pytest.mark.parametrize("name", ["*", "http://*", "*.*", "*:8765"])
def test_any_name_needs_a_token(name: str):
    """A pattern that every name fits is refused while no token guards."""
    done = subprocess.run(
        [sys.executable, "-m", "mcp_image_gen_local", "serve", "--http", "--port", str(free_port())],
        env={**os.environ, "IMAGE_GEN_HTTP_ALLOWED_HOSTS": name},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "IMAGE_GEN_HTTP_ALLOWED_HOSTS lets any web page use this server" in done.stderr


def test_the_media_type_is_read_in_any_case(serve):
    served = serve()
    assert served.post(**{"Content-Type": "APPLICATION/JSON; charset=utf-8"}) == 200
    assert served.post(**{"Content-Type": "text/plain"}) == 400


@pytest.mark.skipif(os.name == "nt", reason="lowers a POSIX limit")
def test_half_open_connections_stop_nobody(serve):
    """While others hold more connections than files may be open, a client is answered and the log stays short."""
    import resource

    def few_files() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    served = serve(**TOKEN, options={"preexec_fn": few_files})
    with ExitStack() as stack:
        for _ in range(100):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=30))
            half.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-")
        assert served.post(Authorization="Bearer a-long-random-text") == 200
    assert len(served.ended().splitlines()) < 100


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_ends_it_also_while_a_client_listens(serve):
    served = serve()
    with httpx2.Client(trust_env=False, headers=ACCEPT) as client:
        session = client.post(served.url, json=INITIALIZE).headers["mcp-session-id"]
        with client.stream("GET", served.url, headers={"Mcp-Session-Id": session}) as events:
            assert events.status_code == 200
            served.process.send_signal(signal.SIGINT)
            assert served.process.wait(timeout=30) == 0
    out, err = served.process.communicate()
    assert out == ""
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_told(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "mcp_image_gen_local", "serve", "--http", "--port", str(taken.getsockname()[1])],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


# -- clients that leave -------------------------------------------------------------------------------------------

CALL = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "generate_image", "arguments": {"prompt": "x", "width": 64, "height": 64, "seed": 5}},
}


def test_a_handshake_client_that_disconnects(serve, comfyui: ComfyUIServer, tmp_path: Path):
    """A client of the handshake that disconnects leaves its job running."""
    comfyui.hold("step:1")
    served = serve()
    with httpx2.Client(trust_env=False, headers=ACCEPT) as client:
        session = {"Mcp-Session-Id": client.post(served.url, json=INITIALIZE).headers["mcp-session-id"]}
        client.post(served.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
        with client.stream("POST", served.url, json=CALL, headers=session) as reply:
            assert reply.status_code == 200
            comfyui.wait_reached("step:1", timeout=20)
    comfyui.release("step:1")
    comfyui.wait_until(lambda server: any(seen.path == "/view" for seen in server.requests), timeout=10)
    assert comfyui.interrupted == []
    comfyui.wait_until(lambda server: server.sockets == 0, timeout=10)  # the job has ended
    status = {"name": "get_generation_status", "arguments": {"prompt_id": comfyui.prompts[0]["prompt_id"]}}
    with httpx2.Client(trust_env=False, headers={**ACCEPT, **session}) as client:
        answer = client.post(served.url, json={**CALL, "id": 3, "params": status}).text
    assert '\\"status\\": \\"done\\"' in answer
    assert len(list((tmp_path / "images").iterdir())) == 1


def test_a_handshake_client_that_cancels(serve, comfyui: ComfyUIServer):
    """A client of the handshake that cancels takes its job back."""
    comfyui.hold("step:1")
    served = serve()
    with httpx2.Client(trust_env=False, headers=ACCEPT) as client:
        session = {"Mcp-Session-Id": client.post(served.url, json=INITIALIZE).headers["mcp-session-id"]}
        client.post(served.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session)
        with client.stream("POST", served.url, json=CALL, headers=session):
            comfyui.wait_reached("step:1", timeout=20)
            cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
            client.post(served.url, json=cancelled, headers=session)
            comfyui.wait_until(lambda server: server.interrupted == [server.prompts[0]["prompt_id"]], timeout=10)


async def test_a_session_gets_its_own_job_only(serve, comfyui: ComfyUIServer):
    """The same request after a time-out returns the job of that session, and none of another client's."""
    served = serve()
    arguments = {"prompt": "a red apple", "width": 64, "height": 64, "seed": 7}
    async with Client(served.url, mode="legacy") as one, Client(served.url, mode="legacy") as other:
        comfyui.hold("step:1")
        call = asyncio.ensure_future(one.call_tool_mcp("generate_image", arguments))
        await comfyui.reached("step:1", timeout=20)
        await withdraw(one, call, "Request timed out")
        comfyui.release("step:1")
        theirs = Answer(await other.call_tool_mcp("generate_image", arguments))
        ours = Answer(await one.call_tool_mcp("generate_image", arguments))
    prompt_ids = [prompt["prompt_id"] for prompt in comfyui.prompts]
    assert [answer.facts["prompt_id"] for answer in (ours, theirs)] == prompt_ids
    assert "of the call that timed out at" in ours.story
    assert "of the call that" not in theirs.story


async def test_a_modern_client_that_disconnects(serve, comfyui: ComfyUIServer):
    """A client of the newest protocol that disconnects takes its job back.

    Closing the response is how that protocol cancels.
    """
    comfyui.hold("step:1")
    served = serve()
    async with Client(served.url) as client:
        call = asyncio.ensure_future(client.call_tool_mcp(CALL["params"]["name"], CALL["params"]["arguments"]))
        await comfyui.reached("step:1", timeout=20)
        call.cancel()
        await comfyui.until(lambda server: server.interrupted == [server.prompts[0]["prompt_id"]], timeout=10)
