"""Single requests to ComfyUI, over a mocked transport."""

import json

import httpx2
import pytest
import respx

from mcp_image_gen_local.domain.errors import EngineAnswerUnusable, EngineRefused, EngineUnreachable, ImageGone
from mcp_image_gen_local.engines.comfyui import client as clients
from mcp_image_gen_local.engines.comfyui.client import ComfyUIClient, SubmitUncertain
from mcp_image_gen_local.engines.comfyui.object_info import NodeInfo
from mcp_image_gen_local.engines.comfyui.replies import ImageFile

URL = "http://gpu:8188"
IMAGE = ImageFile(filename="a_00001_.png", subfolder="mcp-image-gen")
#: what no method finds fault with
ANSWER = {"queue_running": [], "queue_pending": [], "prompt_id": "an-id"}
TROUBLE = "500 Internal Server Error\n\nServer got itself in trouble"
PAGE = "<!DOCTYPE html><html>Please sign in.</html>"


@pytest.fixture
async def client(httpx2_mock: respx.Router):
    client = ComfyUIClient(URL, {"Authorization": "Bearer s3cret", "X-Team": "art"})
    yield client
    await client.aclose()


async def every_request(client: ComfyUIClient) -> None:
    """Send one request of each kind."""
    await client.system_stats()
    await client.object_info("KSampler")
    await client.queue()
    await client.history("an-id")
    await client.queue_prompt({}, prompt_id="an-id", client_id="me")
    await client.delete_pending("an-id")
    await client.interrupt("an-id")
    await client.view(IMAGE)


GETS = {
    "system_stats": lambda c: c.system_stats(),
    "object_info": lambda c: c.object_info("KSampler"),
    "queue": lambda c: c.queue(),
    "history": lambda c: c.history("an-id"),
}
POSTS = {
    "delete_pending": lambda c: c.delete_pending("an-id"),
    "interrupt": lambda c: c.interrupt("an-id"),
}
SUBMIT = {"queue_prompt": lambda c: c.queue_prompt({}, prompt_id="an-id", client_id="me")}
VIEW = {"view": lambda c: c.view(IMAGE)}
ALL = {**GETS, **POSTS, **SUBMIT, **VIEW}


def each(calls):
    return pytest.mark.parametrize("call", calls.values(), ids=calls)


async def test_every_request_carries_the_headers(client, httpx2_mock):
    httpx2_mock.route(host="gpu").respond(json=ANSWER)
    await every_request(client)
    assert len(httpx2_mock.calls) == len(ALL)
    for call in httpx2_mock.calls:
        assert (call.request.headers["authorization"], call.request.headers["x-team"]) == ("Bearer s3cret", "art")


async def test_every_request_goes_below_the_url_s_own_path(httpx2_mock):
    httpx2_mock.route(host="gpu").respond(json=ANSWER)
    client = ComfyUIClient("https://gpu/tools/comfy", {})
    await every_request(client)
    await client.aclose()
    assert [(c.request.method, str(c.request.url).removeprefix("https://gpu")) for c in httpx2_mock.calls] == [
        ("GET", "/tools/comfy/system_stats"),
        ("GET", "/tools/comfy/object_info/KSampler"),
        ("GET", "/tools/comfy/queue"),
        ("GET", "/tools/comfy/history/an-id"),
        ("POST", "/tools/comfy/prompt"),
        ("POST", "/tools/comfy/queue"),
        ("POST", "/tools/comfy/interrupt"),
        ("GET", "/tools/comfy/view?filename=a_00001_.png&subfolder=mcp-image-gen&type=output"),
    ]


async def test_a_wrong_answer_names_its_full_address(httpx2_mock):
    """A wrong answer below a path is reported with its full address once."""
    httpx2_mock.route(host="gpu").respond(404)
    client = ComfyUIClient("https://gpu/tools/comfy", {})
    with pytest.raises(EngineAnswerUnusable, match=r"^https://gpu/tools/comfy/queue answered HTTP 404"):
        await client.queue()
    await client.aclose()


@each(GETS | POSTS)
async def test_nothing_answers_names_the_start_command(client, httpx2_mock, call):
    """Nothing that answers is reported with the command that starts it."""
    httpx2_mock.route(host="gpu").mock(side_effect=httpx2.ConnectError("refused"))
    with pytest.raises(EngineUnreachable) as caught:
        await call(client)
    assert (
        str(caught.value) == "ComfyUI not reachable at http://gpu:8188. Start with: python main.py --listen 127.0.0.1"
    )


@each(ALL)
@pytest.mark.parametrize("status", [401, 403, 407])
async def test_a_refused_access_names_the_variables_to_set(client, httpx2_mock, call, status):
    httpx2_mock.route(host="gpu").respond(status)
    with pytest.raises(EngineRefused, match=rf"HTTP {status}\).*COMFYUI_TOKEN or COMFYUI_HEADERS") as caught:
        await call(client)
    assert "s3cret" not in str(caught.value)


