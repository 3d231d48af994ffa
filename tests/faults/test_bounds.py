"""Replies of ComfyUI without measure are given up, on every route, and cost little memory."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from mcp_image_gen_local.domain.errors import EngineAnswerUnusable, EngineStalled
from mcp_image_gen_local.engines.comfyui import client as clients
from mcp_image_gen_local.engines.comfyui import transport
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient, SubmitUncertain
from mcp_image_gen_local.engines.comfyui.replies import ImageFile
from tests.comfyui_bombs import announced, endless, instead, trickling, unpacking
from tests.comfyui_images import generate as paint
from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller

IMAGE = ImageFile(filename="a.png")
REQUESTS = {
    "system_stats": lambda c: c.system_stats(),
    "object_info": lambda c: c.object_info("KSampler"),
    "queue": lambda c: c.queue(),
    "queue_remaining": lambda c: c.queue_remaining(),
    "history": lambda c: c.history("an-id"),
    "delete_pending": lambda c: c.delete_pending("an-id"),
    "interrupt": lambda c: c.interrupt("an-id"),
    "upload": lambda c: c.upload_image(b"data", "a.png"),
    "view": lambda c: c.view(IMAGE),
    "view_end": lambda c: c.view_end(IMAGE),
    "queue_prompt": lambda c: c.queue_prompt({}, prompt_id="an-id", client_id="me"),
}
BOMBS = (unpacking(8), unpacking(8, times=2), endless, announced)
each_request = pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)


@pytest.fixture
async def client(comfyui: ComfyUIServer) -> AsyncIterator[ComfyUIClient]:
    client = ComfyUIClient(comfyui.url, {"accept-encoding": "gzip"})
    yield client
    await client.aclose()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds on bytes are small."""
    monkeypatch.setattr(transport, "MAX_JSON", 3 * 2**20)
    monkeypatch.setattr(transport, "MAX_IMAGE", 4 * 2**20)


@each_request
@pytest.mark.usefixtures("small")
async def test_a_reply_of_too_many_bytes(client: ComfyUIClient, comfyui: ComfyUIServer, request_: Any):
    for bomb in BOMBS:
        comfyui.mutate = instead(bomb)
        with pytest.raises((EngineAnswerUnusable, SubmitUncertain), match=r"more than [34] MiB"):
            await request_(client)
        assert comfyui.requests[-1].headers["accept-encoding"] == "identity"


@each_request
async def test_a_reply_that_trickles(
    client: ComfyUIClient, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch, request_: Any
):
    """Each byte comes in time, so that no bound on a single read ever strikes."""
    for name in ("ASK_SECONDS", "DESCRIBE_SECONDS", "UPLOAD_SECONDS", "VIEW_SECONDS", "SUBMIT_SECONDS"):
        monkeypatch.setattr(clients, name, 0.2)
    comfyui.mutate = instead(trickling)
    async with asyncio.timeout(20):
        with pytest.raises((EngineStalled, SubmitUncertain), match=r"within 0.2 s"):
            await request_(client)


@pytest.mark.parametrize("body", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
                                  b"[" + b"[]," * 700_000 + b"1]", b'{"a": ' + b"9" * 5000 + b"}"])  # fmt: skip
async def test_json_that_no_parser_should_meet(client: ComfyUIClient, comfyui: ComfyUIServer, body: bytes):
    """Nested as deep as no stack goes, of more values than memory should hold, or of endless digits."""
    comfyui.mutate = lambda *_: transport_reply(body)
    with pytest.raises(EngineAnswerUnusable, match="something other than ComfyUI's JSON"):
        await client.queue()


def transport_reply(body: bytes) -> Any:
    """Return a reply with this body."""
    return Response(body, media_type="application/json")


async def test_a_large_reply_that_is_asked_for_at_once(comfyui: ComfyUIServer, client: ComfyUIClient):
    """More than a few at a time wait for their turn, and all arrive."""
    picture = bytes(3 * 2**20)
    comfyui.files.outputs["a.png"] = picture
    found = await asyncio.gather(*(client.view(IMAGE) for _ in range(8)))
    assert found == [picture] * 8


