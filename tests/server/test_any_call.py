"""Whatever a call says, it ends well: in an image, a handle, or an error with a code.

FUZZ_CALLS sets the number of calls for each engine.
"""

import logging
import os
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import mcp.types
import pytest
from anyio.from_thread import start_blocking_portal
from fastmcp import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.errors import ImageGenError, UnexpectedError
from mcp_image_gen_local.server import build_server
from mcp_image_gen_local.server.tolerance_table import table
from mcp_image_gen_local.settings import load_settings
from tests.answers import Answer
from tests.comfyui_server import ComfyUIServer
from tests.server.test_tolerance import KINDS
from tests.storage.images import encoded, gradient

CALLS = int(os.environ.get("FUZZ_CALLS", "150"))
BOUND_SECONDS = 30.0  #: of one call; waits are 5 s
MAX_TEXT = 20_000  #: characters of an answer
TOOLS = ["generate_image"] * 6 + ["get_generation_status", "cancel_generation", "list_available_models"]
IMAGE = encoded(gradient(64, 64))

Call = Callable[[str, dict[str, Any]], Answer]


@pytest.fixture(params=["comfyui", "builtin"])
def call(request: pytest.FixtureRequest, comfyui: ComfyUIServer, tmp_path: Path) -> Iterator[Call]:
    """Return a function that calls a tool of a server that lives as long as the test."""
    comfyui.image = lambda *_: IMAGE
    values = load_settings(
        COMFYUI_URL=comfyui.url,
        IMAGE_OUTPUT_DIR=tmp_path / "images",
        IMAGE_GEN_ENGINE=request.param,
        IMAGE_GEN_WAIT_SECONDS=5,
    )
    with start_blocking_portal() as portal:
        app = portal.call(App, values)
        client = portal.wrap_async_context_manager(Client(build_server(values, app)))
        with client as connected:
            if request.param == "builtin":
                quicken(app)

            async def ask(tool: str, arguments: dict[str, Any]) -> Answer:
                with anyio.fail_after(BOUND_SECONDS):
                    return Answer(await connected.call_tool_mcp(tool, arguments))

            yield lambda tool, arguments: portal.call(ask, tool, arguments)


def quicken(app: App) -> None:
    """Let the built-in model take one step where a call does not say how many."""
    app.engine._backend._facts["defaults"]["steps"] = 1


# -- calls --------------------------------------------------------------------------------------------------------

texts = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=string.printable, max_size=400),
    st.sampled_from(
        ["", " ", "null", "a red apple", "x" * 30_000, "../../etc/passwd", "file:///etc/passwd", "~root", "\0",
         "C:\\x.png", "\u202e", "{}", "[]", '{"prompt": "a"}', "1024x768", "16:9", "-1", "1e400", "0x10", "Euler a",
         "DPM++ 2M Karras", "flux", "sdxl", "builtin", "last", "image://x/0", "s" * 3_000]
    ),
)  # fmt: skip
numbers = st.one_of(
    st.integers(-2, 70),
    st.integers(),
    st.floats(),
    st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63), 10**30, 1e308, 0.5]),
)
plain = st.one_of(st.none(), st.booleans(), numbers, numbers.map(str), texts)
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
names = st.one_of(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([other for others in table()["synonyms"].values() for other in others]),
    st.sampled_from([*table()["absent"], *table()["injected"]["names"], *table()["wrappers"]["names"]]),
    st.text(min_size=1, max_size=20),
)
usual = {
    "prompt": st.sampled_from(["a red apple", "cat", "sailboat"]) | texts,
    "width": st.integers(16, 96),
    "height": st.integers(16, 96),
    "steps": st.integers(1, 3),
    "seed": st.integers(0, 2**64 - 1),
    "cfg": st.floats(0, 10),
    "batch_size": st.integers(1, 2),
}
likely = st.fixed_dictionaries({}, optional=usual)
wild = st.dictionaries(names, anything, max_size=5)
generate_arguments = st.builds(lambda one, other: {**one, **other}, likely, wild)
other_arguments = st.dictionaries(st.sampled_from(["prompt_id", "id", "foo"]), anything, max_size=2)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    tool = draw(st.sampled_from(TOOLS))
    return tool, draw(generate_arguments if tool == "generate_image" else other_arguments)


def kinds(base: type[ImageGenError] = ImageGenError) -> Iterator[type[ImageGenError]]:
    yield base
    for below in base.__subclasses__():
        yield from kinds(below)


CODES = {kind.code for kind in kinds()} - {UnexpectedError.code, ImageGenError.code}


def check(answer: Answer) -> None:
    """An image, a handle, or an error with a code."""
    assert len(answer.text) < MAX_TEXT
    if answer.is_error:
        assert answer.code in CODES, answer.text
        assert answer.error.strip()
        return
    facts = answer.facts
    assert facts.get("error", {}).get("code") in {None, *CODES}
    if facts.get("status") == "done":
        assert Path(facts["path"]).stat().st_size
        assert all(isinstance(image, mcp.types.ImageContent) for image in answer.images)


def many(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.mark.timeout(0)
@many(CALLS)
@given(made=calls())
def test_every_call_ends_well(call: Call, caplog: pytest.LogCaptureFixture, made: tuple[str, dict[str, Any]]):
    check(call(*made))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    caplog.clear()  # it would keep what all calls have logged


@pytest.mark.slow
@pytest.mark.timeout(0)
@many(50_000)
@given(made=calls())
def test_100_000_calls_end_well(call: Call, caplog: pytest.LogCaptureFixture, made: tuple[str, dict[str, Any]]):
    """50,000 of each engine."""
    check(call(*made))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    caplog.clear()
