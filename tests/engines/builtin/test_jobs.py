"""The built-in engine's jobs: kept while they may be asked for, gone when they are not."""

import errno
import os
from pathlib import Path

import pytest

from mcp_image_gen_local.cli.commands import app
from mcp_image_gen_local.engine_kit import queued as module
from mcp_image_gen_local.engines.builtin.network import Network
from tests.conftest import Caller


async def generate(icons: Caller, **arguments):
    return await icons.call("generate_image", **{"prompt": "a red apple", "steps": 1, "seed": 1, **arguments})


async def test_an_image_is_saved_once_there_is_space(icons: Caller, monkeypatch: pytest.MonkeyPatch):
    """An image that could not be saved is saved once there is space."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        error = (await generate(icons)).error
    assert "The image is not lost: it stays at the memory of this process" in error
    prompt_id = error.split('prompt_id="')[1].split('"')[0]
    saved = await icons.call("get_generation_status", prompt_id=prompt_id)
    assert saved.facts["status"] == "done"
    assert Path(saved.facts["path"]).exists()


async def test_old_generations_are_forgotten(icons: Caller, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    for seed in range(5):
        await generate(icons, seed=seed)
    assert len(icons.app.engine._generations) == 3  # the newest had not ended when it was submitted


async def test_a_job_of_another_process_is_unknown(icons: Caller):
    answer = await icons.call("get_generation_status", prompt_id="3b1ed9a7-8bb1-41ee-8d2f-a2aae49e6c95")
    assert answer.facts["status"] == "unknown"


async def test_unknown_negative_words_are_named(icons: Caller):
    """Unknown words of the negative prompt are named."""
    story = (await generate(icons, negative_prompt="green zorblax")).story
    assert "Of the negative prompt it does not know: zorblax." in story


def test_doctor_tells_what_the_engine_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = ["doctor", "--engine", "builtin", "--output-dir", str(tmp_path)]
    assert app(command, result_action="return_value") == 0
    assert "built-in model 2: 2530 things at 128x128" in capsys.readouterr().out


async def test_a_runtime_fault_fails_the_job(icons: Caller, monkeypatch: pytest.MonkeyPatch):
    """A fault of the runtime is reported and not taken for a finished job."""

    def fault(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(Network, "denoise", fault)
    assert (await generate(icons)).error.startswith("The engine builtin failed: RuntimeError('no such operator').")