def history_of(count: int) -> Any:
    """Return a mutation by which the history names so many images."""

    def mutate(method: str, path: str, response: Any) -> Any:
        if not path.startswith("/history/") or b'"outputs"' not in bytes(response.body):
            return response
        body = json.loads(bytes(response.body))
        for entry in body.values():
            entry["outputs"] = {"9": {"images": [{"filename": f"{n}.png"} for n in range(count)]}}
        return transport_reply(json.dumps(body).encode())

    return mutate


async def test_a_history_of_300_images(caller: Caller, comfyui: ComfyUIServer, tmp_path: Path):
    """The first 16 are fetched, and one sentence tells of the others."""
    comfyui.fail("deaf_socket")
    comfyui.files.outputs |= {f"{n}.png": paint(64, 64, n, "", 0) for n in range(300)}
    comfyui.mutate = history_of(300)
    answer = await caller.generate()
    assert (answer.facts["status"], len(answer.facts["images"])) == ("done", 16)
    assert answer.story.count("ComfyUI names 300 images of this job; only the first 16 are fetched.") == 1
    assert len(list((tmp_path / "images").iterdir())) == 16
    assert len([seen for seen in comfyui.requests if seen.path == "/view"]) == 16


async def test_a_file_name_of_100000_characters(caller: Caller, comfyui: ComfyUIServer):
    comfyui.fail("deaf_socket")
    comfyui.mutate = lambda method, path, response: (
        transport_reply(bytes(response.body).replace(b"_00001_.png", b"x" * 100_000))
        if path.startswith("/history/")
        else response
    )
    answer = await caller.generate()
    assert answer.code == "generation_failed"
    assert len(answer.text) < 1000


#: Runs one command with an address space of 3 GiB and reports the most memory it took, in MiB.
MEASURE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
from mcp_image_gen_local.cli import main
sys.argv = ["mcp-image-gen", *sys.argv[1:]]
try:
    main()
finally:
    status = open("/proc/self/status").read()  # ru_maxrss begins with that of the parent
    print("PEAK", int(status.partition("VmHWM:")[2].split()[0]) // 1024, file=sys.stderr)
"""
ROWS = {
    "view_unpacking": ("/view", unpacking(2000), "generate"),
    "view_announced": ("/view", announced, "generate"),
    "view_endless": ("/view", endless, "generate"),
    "object_info_endless": ("/object_info", endless, "models"),
    "object_info_unpacking": ("/object_info", unpacking(1000), "models"),
    "object_info_unpacking_to_generate": ("/object_info", unpacking(1000), "generate"),
    "system_stats_endless": ("/system_stats", endless, "doctor"),
    "prompt_endless": ("POST /prompt", endless, "generate"),
    "history_endless": ("/history", endless, "generate"),
    "queue_unpacking": ("/queue", unpacking(1000), "generate"),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize(("route", "bomb", "command"), ROWS.values(), ids=ROWS)
async def test_the_memory_that_a_bomb_costs(
    comfyui: ComfyUIServer, tmp_path: Path, route: str, bomb: Any, command: str
):
    comfyui.mutate = instead(bomb, route)
    if command == "generate":
        comfyui.fail("deaf_socket")
    arguments = ("generate", "x", "--width", "64", "--height", "64") if command == "generate" else (command,)
    environment = {"COMFYUI_URL": comfyui.url, "IMAGE_OUTPUT_DIR": str(tmp_path), "IMAGE_GEN_STATE_DIR": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEASURE, *arguments, env=environment, stdout=-1, stderr=-1
    )
    _, err = await process.communicate()
    peak = int(err.decode().rpartition("PEAK")[2])
    print(f"{route} {bomb}: {peak} MiB")  # noqa: T201 - the figures of a run with -s
    assert peak < 400
    assert b"Traceback" not in err