@each(ALL)
async def test_a_redirect_to_a_login_is_reported(client, httpx2_mock, call):
    """A redirect to a login page is not followed but told."""
    httpx2_mock.route(host="gpu").respond(302, headers={"Location": "http://gpu:8188/login"})
    with pytest.raises(EngineRefused, match="HTTP 302"):
        await call(client)
    assert httpx2_mock.calls.call_count == 1


async def test_a_redirect_to_https_keeps_the_path(httpx2_mock):
    target = {"Location": "https://gpu.example/tools/comfy/queue"}
    httpx2_mock.get("http://gpu/tools/comfy/queue").respond(301, headers=target)
    client = ComfyUIClient("http://gpu/tools/comfy", {})
    with pytest.raises(EngineAnswerUnusable, match=r"Use https://gpu\.example/tools/comfy in COMFYUI_URL"):
        await client.queue()
    await client.aclose()


@each(GETS)
@pytest.mark.parametrize("body", [PAGE, "", "[]", "null", '"text"', '{"cut', "\ufeff"])
async def test_an_answer_that_is_no_json_object_is_told(client, httpx2_mock, call, body):
    httpx2_mock.route(host="gpu").respond(text=body)
    with pytest.raises(EngineAnswerUnusable, match=r"something other than ComfyUI's JSON.*COMFYUI_URL must be"):
        await call(client)


@each(GETS)
async def test_an_answer_in_no_known_encoding_is_told(client, httpx2_mock, call):
    httpx2_mock.route(host="gpu").respond(content=b"\xff\xfe\xfa{}")
    with pytest.raises(EngineAnswerUnusable):
        await call(client)


@each(GETS | POSTS)
@pytest.mark.parametrize("status", [204, 404, 405, 500, 501])
async def test_another_status_than_200_is_told(client, httpx2_mock, call, status):
    httpx2_mock.route(host="gpu").respond(status, text=TROUBLE)
    with pytest.raises(EngineAnswerUnusable, match=f"answered HTTP {status}"):
        await call(client)


@pytest.mark.parametrize("body", [{}, {"KSampler": None}, {"Other": {}}])
async def test_a_class_that_the_server_lacks_is_none(client, httpx2_mock, body):
    httpx2_mock.get("/object_info/KSampler").respond(json=body)
    assert await client.object_info("KSampler") is None


@pytest.mark.parametrize("body", [{}, {"an-id": None}, {"another": {}}])
async def test_a_prompt_without_history_is_none(client, httpx2_mock, body):
    httpx2_mock.get("/history/an-id").respond(json=body)
    assert await client.history("an-id") is None


@pytest.mark.parametrize(
    ("prompt_id", "path"),
    [
        ("../queue", "/history/..%2Fqueue"),
        ("a b?c#d", "/history/a%20b%3Fc%23d"),
        ("a%2Fb", "/history/a%252Fb"),
        ("é", "/history/%C3%A9"),
    ],
)
async def test_a_prompt_id_stays_one_part_of_the_path(client, httpx2_mock, prompt_id, path):
    httpx2_mock.route(host="gpu").respond(json={prompt_id: {"outputs": {}}})
    entry = await client.history(prompt_id)
    assert entry.outcome.kind == "success"
    assert httpx2_mock.calls.last.request.url.raw_path == path.encode()


async def test_a_node_class_is_one_part_of_the_path(client, httpx2_mock):
    """The class of a node stays one part of the path."""
    httpx2_mock.route(host="gpu").respond(json={"Save/Image?": {"input": {}}})
    assert await client.object_info("Save/Image?") == NodeInfo()
    assert httpx2_mock.calls.last.request.url.raw_path == b"/object_info/Save%2FImage%3F"


async def test_a_prompt_is_sent_with_its_ids_and_seed(client, httpx2_mock):
    """A prompt is sent with its id the client's and its whole seed."""
    httpx2_mock.post("/prompt").respond(json={"prompt_id": "p", "number": 1, "node_errors": {}})
    reply = await client.queue_prompt({"7": {"inputs": {"seed": 2**64 - 1, "text": "é"}}}, prompt_id="p", client_id="c")
    assert (reply.prompt_id, reply.is_refused) == ("p", False)
    assert json.loads(httpx2_mock.calls.last.request.content) == {
        "prompt": {"7": {"inputs": {"seed": 18446744073709551615, "text": "é"}}}, "prompt_id": "p", "client_id": "c",
    }  # fmt: skip


@pytest.mark.parametrize("status", [400, 409, 413, 429])
async def test_a_refused_prompt_is_handed_on(client, httpx2_mock, status):
    httpx2_mock.post("/prompt").respond(status, text="anything")
    reply = await SUBMIT["queue_prompt"](client)
    assert (reply.status, reply.is_refused, reply.reason) == (status, True, "anything")


@pytest.mark.parametrize("status", [404, 405])
async def test_a_prompt_to_another_program_is_told(client, httpx2_mock, status):
    httpx2_mock.post("/prompt").respond(status, text="Not Found")
    with pytest.raises(EngineAnswerUnusable, match=f"http://gpu:8188/prompt answered HTTP {status}"):
        await SUBMIT["queue_prompt"](client)


