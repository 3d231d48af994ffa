"""mcp-image-gen doctor: what it finds, and how bad it is."""

import json
import os
from pathlib import Path

import pytest

from mcp_image_gen_local.cli.doctor_clients import paths
from mcp_image_gen_local.cli.doctor_folders import free_space
from mcp_image_gen_local.domain.finding import Level
from mcp_image_gen_local.engine_kit import registry
from tests.cli.conftest import Command, findings
from tests.comfyui_server import ComfyUIServer

LINKS = pytest.mark.skipif(os.name == "nt", reason="makes links")


def test_json_has_level_and_ok(command: Command, comfyui: ComfyUIServer):
    comfyui.fail("no_socket")
    found = {each["subject"]: each for each in command("doctor", "--json").json}
    assert list(found["engine"]) == ["subject", "ok", "level", "text"]
    assert (found["engine"]["level"], found["engine"]["ok"]) == ("ok", True)
    assert (found["socket"]["level"], found["socket"]["ok"]) == ("warn", True)


# -- engine -------------------------------------------------------------------------------------------------------


def test_a_blocked_websocket_is_a_warning(command: Command, comfyui: ComfyUIServer):
    """Images come all the same, by polling."""
    comfyui.fail("no_socket")
    run = command("doctor")
    level, text = findings(run.out)["socket"]
    assert (run.code, level) == (0, "warn")
    assert text.startswith(f"ComfyUI's WebSocket at {comfyui.url} cannot be reached (HTTP 404): progress comes by poll")


def test_another_program_at_the_address_is_named(command: Command, comfyui: ComfyUIServer):
    comfyui.fail("html")
    run = command("doctor")
    found = findings(run.out)
    assert (run.code, found["engine"][0]) == (1, "FAIL")
    assert found["answer"][1].startswith(f"{comfyui.url} answers: HTTP 200, text/html; charset=utf-8, ")


@pytest.mark.parametrize(
    "reply",
    [
        {"devices": 5},
        {"devices": ["x"]},
        {"devices": [{"name": 5, "vram_total": "8"}]},
        {"devices": None, "system": "x"},
        {"system": {"comfyui_version": ["0"]}},
        {},
    ],
)
def test_odd_system_stats_are_no_traceback(command: Command, comfyui: ComfyUIServer, reply: dict[str, object]):
    comfyui.system_stats.clear()
    comfyui.system_stats.update(reply)
    run = command("doctor")
    assert run.err == ""
    assert findings(run.out)["engine"][0] in ("ok", "FAIL")
    assert findings(run.out)["journal"][0] == "ok"


@pytest.mark.parametrize("where", ["make", "check", "import"])
def test_an_engine_may_raise_anything(command: Command, monkeypatch: pytest.MonkeyPatch, where: str):
    """A faulty engine of another package is a finding, with those about all else."""

    class Faulty:
        async def check(self) -> str:
            raise KeyError("devices")

        async def aclose(self) -> None:
            raise RuntimeError("twice")

    def make(_: object) -> Faulty:
        if where == "make":
            raise AttributeError("no such thing")
        return Faulty()

    def load(_: str) -> object:
        if where == "import":
            raise ImportError("libcuda.so.1")
        return usual(engine="comfyui")

    from dataclasses import replace

    spec = replace(registry.find_engine("comfyui"), make=make, diagnose=None)
    usual = lambda engine: spec  # noqa: E731
    monkeypatch.setattr(registry, "_load", load)
    run = command("doctor")
    assert run.code == 1
    level, text = findings(run.out)["engine"]
    assert level == "FAIL"
    assert text.startswith("An unexpected error: ")


@pytest.mark.parametrize(
    ("model", "reason"),
    [("nope", "ComfyUI has no model 'nope'"), ("flux1-schnell", "Missing: ae.safetensors")],
)
def test_a_default_model_must_be_usable(command: Command, comfyui: ComfyUIServer, model: str, reason: str):
    """IMAGE_GEN_MODEL that is not there, or lacks a file, fails every call that names no model."""
    comfyui.models["vae"] = []
    run = command("doctor", IMAGE_GEN_MODEL=model)
    level, text = findings(run.out)["model"]
    assert (run.code, level) == (1, "FAIL")
    assert text.startswith(f"IMAGE_GEN_MODEL='{model}' cannot be used: ")
    assert reason in text
    assert findings(command("doctor", IMAGE_GEN_MODEL="sdxl").out)["model"][0] == "ok"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_settings_that_cannot_be_read_are_a_finding(bare: Command, as_json: list[str]):
    run = bare("doctor", *as_json, IMAGE_GEN_WAIT_SECONDS="soon")
    assert (run.code, run.err) == (1, "")
    text = run.json[0]["text"] if as_json else findings(run.out)["settings"][1]
    assert "IMAGE_GEN_WAIT_SECONDS: Input should be a valid number" in text


