"""What stands at COMFYUI_URL is not a ComfyUI that answers: each cause is named, with its cure."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller
from tests.engines.others import generate, graph
from tests.tls import make_certificate, tls_proxy

ROUTES = ("/object_info", "/queue", "GET /prompt", "POST /prompt", "/history", "/view", "/upload", "/system_stats")
SECRET = "p4ssw0rd-of-the-user"


@pytest.fixture
def era() -> str:
    """One era: what is looked at lies behind the door."""
    return "modern"


def answering(status: int, body: str = "", *routes: str, **headers: str) -> Any:
    """Return a mutation that answers these routes, or all, with this."""

    def mutate(method: str, path: str, response: Any) -> Any:
        is_meant = not routes or any(f"{method} {path}".startswith(r) or path.startswith(r) for r in routes)
        return Response(body, status, headers=headers, media_type="text/html") if is_meant else response

    return mutate


# -- certificates -------------------------------------------------------------------------------------------------


async def test_an_unknown_certificate_is_not_trusted(connect, comfyui: ComfyUIServer, tmp_path: Path):
    async with tls_proxy(comfyui.url, make_certificate(tmp_path)) as url:
        answer = await (await connect(COMFYUI_URL=url)).generate()
    assert answer.code == "engine_answer_unusable"
    assert answer.error.startswith(f"The certificate of {url} is not trusted: self-signed certificate")
    assert "Set SSL_CERT_FILE to a PEM file" in answer.error
    assert "--listen" not in answer.error


async def test_a_certificate_of_the_environment(
    connect, comfyui: ComfyUIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A certificate that SSL_CERT_FILE names is trusted, on the socket as well."""
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with tls_proxy(comfyui.url, certificate) as url:
        caller = await connect(COMFYUI_URL=url)
        assert (await caller.generate()).facts["status"] == "done"
        await caller.app.aclose()
    assert any("step 4/4" in text for _, _, text in caller.progress)


