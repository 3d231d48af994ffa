"""Engines by name."""

from pathlib import Path

import pytest

from mcp_image_gen_local import engines
from mcp_image_gen_local.domain.request import Feature
from mcp_image_gen_local.engine_kit.registry import all_variables, engine_names, is_engine, supporters


def test_a_helper_module_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of engines/ whose name begins with "_" is one that engines share."""
    (tmp_path / "_common.py").write_text("")
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(tmp_path)])
    assert engine_names() == ["builtin", "comfyui"]
    assert not is_engine("_common")


def test_supporters_leave_out_the_one_that_asks():
    assert supporters(Feature.INIT_IMAGE) == ["builtin", "comfyui"]
    assert supporters(Feature.INIT_IMAGE, other_than="builtin") == ["comfyui"]
    assert supporters(Feature.SCHEDULER, other_than="comfyui") == []


def test_settings_of_engines_stand_beside_the_servers():
    assert {"IMAGE_GEN_ENGINE", "COMFYUI_URL"} <= set(all_variables())