def test_options_that_exclude_each_other_are_bad_usage(bare: Command):
    run = bare("doctor", "--engine", "builtin", "--url", "http://127.0.0.1:1")
    assert (run.code, run.out) == (2, "")


# -- folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["${HOME}/a b", "$HOME/a b", "%USERPROFILE%/a b", ' "~/a b" ', "'${env:HOME}/a b'"])
def test_a_folder_is_told_as_it_is_read(command: Command, home: Path, written: str):
    run = command("doctor", IMAGE_OUTPUT_DIR=written)
    level, text = findings(run.out)["folder"]
    assert (run.code, level) == (0, "ok")
    assert text.startswith(f"{home / 'a b'} (will be made; IMAGE_OUTPUT_DIR says ")


@pytest.mark.parametrize("written", ["${NO_SUCH_NAME}/x", "$NO_SUCH_NAME/x", "%NO_SUCH_NAME%/x", "${userHome}/x"])
def test_an_unknown_variable_in_a_folder_fails(command: Command, written: str):
    """Doctor and generate say the same sentence, and no folder of that name is made."""
    run = command("doctor", IMAGE_OUTPUT_DIR=written)
    sentence = f"IMAGE_OUTPUT_DIR names a variable that is not set: {written.removesuffix('/x')}. Write the whole path"
    assert run.code == 1
    assert findings(run.out)["folder"][0] == "FAIL"
    assert findings(run.out)["folder"][1].startswith(sentence)
    drawn = command("generate", "x", "--width", 64, "--height", 64, IMAGE_OUTPUT_DIR=written)
    assert (drawn.code, drawn.out) == (2, "")
    assert drawn.err.startswith(f"Error: {sentence}")
    assert list(Path.cwd().iterdir()) == []
    assert command("jobs", "prune", "--max-bytes", 1, IMAGE_OUTPUT_DIR=written).code == 2


def test_an_unknown_variable_in_the_state_folder(command: Command):
    run = command("doctor", IMAGE_GEN_STATE_DIR="${NO_SUCH_NAME}/x")
    assert findings(run.out)["journal"][0] == "FAIL"
    assert "IMAGE_GEN_STATE_DIR names a variable that is not set: ${NO_SUCH_NAME}." in findings(run.out)["journal"][1]


@LINKS
@pytest.mark.parametrize("below", ["", "more"])
def test_a_dead_link_is_no_output_folder(command: Command, tmp_path: Path, below: str):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    run = command("doctor", IMAGE_OUTPUT_DIR=tmp_path / "link" / below)
    level, text = findings(run.out)["folder"]
    assert (run.code, level) == (1, "FAIL")
    assert text.startswith(f"{tmp_path / 'link'} is a link to {tmp_path / 'gone'}, which does not exist: ")


@pytest.mark.parametrize("below", ["", "more"])
def test_a_file_is_no_output_folder(command: Command, tmp_path: Path, below: str):
    (tmp_path / "taken").write_text("a file")
    run = command("doctor", IMAGE_OUTPUT_DIR=tmp_path / "taken" / below)
    level, text = findings(run.out)["folder"]
    assert (run.code, level) == (1, "FAIL")
    assert text.startswith(f"{tmp_path / 'taken'} is a file, not a folder")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_cannot_be_made_fails(command: Command):
    run = command("doctor", IMAGE_OUTPUT_DIR="/proc/nonexistent/images")
    assert findings(run.out)["folder"][0] == "FAIL"


