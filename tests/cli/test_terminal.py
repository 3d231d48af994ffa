"""What reaches a terminal: every character it can show, in its own code page, and none that steers it."""

import json
import os
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Run
from tests.comfyui_server import ComfyUIServer

MODEL = "Модель_xl.safetensors"
ATTACK = "\x1b]0;PWNED\x07\x1b[31m\r\u202e\x9b2J"
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CODE_PAGES = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C locale": C_LOCALE,
    "C locale, cp1252": {**C_LOCALE, "PYTHONIOENCODING": "cp1252"},
}


@pytest.fixture
def process(comfyui: ComfyUIServer, tmp_path: Path) -> Callable[..., Run]:
    """Run the command as a process of a code page, with Cyrillic folders and a Cyrillic model."""
    comfyui.models["checkpoints"] = [MODEL]
    folders = {"IMAGE_OUTPUT_DIR": str(tmp_path / "Картинки"), "IMAGE_GEN_STATE_DIR": str(tmp_path / "Журнал")}

    def run(code_page: str, *arguments: str) -> Run:
        done = subprocess.run(
            [sys.executable, "-m", "mcp_image_gen_local", *arguments],
            env={**os.environ, "COMFYUI_URL": comfyui.url, **folders, **CODE_PAGES[code_page]},
            capture_output=True,
            timeout=50,
            check=False,
        )
        return Run(done.returncode, read(done.stdout), read(done.stderr))

    return run


def read(printed: bytes) -> str:
    """Return what was printed: characters that the code page lacks stand there as codes."""
    text = printed.decode("utf-8")
    return text if any(ord(c) > 127 for c in text) else text.encode().decode("unicode_escape")


@pytest.mark.parametrize("code_page", CODE_PAGES)
def test_no_code_page_costs_an_image(process, comfyui: ComfyUIServer, tmp_path: Path, code_page: str):
    """The path is printed whole, as codes where the code page lacks its characters, and the job is done."""
    run = process(code_page, "generate", "рыжий кот", "--width", "64", "--height", "64", "--model", MODEL)
    assert (run.code, "Traceback" in run.err) == (0, False)
    assert [Path(line) for line in run.out.splitlines()] == list((tmp_path / "Картинки").iterdir())
    assert run.err.startswith(MODEL)
    assert "рыжий кот" in [node["inputs"].get("text") for node in comfyui.prompts[0]["prompt"].values()]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["jobs"], "Картинки"),
        (["models"], MODEL),
        (["doctor"], "Журнал"),
        (["jobs", "prune", "--max-bytes", "1"], "Картинки"),
        (["generate", "кот", "--model", "Нет"], "Нет"),
    ],
)
def test_each_command_prints_in_a_narrow_code_page(process, arguments: list[str], word: str):
    assert process("ascii", "generate", "кот", "--width", "64", "--height", "64").code == 0
    run = process("cp1252", *arguments)
    assert (run.code, "Traceback" in run.err) == (1 if "Нет" in arguments else 0, False)
    assert word in run.out + run.err


def test_json_is_the_same_in_every_code_page(process):
    assert process("C locale", "generate", "кот", "--width", "64", "--height", "64").code == 0
    wide, narrow = process("C locale", "jobs", "--json"), process("cp1252", "jobs", "--json")
    assert json.loads(wide.out) == json.loads(narrow.out)
    assert json.loads(wide.out)[0]["prompt"] == "кот"


def test_an_engine_cannot_steer_the_terminal(command: Command, comfyui: ComfyUIServer):
    """Names, devices and errors of an engine are printed without control characters."""
    comfyui.system_stats["devices"][0]["name"] = f"card{ATTACK}"
    comfyui.system_stats["system"]["comfyui_version"] = f"0.33.0{ATTACK}"
    comfyui.models["checkpoints"] = [f"flux1-schnell{ATTACK}.safetensors"]
    comfyui.fail("node_error")
    runs = [command("doctor"), command("generate", "x"), command("generate", "x", "--model", "nope"), command("jobs")]
    assert [run.code for run in runs] == [0, 1, 1, 0]
    assert "card" in runs[0].out
    for run in runs:
        assert steering(run.out) + steering(run.err) == []


def test_a_planted_row_cannot_steer_the_terminal(command: Command, tmp_path: Path):
    """A row of the journal that somebody wrote is printed without control characters."""
    assert command("generate", "x", "--width", 64, "--height", 64).code == 0
    planted = json.dumps({"code": f"nope{ATTACK}", "message": ATTACK, "hint": ""})
    with closing(sqlite3.connect(tmp_path / "state" / "jobs.sqlite3", isolation_level=None)) as other:
        other.execute(
            "UPDATE jobs SET job_id = job_id || ?, images = '[]', status = 'failed', error = ?", (ATTACK, planted)
        )
    run = command("jobs")
    assert "nope" in run.out
    assert steering(run.out) + steering(run.err) == []


def test_a_log_line_cannot_steer_the_terminal(bare: Command, monkeypatch: pytest.MonkeyPatch):
    """What is logged without a log of its own is printed in one line and without control characters."""
    import logging

    from mcp_image_gen_local.cli import logs

    logs.plain_last_resort()
    assert bare("--version").code == 0
    record = logging.makeLogRecord({"msg": "socket lost: %s", "args": (f"a\nb{ATTACK}",), "levelno": 30})
    line = logging.lastResort.format(record)
    assert line.startswith("socket lost: a\\nb\\x1b]0;PWNED")
    assert steering(line) == []


def test_a_path_keeps_blanks_and_joiners(command: Command, tmp_path: Path):
    """What needs no code is printed as it is, so that a path can be copied."""
    folder = tmp_path / "two  blanks می‌خواهم 👩‍🎨"
    run = command("generate", "x", "--width", 64, "--height", 64, IMAGE_OUTPUT_DIR=folder)
    assert run.paths == list(folder.iterdir())


def steering(text: str) -> list[str]:
    """Return the characters that steer a terminal; line ends do not."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\u200c\u200d"]
