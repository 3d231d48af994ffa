"""The Dockerfile fits the program: its command is taken, its port and variables exist. Seen without Docker."""

import json
import re

import pytest

from mcp_image_gen_local.cli import commands
from mcp_image_gen_local.cli.commands import app
from mcp_image_gen_local.engine_kit.registry import all_variables
from scripts.links import ROOT, project

TEXT = (ROOT / "Dockerfile").read_text("utf-8")
PAGE = (ROOT / "docs" / "how-to" / "container.md").read_text("utf-8")


def instruction(word: str) -> str:
    """Return what the last instruction of this kind says."""
    return re.findall(rf"^{word} (.+)$", TEXT, flags=re.MULTILINE)[-1]


def test_its_command_serves_on_the_port_it_exposes(monkeypatch: pytest.MonkeyPatch):
    served = {}
    monkeypatch.setattr(commands, "serve_http", lambda settings, **given: served.update(given) or 0)
    assert app(json.loads(instruction("CMD")), result_action="return_value") == 0
    assert served == {"host": "0.0.0.0", "port": int(instruction("EXPOSE"))}


def test_without_a_token_it_refuses_to_start(capsys: pytest.CaptureFixture[str]):
    assert app(json.loads(instruction("CMD")), result_action="return_value") == 2
    assert "IMAGE_GEN_HTTP_TOKEN" in capsys.readouterr().err


def test_no_secret_is_in_it():
    assert "TOKEN=" not in TEXT


def test_its_entry_is_a_command_of_the_package():
    assert json.loads(instruction("ENTRYPOINT"))[0] in project()["scripts"]


def test_it_does_not_run_as_root():
    user = instruction("USER")
    assert int(user) > 999
    assert f"--uid {user}" in TEXT
    assert f"chown {user}" in PAGE


def test_it_sets_only_variables_that_exist():
    named = set(re.findall(r"\b((?:COMFYUI|IMAGE)_[A-Z_]+)", TEXT))
    assert named <= set(all_variables())


def test_everything_it_copies_exists_and_is_let_in():
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sources = [name for line in re.findall(r"^COPY (?!--)(.+) \S+$", TEXT, flags=re.MULTILINE) for name in line.split()]
    assert "*" in ignored
    assert [name for name in sources if not (ROOT / name).exists() or f"!{name}" not in ignored] == []


def test_its_python_is_one_we_test():
    versions = set(re.findall(r"^FROM python:(3\.\d+)-slim", TEXT, flags=re.MULTILINE))
    assert len(versions) == 1
    assert f"Programming Language :: Python :: {versions.pop()}" in project()["classifiers"]