def test_input_folders_must_be_there(command: Command, tmp_path: Path):
    (tmp_path / "there").mkdir()
    folders = os.pathsep.join(map(str, (tmp_path / "there", tmp_path / "gone")))
    run = command("doctor", IMAGE_GEN_INPUT_DIRS=folders)
    level, text = findings(run.out)["inputs"]
    assert (run.code, level) == (1, "FAIL")
    assert text.startswith(f"IMAGE_GEN_INPUT_DIRS names what is no folder: {tmp_path / 'gone'}.")
    assert findings(command("doctor", IMAGE_GEN_INPUT_DIRS=tmp_path / "there").out)["inputs"][0] == "ok"


@pytest.mark.parametrize(
    ("free", "level", "said"),
    [
        (5 * 10**9, Level.OK, "5.0 GB free"),
        (10**9, Level.OK, "1.0 GB free"),
        (10**9 - 1, Level.WARN, "only 1000 MB free where "),
        (50 * 10**6, Level.WARN, "only 50 MB free where "),
        (49 * 10**6, Level.FAIL, "only 49 MB free where "),
        (0, Level.FAIL, "only 0 MB free where "),
    ],
)
def test_a_disk_that_is_nearly_full_fails(free: int, level: Level, said: str):
    found = free_space(Path("/images"), free)
    assert (found.level, found.text.startswith(said)) == (level, True)


# -- clients ------------------------------------------------------------------------------------------------------

STRANGER = {"command": "uvx", "args": ["mcp-image-gen@latest"], "env": {"KEY": "s3cret"}}
OURS = {"command": "mcp-image-gen", "args": []}


@pytest.mark.parametrize(
    "file",
    [
        *("~/.claude.json", "~/.cursor/mcp.json", "~/.gemini/settings.json", "~/.codeium/windsurf/mcp_config.json"),
        *("./.mcp.json", "./.vscode/mcp.json", "./opencode.jsonc", "~/.copilot/mcp-config.json"),
    ],
)
def test_a_client_that_starts_the_stranger_fails(command: Command, home: Path, file: str):
    """The file, the client and the right entry are named, and no secret of the entry."""
    path = Path(file.replace("~", str(home))).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("// mine\n" + json.dumps({"projects": {"/x": {"mcpServers": {"a": STRANGER}}}}))
    run = command("doctor")
    level, text = findings(run.out)["clients"]
    assert (run.code, level) == (1, "FAIL")
    assert f"{path} starts the package mcp-image-gen of the package index with uvx." in text
    assert 'Write "command": "mcp-image-gen", "args": [] instead' in text
    assert "s3cret" not in run.out
    path.write_text(json.dumps({"mcpServers": {"a": OURS}}))
    assert findings(command("doctor").out)["clients"] == (
        "ok",
        "1 configuration file was searched; none starts another project of our name",
    )


def test_a_file_that_cannot_be_read_is_skipped(command: Command, home: Path):
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").write_text("{nope")
    (home / ".claude.json").mkdir()
    run = command("doctor")
    assert run.code == 0
    lines = [line for line in run.out.splitlines() if line.startswith("warn  clients: ")]
    assert [line.split(" cannot be read (")[0] for line in lines] == [
        f"warn  clients: Claude Code: {home / '.claude.json'}",
        f"warn  clients: Cursor: {home / '.cursor' / 'mcp.json'}",
    ]


def test_the_other_command_on_the_path_fails(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Clients start the command of our name, whoever installed it."""
    name = "mcp-image-gen.cmd" if os.name == "nt" else "mcp-image-gen"
    script = tmp_path / "bin" / name
    script.parent.mkdir()
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    for module, code in (("mcp_image_gen.server", 1), ("mcp_image_gen_local.cli", 0)):
        script.write_text(f"#!/usr/bin/python3\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)
        run = command("doctor")
        assert run.code == code
    assert "command" not in findings(run.out)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_each_file_of_a_client_is_named_once(platform: str):
    environment = {"APPDATA": "/roaming", "CODEX_HOME": "/codex"}
    found = [path for _, path in paths(Path("/home"), Path("/project"), environment, platform)]
    assert len(found) == len(set(found))
    config = {"linux": "/home/.config", "darwin": "/home/Library/Application Support", "win32": "/roaming"}[platform]
    assert Path(config, "Claude", "claude_desktop_config.json") in found
    assert Path(config, "Code", "User", "mcp.json") in found
    assert Path("/codex/config.toml") in found
