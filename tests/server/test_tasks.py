"""generate_image as an MCP task, where IMAGE_GEN_TASKS is true."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mcp.types
import pytest
from fastmcp import Client
from fastmcp.client import extension_hooks
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError
from fastmcp_tasks import ToolTask, call_tool_task
from mcp.shared.exceptions import MCPError

from mcp_image_gen.domain.errors import SettingsInvalid
from mcp_image_gen.server import build_server
from tests.answers import Answer
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.test_http import Served
from tests.test_stdio import DRAW, Server

BOTH_ERAS = pytest.mark.parametrize("era", ["modern", "handshake"])
ON = {"IMAGE_GEN_TASKS": "true"}
EXTRA = ("fastmcp_tasks", "docket", "redis")  #: what [tasks] brings and is slow to import
#: A server on whose machine the extra is not installed.
WITHOUT_EXTRA = f"import sys; sys.modules.update(dict.fromkeys({EXTRA})); from mcp_image_gen.cli import main; main()"
#: A server that says at its end what of the extra it has imported.
TELLING = (
    "import atexit, sys; "
    f"atexit.register(lambda: print('imported:', [m for m in {EXTRA} if m in sys.modules], file=sys.stderr)); "
    "from mcp_image_gen.cli import main; main()"
)


@pytest.fixture
def era() -> str:
    """The era that has tasks."""
    return "modern"


@pytest.fixture
async def caller(connect) -> Caller:
    """A client that knows tasks; a call that is none would not wait for its picture."""
    return await connect(**ON, IMAGE_GEN_WAIT_SECONDS=0)


@pytest.fixture
def environment(comfyui: ComfyUIServer, tmp_path: Path) -> dict[str, str]:
    """What a server process of the test's ComfyUI is started with."""
    return {**os.environ, "COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": str(tmp_path / "pictures")}


@pytest.fixture
def _ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients know nothing of tasks, as they do where nobody has imported fastmcp_tasks."""
    monkeypatch.setattr(extension_hooks, "_internal_client_extension_factories", [])


async def begin(client: Client[Any], **arguments: Any) -> ToolTask:
    """Start to draw as a task."""
    return await call_tool_task(client, DRAW["name"], {**DRAW["arguments"], **arguments})


async def end_of(task: ToolTask) -> Answer:
    """Wait for the task's end and return its result."""
    ended = await task.wait(timeout=10)
    assert ended.status == "completed"
    return Answer(mcp.types.CallToolResult.model_validate(ended.result))


# -- a task -------------------------------------------------------------------------------------------------------


