"""What each client gets, by its name and protocol, and that explicit settings win."""

import json
import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import mcp.types
import pytest
from fastmcp import Client

from mcp_image_gen_local.server import build_server
from mcp_image_gen_local.server import clients as module
from mcp_image_gen_local.server.clients import LINKS_SINCE, delivery_of, find_profile, profile_of, profiles
from mcp_image_gen_local.settings import load_settings
from tests.answers import Answer
from tests.comfyui_server import ComfyUIServer
from tests.storage.images import encoded, photo

LATEST = "2025-11-25"


def delivery(name: str, protocol: str = LATEST, agent: str = "", **settings: object) -> module.Delivery:
    return delivery_of(module.Client(name=name, protocol=protocol, user_agent=agent), load_settings(**settings))


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("claude-code", "claude-code"),
        ("Codex-MCP-Client", "codex"),
        ("gemini-cli-mcp-client", "gemini-cli"),
        ("@cline/core", "cline"),
        ("continue-cli-client", "continue"),
        ("opencode", "opencode"),
        ("qwen-cli-mcp-client-image-gen", "qwen-code"),
        ("copilot-cli", "copilot-cli"),
        ("kilo", "kilo-code"),
        ("google-adk", "google-adk"),
        ("mcp", "unknown"),
        ("", "unknown"),
        ("something new", "unknown"),
    ],
)
def test_a_client_is_known_by_its_name(name, profile):
    assert profile_of(module.Client(name=name)).id == profile


def test_an_http_client_is_known_by_its_agent():
    assert profile_of(module.Client(name="mcp", user_agent="Open-WebUI/0.12")).id == "open-webui"


def test_an_unknown_client_gets_a_png_and_no_link():
    found = delivery("something new")
    assert (found.formats, found.max_bytes, found.max_side, found.link) == (("png",), 900_000, 1568, False)
    assert found.wait_seconds == 45


@pytest.mark.parametrize("profile", profiles().values(), ids=profiles())
def test_a_call_ends_before_the_client_gives_up(profile):
    limit = profile.call_limit_seconds
    assert (
        profile.progress_extends
        or not limit
        or profile.wait_seconds <= 0.8 * limit
        or limit - profile.wait_seconds >= 20
    )
    assert 0 < profile.wait_seconds <= 280
    assert profile.image in ("image", "text")
    assert set(profile.formats) <= {"png", "jpeg", "webp"}
    assert profile.source


@pytest.mark.parametrize("name", ["@cline/core", "continue-cli-client", "copilot-cli", "google-adk"])
def test_clients_that_make_text_of_images_get_none(name):
    assert delivery(name).formats == ()
    assert delivery(name, IMAGE_GEN_INLINE_FORMAT="png").formats == ("png",)


@pytest.mark.parametrize("protocol", ["2024-11-05", "2025-03-26"])
@pytest.mark.parametrize("setting", ["auto", "true", "false"])
def test_no_link_before_the_protocol_has_one(protocol, setting):
    assert not delivery("claude-code", protocol, IMAGE_GEN_LINK=setting).link


@pytest.mark.parametrize(("setting", "link"), [("auto", True), ("true", True), ("false", False), ("no", False)])
def test_a_link_where_it_is_shown(setting, link):
    assert delivery("claude-code", LINKS_SINCE, IMAGE_GEN_LINK=setting).link is link


def test_settings_win_and_reasons_say_so():
    found = delivery("codex-mcp-client", IMAGE_GEN_WAIT_SECONDS="5", IMAGE_GEN_INLINE_FORMAT="webp",
                     IMAGE_GEN_INLINE_MAX_BYTES="50000", IMAGE_GEN_LINK="yes")  # fmt: skip
    assert (found.wait_seconds, found.formats, found.max_bytes, found.link) == (5, ("webp",), 50_000, True)
    for name in ("WAIT_SECONDS", "INLINE_FORMAT", "INLINE_MAX_BYTES", "LINK"):
        assert f"IMAGE_GEN_{name}" in "; ".join(found.reasons)


@pytest.mark.parametrize("name", ["claude-code", "Claude Code", "codex", "@cline/core", "unknown", "mcp"])
def test_a_profile_is_found_by_what_people_call_it(name):
    assert find_profile(name)


def test_no_profile_is_made_up():
    assert find_profile("some-editor") is None


# -- through the door ---------------------------------------------------------------------------------------------


@pytest.fixture
async def call(comfyui: ComfyUIServer, configure: Any, era: str):
    """Return a function that generates as a client of this name."""
    async with AsyncExitStack() as stack:

        async def generate(name: str, **settings: object) -> Answer:
            comfyui.image = lambda *_: PHOTO
            info = mcp.types.Implementation(name=name, version="1")
            mode = "auto" if era == "modern" else "legacy"
            server = build_server(configure(**settings))
            client = await stack.enter_async_context(Client(server, mode=mode, client_info=info))
            return Answer(await client.call_tool_mcp("generate_image", {"prompt": "a"}))

        yield generate


PHOTO = encoded(photo(1024, 1024), "PNG")


async def test_a_known_client_gets_full_size(call):
    answer = await call("codex-mcp-client")
    assert (answer.images[0].mime_type, answer.image().size) == ("image/jpeg", (1024, 1024))
    assert answer.links == []


async def test_an_unknown_client_gets_most_of_900_kb(call):
    answer = await call("something new")
    sent = len(json.dumps(answer.result.model_dump(mode="json", by_alias=True)))
    assert answer.images[0].mime_type == "image/png"
    assert 0.8 * 900_000 < sent < 900_000


async def test_a_client_that_makes_text_of_images(call):
    answer = await call("continue-cli-client")
    assert answer.images == answer.links == []
    assert Path(answer.facts["path"]).exists()
    assert (
        "No image is shown here, as Continue passes images to the model as text: open the file to see it."
        in answer.story
    )
    assert len(answer.text) < 1_000


async def test_a_client_that_shows_links(call):
    answer = await call("claude-code")
    assert [str(link.uri) for link in answer.links] == [Path(answer.facts["path"]).as_uri()]


async def test_the_log_says_what_was_chosen(call, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        await call("claude-code")
    assert "client claude-code 1, protocol" in caplog.text
    assert "profile claude-code (measured" in caplog.text
    assert "calls wait 280 s, as no limit of the client was found" in caplog.text