@pytest.mark.parametrize(
    "body", [PAGE, "", "{}", "[]", '{"prompt_id": 7}', '{"prompt_id": ""}', r'{"prompt_id": "\ud800"}']
)
async def test_a_reply_that_names_no_prompt_is_uncertain(client, httpx2_mock, body):
    httpx2_mock.post("/prompt").respond(text=body)
    with pytest.raises(SubmitUncertain, match="names no prompt"):
        await SUBMIT["queue_prompt"](client)


@pytest.mark.parametrize("error", [httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.WriteError])
async def test_a_lost_reply_to_a_prompt_is_uncertain(client, httpx2_mock, error):
    httpx2_mock.post("/prompt").mock(side_effect=error("cut"))
    with pytest.raises(SubmitUncertain, match="cut"):
        await SUBMIT["queue_prompt"](client)


async def test_a_500_to_a_prompt_is_uncertain(client, httpx2_mock):
    httpx2_mock.post("/prompt").respond(500, text=TROUBLE)
    with pytest.raises(SubmitUncertain, match="HTTP 500: 500 Internal Server Error"):
        await SUBMIT["queue_prompt"](client)


@pytest.mark.parametrize("error", [httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout])
async def test_a_prompt_that_never_left_is_not_uncertain(client, httpx2_mock, error):
    httpx2_mock.post("/prompt").mock(side_effect=error("no"))
    with pytest.raises(EngineUnreachable):
        await SUBMIT["queue_prompt"](client)


async def test_cancelling_names_the_prompt_and_no_other(client, httpx2_mock):
    httpx2_mock.route(host="gpu").respond(200)
    await client.delete_pending("a")
    await client.interrupt("b")
    sent = [(c.request.url.path, json.loads(c.request.content)) for c in httpx2_mock.calls]
    assert sent == [("/queue", {"delete": ["a"]}), ("/interrupt", {"prompt_id": "b"})]


@pytest.mark.parametrize("name", ["a b.png", "50% #1 & more?.png", "é ☃ 画.png", "a+b=c.png", "%2e%2e.png", "q\"'.png"])
async def test_an_odd_file_name_arrives_as_it_is(client, httpx2_mock, name):
    httpx2_mock.get("/view").respond(content=b"data")
    image = ImageFile(filename=name, subfolder=f"sub/{name}", type="temp")
    assert await client.view(image) == b"data"
    assert dict(httpx2_mock.calls.last.request.url.params) == image.params
    assert dict(httpx2.URL(client.view_url(image)).params) == image.params


@pytest.mark.parametrize(
    "first", [httpx2.RemoteProtocolError("cut"), httpx2.ReadTimeout("slow"), respx.MockResponse(500, text=TROUBLE)]
)
async def test_an_image_cut_short_is_asked_for_again(client, httpx2_mock, first):
    httpx2_mock.get("/view").mock(side_effect=[first, first, respx.MockResponse(200, content=b"whole")])
    assert await client.view(IMAGE) == b"whole"


async def test_an_image_that_is_always_cut_short_is_given_up(client, httpx2_mock):
    route = httpx2_mock.get("/view").mock(side_effect=httpx2.RemoteProtocolError("cut"))
    with pytest.raises(EngineUnreachable):
        await client.view(IMAGE)
    assert route.call_count == clients.ATTEMPTS_TO_VIEW


@pytest.mark.parametrize(("status", "times"), [(404, 1), (400, 1)])
async def test_an_image_that_is_gone_is_told_by_name(client, httpx2_mock, status, times):
    route = httpx2_mock.get("/view").respond(status)
    with pytest.raises(ImageGone, match=rf"ComfyUI returned HTTP {status} for its output image 'a_00001_.png'"):
        await client.view(IMAGE)
    assert route.call_count == times


async def test_an_image_that_comfyui_withholds(client, httpx2_mock):
    """An image that ComfyUI fails to hand out is asked for again and told."""
    route = httpx2_mock.get("/view").respond(500, text=TROUBLE)
    with pytest.raises(EngineAnswerUnusable, match=r"'a_00001_.png' \(HTTP 500\)"):
        await client.view(IMAGE)
    assert route.call_count == clients.ATTEMPTS_TO_VIEW


async def test_a_password_is_used_and_never_shown(httpx2_mock: respx.Router):
    """A password in the address is used and never shown. Errors and image addresses go to a language model."""
    route = httpx2_mock.get("http://gpu:8188/queue").respond(json=ANSWER)
    client = ComfyUIClient("http://me:s3cret@gpu:8188", {})
    await client.queue()
    assert route.calls.last.request.headers["Authorization"].startswith("Basic ")
    assert client.url == "http://gpu:8188"
    assert "s3cret" not in client.view_url(IMAGE) + str(route.calls.last.request.url)
    await client.aclose()


async def test_the_system_s_proxy_is_not_asked(monkeypatch):
    """The engine is the user's own; a company-wide proxy cannot reach it."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    client = ComfyUIClient(URL, {})
    assert not client.http._mounts
    await client.aclose()