async def test_a_task_ends_with_the_picture_however_short_a_call_would_wait(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    task = await begin(caller.client)
    await comfyui.reached("step:1")
    assert (await task.status()).status == "working"
    comfyui.release("step:1")
    answer = await end_of(task)
    assert (answer.facts["status"], answer.facts["seed"]) == ("done", 7)
    assert [block.type for block in answer.result.content] == ["text", "image", "resource_link"]
    assert answer.result.structured_content is None
    assert answer.picture().size == (64, 64)
    assert Path(answer.facts["path"]).is_file()


async def test_a_client_that_leaves_the_polling_to_its_library_gets_the_picture_from_the_call(caller: Caller):
    answer = await caller.generate()
    assert answer.facts["status"] == "done"
    assert len(answer.images) == 1


async def test_a_running_task_tells_its_step_and_when_to_ask_again(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:3")
    task = await begin(caller.client)
    await comfyui.reached("step:3")
    async with asyncio.timeout(5):
        while "step 3/4" not in ((status := await task.status()).status_message or ""):
            pass
    assert (status.status, status.poll_interval_ms) == ("working", 2000)


async def test_tasks_draw_side_by_side_and_wait_in_comfyui_s_queue(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    tasks = [await begin(caller.client, seed=seed) for seed in range(12)]
    await comfyui.until(lambda server: server.queue_remaining == len(tasks))
    comfyui.release("step:1")
    assert [(await end_of(task)).facts["seed"] for task in tasks] == list(range(12))


async def test_a_job_that_fails_is_a_completed_task_with_an_error(caller: Caller, comfyui: ComfyUIServer):
    comfyui.fail("out_of_memory")
    answer = await end_of(await begin(caller.client))
    assert "ran out of memory" in answer.error


async def test_an_argument_of_the_wrong_kind_is_told_at_once_as_in_a_call(caller: Caller, comfyui: ComfyUIServer):
    answer = await caller.generate(width="wide")
    assert answer.error.startswith("generate_image: width='wide': ")
    assert comfyui.requests == []


# -- cancelling ---------------------------------------------------------------------------------------------------


async def test_cancelling_a_task_takes_its_running_job_from_comfyui(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    task = await begin(caller.client)
    await comfyui.reached("step:1")
    await task.cancel()
    await comfyui.until(lambda server: server.interrupted == [server.prompts[0]["prompt_id"]])
    comfyui.release("step:1")
    await comfyui.until(lambda server: server.queue_remaining == 0)
    assert (await task.status()).status == "cancelled"
    with pytest.raises(ToolError, match="was cancelled"):
        await task


async def test_cancelling_a_task_takes_its_waiting_job_and_leaves_the_other(caller: Caller, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    running = await begin(caller.client)
    await comfyui.reached("step:1")
    waiting = await begin(caller.client, seed=8)
    await comfyui.until(lambda server: server.queue_remaining == 2)
    await waiting.cancel()
    await comfyui.until(lambda server: server.deleted == [server.prompts[1]["prompt_id"]])
    comfyui.release("step:1")
    assert (await end_of(running)).facts["status"] == "done"
    assert comfyui.interrupted == []


async def test_cancelling_a_task_that_has_ended_changes_nothing(caller: Caller, comfyui: ComfyUIServer):
    task = await begin(caller.client)
    await end_of(task)
    await task.cancel()
    assert (await end_of(task)).facts["status"] == "done"
    assert (comfyui.interrupted, comfyui.deleted) == ([], [])


async def test_cancelling_a_task_that_nobody_has_begun_is_an_error(caller: Caller):
    task = await begin(caller.client)
    await end_of(task)
    task.create_result.task_id = "nobody-s"
    with pytest.raises(MCPError):
        await task.cancel()


async def test_a_server_that_stops_leaves_the_jobs_of_its_tasks_running(connect, comfyui: ComfyUIServer):
    """It does not wait for them either: the next server finds them."""
    comfyui.hold("step:1")
    first = await connect(**ON)
    await begin(first.client)
    await comfyui.reached("step:1")
    await first.client.close()
    assert (comfyui.interrupted, comfyui.queue_remaining) == ([], 1)
    comfyui.release("step:1")
    second = await connect(**ON)
    answer = await second.call("get_generation_status", prompt_id=comfyui.prompts[0]["prompt_id"])
    assert answer.facts["status"] == "done"
    assert len(comfyui.rendered) == 1


# -- clients that know no tasks -----------------------------------------------------------------------------------


@BOTH_ERAS
@pytest.mark.usefixtures("_ordinary")
async def test_an_ordinary_client_sees_the_same_tools(connect):
    with_tasks, without = await connect(**ON), await connect()
    assert await with_tasks.client.list_tools() == await without.client.list_tools()


@BOTH_ERAS
@pytest.mark.usefixtures("_ordinary")
async def test_an_ordinary_client_waits_as_long_as_ever_and_gets_progress(connect, comfyui: ComfyUIServer):
    comfyui.hold("step:2")
    caller = await connect(**ON, IMAGE_GEN_WAIT_SECONDS=0.5)
    handle = await caller.generate()
    assert handle.facts["status"] in ("queued", "running")
    assert caller.progress
    comfyui.release("step:2")
    answer = await connect(**ON)
    answer = await answer.call("get_generation_status", prompt_id=handle.facts["prompt_id"])
    assert len(answer.images) == 1


@BOTH_ERAS
@pytest.mark.usefixtures("_ordinary")
async def test_an_ordinary_client_s_cancel_takes_the_job(connect, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    caller = await connect(**ON)
    call = asyncio.ensure_future(caller.generate())
    await comfyui.reached("step:1")
    call.cancel()
    await comfyui.until(lambda server: server.interrupted == [server.prompts[0]["prompt_id"]])


async def test_a_handshake_client_that_knows_tasks_gets_none(connect, comfyui: ComfyUIServer):
    """Tasks exist in the newest protocol only."""
    caller = await connect(**ON)
    handshake = Client(build_server(caller.app.settings), mode="legacy")
    async with handshake:
        answer = Answer(await handshake.call_tool_mcp(DRAW["name"], DRAW["arguments"]))
    assert answer.facts["status"] == "done"


# -- processes ----------------------------------------------------------------------------------------------------


class TaskClient(Server):
    """Speaks the protocol of 2026-07-28, with tasks, over the pipes of a real process."""

    META = {  # noqa: RUF012
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    }

    def send(self, method: str, params: dict[str, Any] | None = None, *, answer: bool = True) -> int:
        """Send a request in the newest protocol."""
        return super().send(method, {**(params or {}), "_meta": self.META}, answer=answer)

    def poll(self, task: str, *, until: str) -> dict[str, Any]:
        """Ask for the task until it has that status, and return it."""
        for _ in itertools.count():
            told = self.ask("tasks/get", {"taskId": task})
            if told["status"] == until:
                return told
        raise AssertionError


@pytest.fixture
def process(environment: dict[str, str]) -> Iterator[TaskClient]:
    """A server process with tasks."""
    client = TaskClient({**environment, **ON, "IMAGE_GEN_LOG_LEVEL": "debug"})
    yield client
    client.process.kill()
    client.process.wait()
    for stream in (client.process.stdin, client.process.stdout, client.process.stderr):
        stream.close()


def test_over_stdio_a_task_draws_and_no_prompt_is_logged(process: TaskClient):
    assert "io.modelcontextprotocol/tasks" in process.ask("server/discover")["capabilities"]["extensions"]
    begun = process.ask("tools/call", DRAW)
    assert (begun["resultType"], begun["status"]) == ("task", "working")
    result = process.poll(begun["taskId"], until="completed")["result"]
    assert [block["type"] for block in result["content"]] == ["text", "image", "resource_link"]
    assert "structuredContent" not in result
    code, log = process.close()
    assert code == 0
    assert "red apple" not in log
    assert "docket" not in log
    assert {json.loads(line)["jsonrpc"] for line in process.said} == {"2.0"}


def test_over_stdio_a_cancelled_task_takes_its_job_from_comfyui(process: TaskClient, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    task = process.ask("tools/call", DRAW)["taskId"]
    comfyui.wait_reached("step:1", timeout=20)
    process.ask("tasks/cancel", {"taskId": task})
    comfyui.wait_until(lambda server: server.interrupted == [server.prompts[0]["prompt_id"]])
    comfyui.release("step:1")
    assert process.poll(task, until="cancelled")["status"] == "cancelled"


def test_over_stdio_closing_stdin_ends_the_process_and_leaves_the_task_s_job(
    process: TaskClient, comfyui: ComfyUIServer
):
    comfyui.hold("step:1")
    process.ask("tools/call", DRAW)
    comfyui.wait_reached("step:1", timeout=20)
    code, log = process.close()
    assert code == 0
    assert "Traceback" not in log
    assert (comfyui.interrupted, comfyui.queue_remaining) == ([], 1)


async def test_over_http_a_task_outlives_its_connection_and_can_be_cancelled_from_another(
    environment: dict[str, str], comfyui: ComfyUIServer
):
    served = Served([], {**environment, **ON, "IMAGE_GEN_LOG_LEVEL": "info"})
    try:
        served.wait_until_it_answers()
        comfyui.hold("step:1")
        async with Client(served.url) as client:
            task = await begin(client)
            await comfyui.reached("step:1")
        async with Client(served.url) as client:
            again = ToolTask(client, DRAW["name"], task.create_result)
            assert (await again.status()).status == "working"
            await again.cancel()
            await comfyui.until(lambda server: server.interrupted == [server.prompts[0]["prompt_id"]])
    finally:
        served.process.kill()
        served.process.communicate()


# -- the extra ----------------------------------------------------------------------------------------------------


async def drawn_by(program: str, environment: dict[str, str], log: Path) -> Answer:
    """Let a server process that runs the program draw, and wait for its end."""
    transport = StdioTransport(sys.executable, ["-c", program], env=environment, log_file=log, keep_alive=False)
    async with Client(transport) as client:
        return Answer(await client.call_tool_mcp(DRAW["name"], DRAW["arguments"]))


async def test_a_default_server_imports_nothing_of_the_extra(environment: dict[str, str], tmp_path: Path):
    answer = await drawn_by(TELLING, environment, tmp_path / "log")
    assert answer.facts["status"] == "done"
    assert (tmp_path / "log").read_text() == "imported: []\n"


async def test_a_default_server_imports_nothing_of_it_either_for_a_client_that_wants_no_progress(
    environment: dict[str, str], tmp_path: Path
):
    transport = StdioTransport(
        sys.executable, ["-c", TELLING], env=environment, log_file=tmp_path / "log", keep_alive=False
    )
    async with Client(transport) as client:
        await client.session.call_tool(DRAW["name"], DRAW["arguments"])
    assert (tmp_path / "log").read_text() == "imported: []\n"


async def test_a_server_with_tasks_does_import_it(environment: dict[str, str], tmp_path: Path):
    await drawn_by(TELLING, {**environment, **ON}, tmp_path / "log")
    assert (tmp_path / "log").read_text() == f"imported: {list(EXTRA)}\n"


async def test_a_default_server_needs_no_extra(environment: dict[str, str], tmp_path: Path):
    answer = await drawn_by(WITHOUT_EXTRA, environment, tmp_path / "log")
    assert answer.facts["status"] == "done"


def test_tasks_without_the_extra_are_told_with_the_command_that_installs_it(
    configure: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(sys.modules, "mcp_image_gen.server.extension", raising=False)
    monkeypatch.setitem(sys.modules, "fastmcp_tasks", None)
    with pytest.raises(SettingsInvalid) as caught:
        build_server(configure(**ON))
    assert "IMAGE_GEN_TASKS" in caught.value.message
    assert "pip install 'mcp-image-gen[tasks]'" in caught.value.hint


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve", "--http"],
    ],
)
def test_a_process_with_tasks_and_without_the_extra_ends_at_once_with_one_line(
    environment: dict[str, str], arguments: list[str]
):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**environment, **ON},
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'mcp-image-gen[tasks]'" in done.stderr