async def test_a_certificate_of_another_host(
    connect, comfyui: ComfyUIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    certificate = make_certificate(tmp_path, host="gpu.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with tls_proxy(comfyui.url, certificate) as url:
        error = (await (await connect(COMFYUI_URL=url)).generate()).error
    assert error.startswith(f"The certificate of {url} is for another host name (Hostname mismatch")
    assert "Use the name that stands in the certificate in COMFYUI_URL" in error


async def test_a_certificate_that_has_expired(
    connect, comfyui: ComfyUIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    certificate = make_certificate(tmp_path, days=-1)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with tls_proxy(comfyui.url, certificate) as url:
        error = (await (await connect(COMFYUI_URL=url)).generate()).error
    assert "is not trusted: certificate has expired. Renew the certificate" in error


async def test_a_certificate_file_that_is_missing(connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    answer = await (await connect(COMFYUI_URL="https://localhost:1")).generate()
    assert answer.code == "settings_invalid"
    assert "SSL_CERT_FILE or SSL_CERT_DIR names cannot be read" in answer.error


async def test_https_to_a_port_of_plain_http(connect, comfyui: ComfyUIServer):
    url = comfyui.url.replace("http:", "https:")
    answer = await (await connect(COMFYUI_URL=url)).generate()
    assert answer.code == "engine_answer_unusable"
    assert answer.error.startswith(f"{url} does not speak https as it should")
    assert answer.error.endswith(f"use {comfyui.url} in COMFYUI_URL.")


async def test_http_to_a_tls_port(connect, comfyui: ComfyUIServer, tmp_path: Path):
    async with tls_proxy(comfyui.url, make_certificate(tmp_path)) as url:
        plain = url.replace("https:", "http:")
        answer = await (await connect(COMFYUI_URL=plain)).generate()
    assert answer.error == f"{plain} speaks https, not plain http. Use {url} in COMFYUI_URL."


@pytest.mark.parametrize(
    "page",
    [
        "<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
        "Reason: You're speaking plain HTTP to an SSL-enabled server port.",
        "Client sent an HTTP request to an HTTPS server.\n",
    ],
)
async def test_a_tls_port_that_says_so(caller: Caller, comfyui: ComfyUIServer, page: str):
    comfyui.mutate = answering(400, page)
    https = comfyui.url.replace("http:", "https:")
    assert (await caller.generate()).error == f"{comfyui.url} speaks https, not plain http. Use {https} in COMFYUI_URL."


# -- proxies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [502, 503, 504, 521, 530])
async def test_a_proxy_before_a_comfyui_that_is_off(caller: Caller, comfyui: ComfyUIServer, status: int):
    comfyui.mutate = answering(status, "<html>Bad Gateway</html>")
    answer = await caller.generate()
    assert answer.code == "engine_unreachable"
    assert answer.error.startswith(
        f"A proxy answers at {comfyui.url} (HTTP {status}), but ComfyUI behind it does not. ComfyUI is stopped"
    )


@pytest.mark.parametrize(
    ("status", "target", "code", "text"),
    [
        (301, "https://gpu.example/object_info/KSampler", "engine_answer_unusable",
         "redirects to https://gpu.example (HTTP 301). Use https://gpu.example in COMFYUI_URL."),
        (308, "https://gpu.example:8443/x", "engine_answer_unusable", "Use https://gpu.example:8443 in COMFYUI_URL."),
        (301, "https://gpu.example/comfy/object_info/CheckpointLoaderSimple", "engine_answer_unusable", "Use https://"),
        (302, "https://gpu.example/", "engine_answer_unusable", "Use https://gpu.example in COMFYUI_URL."),
        (301, "http://other.example/comfy", "engine_answer_unusable",
         "redirects to http://other.example (HTTP 301). Set COMFYUI_URL to the address of ComfyUI itself."),
        (302, "https://sso.example/login?next=secret", "engine_refused",
         "refused access: it redirects to https://sso.example (HTTP 302). Set COMFYUI_TOKEN or COMFYUI_HEADERS"),
        (307, "/login", "engine_refused", "Set COMFYUI_TOKEN or COMFYUI_HEADERS"),
        (302, f"http://u:secret@other.example/%1b[31m{'x' * 5000}", "engine_refused",
         "it redirects to http://other.example (HTTP 302)"),
        (301, "http://[::1", "engine_answer_unusable", "redirects to nowhere (HTTP 301)"),
        (301, "", "engine_answer_unusable", "(HTTP 301)"),
    ],
)  # fmt: skip
async def test_a_redirect_names_its_target(caller: Caller, comfyui: ComfyUIServer, status, target, code, text):
    comfyui.mutate = answering(status, "", location=target)
    answer = await caller.generate()
    assert answer.code == code
    assert text in answer.error
    assert "secret" not in answer.error
    assert len(answer.text) < 1500
    if code != "engine_refused":
        assert "TOKEN" not in answer.error


# -- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [(500, "trouble"), (200, "<html>Sign in</html>"), (418, "x")], ids=str)
@pytest.mark.parametrize("route", ROUTES)
async def test_a_password_in_the_address_is_never_told(
    connect, comfyui: ComfyUIServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, route: str, reply: Any
):
    caplog.set_level("DEBUG")
    start = tmp_path / "images" / "start.png"
    start.parent.mkdir()
    start.write_bytes(comfyui.image(64, 64, 1, "", 0))
    done = await generate(comfyui, graph())
    caller = await connect(COMFYUI_URL=comfyui.url.replace("//", f"//me:{SECRET}@"))
    comfyui.mutate = answering(*reply, route)
    told = [
        (await caller.generate(init_image=str(start))).text,
        (await caller.call("list_available_models")).text,
        (await caller.call("get_generation_status", prompt_id=done)).text,
        (await caller.call("cancel_generation", prompt_id=done)).text,
        *(f.read_bytes().decode("latin-1") for f in (tmp_path / "state").iterdir()),
        caplog.text,
    ]
    basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert f"Basic {basic}" in {seen.headers.get("authorization") for seen in comfyui.requests}
    assert not [text for text in told if SECRET in text or basic in text]


# -- this machine -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
async def test_too_many_open_files_is_no_comfyui_away(caller: Caller, comfyui: ComfyUIServer):
    import resource

    await caller.call("list_available_models")
    await caller.app.engine.aclose()
    fresh = await_engine(comfyui.url)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        with pytest.raises(Exception, match="this process has too many open files") as caught:
            await fresh.models()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await fresh.aclose()
    assert "--listen" not in str(caught.value)


def await_engine(url: str) -> Any:
    """Return an engine without connections."""
    from mcp_image_gen_local.engines.comfyui import ENGINE

    return ENGINE.make(ENGINE.settings(COMFYUI_URL=url))
