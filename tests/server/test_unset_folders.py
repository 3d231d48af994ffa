"""Folders whose variable is not set: the server starts, and the call says what is wrong."""

from pathlib import Path

import pytest

from tests.comfyui_server import ComfyUIServer


@pytest.mark.parametrize("variable", ["IMAGE_OUTPUT_DIR", "IMAGE_GEN_STATE_DIR"])
async def test_a_call_names_the_variable(connect, comfyui: ComfyUIServer, monkeypatch, tmp_path: Path, variable: str):
    """Nothing is generated, and no folder of the variable's name is made."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    caller = await connect(**{variable: "${NO_SUCH_NAME}/images"})
    assert len(await caller.client.list_tools()) == 5
    answer = await caller.generate()
    assert answer.code == "settings_invalid"
    assert f"{variable} names a variable that is not set: ${{NO_SUCH_NAME}}." in answer.error
    assert comfyui.prompts == []
    assert sorted(tmp_path.iterdir()) == before
