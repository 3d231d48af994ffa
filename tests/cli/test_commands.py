"""models, status, doctor, help and bad usage."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from starlette.responses import Response

from mcp_image_gen_local import __version__
from tests.cli.conftest import Command, findings
from tests.comfyui_server import ComfyUIServer

COMMON = ["--engine", "--url", "--output-dir", "--json"]
OPTIONS = {
    "generate": [
        *("--prompt", "--negative-prompt", "--width", "--height", "--steps", "--seed", "--cfg", "--model"),
        *("--batch-size", "--sampler", "--scheduler", "--output", "-o", "--overwrite", *COMMON),
    ],
    "status": ["--prompt-id", *COMMON],
    "models": COMMON,
    "doctor": COMMON,
    "serve": ["--http", "--host", "--port"],
}


def test_models_list_defaults_and_missing_parts(command: Command, comfyui: ComfyUIServer):
    """Models lists each with its defaults and what it lacks."""
    comfyui.models["vae"] = []
    run = command("models")
    header, *rows = run.out.splitlines()
    assert run.code == 0
    assert header.split() == ["MODEL", "FAMILY", "STEPS", "CFG", "SIZE", "READY"]
    assert re.fullmatch(
        r"flux1-schnell.safetensors +flux1-schnell +4 +1 +1024x1024 +no; missing: ae.safetensors .*", rows[0]
    )
    assert any(re.fullmatch(r"v1-5-pruned\S+ +sd15 +25 +7 +512x512 +yes", row) for row in rows)
    assert "vae: pixel_space" in run.err  # ComfyUI offers this one without a file
    assert "text_encoder: clip_l.safetensors, t5xxl_fp8_e4m3fn.safetensors" in run.err


def test_models_that_cannot_generate_say_why(command: Command, comfyui: ComfyUIServer):
    """A file of another kind is told apart from one that lacks a part; a name that steers the terminal is left out."""
    comfyui.models["checkpoints"] = ["svd_xt.safetensors", "z_image_bf16.safetensors", "e\x1b[31mvil-xl.safetensors"]
    table = command("models").out
    assert re.search(r"^svd_xt\S+ +video +no; It is a video model; this version generates images only.$", table, re.M)
    assert re.search(r"^z_image\S+ +Z-Image +no; This version cannot run Z-Image; it runs .*$", table, re.M)
    assert "\x1b" not in table
    assert "vil-xl" not in table  # no such file can be named
    assert "\x1b" not in table


def test_models_as_json(command: Command):
    told = command("models", "--json").json
    first = told["models"][0]
    assert (first["name"], first["ready"]) == ("flux1-schnell.safetensors", True)
    assert "missing" not in first
    assert "ae.safetensors" in told["files"]["vae"]


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_models_of_an_engine_that_is_off(command: Command, comfyui: ComfyUIServer, json_: list[str]):
    comfyui.stop()
    run = command("models", *json_)
    assert run.code == 3
    assert "ComfyUI not reachable" in (run.out if json_ else run.err)


def test_status_of_a_job_of_another_process(command: Command, comfyui: ComfyUIServer):
    """Status brings the image of a job that another process began."""
    prompt_id = command("generate", "x", "--width", 64, "--height", 64, "--seed", 4, "--json").json["prompt_id"]
    run = command("status", prompt_id)
    assert run.code == 0
    assert run.paths[0].name.endswith("_4.png")
    assert command("status", prompt_id, "--json").json["status"] == "done"


def test_status_of_a_running_job_exits_1(command: Command, comfyui: ComfyUIServer):
    """Status reports where a running job stands and exits 1.

    A job that another process began; looking at it does not end it.
    """
    assert command("generate", "x", "--width", 64, "--height", 64).code == 0
    graph = comfyui.prompts[0]["prompt"]
    next(node["inputs"] for node in graph.values() if node["class_type"] == "KSampler")["seed"] = 99
    comfyui.hold("step:1")
    body = {"prompt": graph, "prompt_id": "another-process"}
    httpx2.post(f"{comfyui.url}/prompt", json=body).raise_for_status()
    comfyui.wait_reached("step:1")
    run = command("status", "another-process", "--json", IMAGE_GEN_WAIT_SECONDS=0.2)
    assert run.code == 1
    assert run.json["status"] == "running"
    assert command("status", "another-process", IMAGE_GEN_WAIT_SECONDS=0.2).err == "running: working\n"
    assert (comfyui.interrupted, comfyui.queue_remaining) == ([], 1)
    comfyui.release("step:1")
    assert command("status", "another-process").paths[0].is_file()


def test_a_job_that_takes_too_long_is_withdrawn(command: Command, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    run = command("generate", "y", "--json", IMAGE_GEN_JOB_TIMEOUT_SECONDS=0.5)
    assert run.code == 1
    assert run.json["error"]["code"] == "generation_timeout"
    assert comfyui.interrupted == [comfyui.prompts[0]["prompt_id"]]


def test_status_of_an_unknown_job(command: Command):
    run = command("status", "nope", "--json")
    assert run.code == 1
    assert run.json["status"] == "unknown"
    assert run.json["error"]["code"] == "prompt_unknown"
    assert "Unknown prompt_id 'nope'" in command("status", "nope").err


# -- doctor -------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong(command: Command, comfyui: ComfyUIServer, tmp_path: Path):
    run = command("doctor")
    found = findings(run.out)
    assert run.code == 0
    assert {subject: verdict for subject, (verdict, _) in found.items()} == dict.fromkeys(
        ("engine", "socket", "models", "folder", "disk", "journal"), "ok"
    )
    assert found["engine"][1].startswith(f"ComfyUI 0.3.64 at {comfyui.url}, on ")
    assert found["models"][1] == "flux1-schnell.safetensors is ready, and 2 more"
    assert found["folder"][1] == f"{tmp_path / 'images'} (will be made)"
    assert not (tmp_path / "images").exists()


def test_doctor_without_an_engine(command: Command, comfyui: ComfyUIServer):
    comfyui.stop()
    run = command("doctor")
    assert run.code == 1
    assert findings(run.out)["engine"] == (
        "FAIL",
        f"ComfyUI not reachable at {comfyui.url}. Start with: python main.py --listen 127.0.0.1",
    )
    assert findings(run.out)["folder"][0] == "ok"


@pytest.mark.parametrize("route", ["/system_stats", "/object_info/"])
def test_doctor_never_tells_a_password(command: Command, comfyui: ComfyUIServer, route: str):
    comfyui.mutate = lambda method, path, response: Response("x", 500) if path.startswith(route) else response
    run = command("doctor", COMFYUI_URL=comfyui.url.replace("//", "//me:s3cret-word@"))
    assert run.code == 1
    assert f"{comfyui.url}{route}" in run.out
    assert "s3cret-word" not in run.out + run.err


@pytest.mark.parametrize("asks", ["doctor", "models"])
def test_a_list_that_cannot_be_read_is_told(command: Command, comfyui: ComfyUIServer, asks: str):
    """The others are there, and so is the fault of the one."""
    comfyui.mutate = lambda method, path, response: Response("x", 500) if path.endswith("/VAELoader") else response
    run = command(asks)
    assert run.code == 0
    assert "ComfyUI's files of role vae are not known: " in " ".join((run.out + run.err).split())


def test_doctor_with_a_journal_that_cannot_be_used(command: Command, tmp_path: Path):
    (tmp_path / "state").write_text("a file where the folder should be")
    run = command("doctor")
    verdict, text = findings(run.out)["journal"]
    assert (run.code, verdict) == (1, "FAIL")
    assert text.startswith(f"Job history is unavailable ({tmp_path / 'state' / 'jobs.sqlite3'}: ")
    assert run.err == ""


def test_doctor_with_a_locked_job_store(command: Command, tmp_path: Path):
    """Doctor with a journal that another program holds locked."""
    assert command("doctor").code == 0
    with closing(sqlite3.connect(tmp_path / "state" / "jobs.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        verdict, text = findings(command("doctor").out)["journal"]
    assert verdict == "FAIL"
    assert "another program holds a lock on it" in text


@pytest.mark.parametrize("asks", ["status", "cancel"])
def test_an_unknown_job_without_a_job_store(
    command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture, asks: str
):
    """A job that is unknown because the journal cannot be used is reported so."""
    (tmp_path / "state").write_text("a file where the folder should be")
    run = command(asks, "84e1a8c0-76d5-4f0a-b3b6-eaf8cb7d9f0d")
    assert run.code == 1
    assert caplog.text.count("Job history is unavailable") == 1


def test_a_job_that_cannot_be_read_is_told_of(command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert command("generate", "a red apple", "--width", 64, "--height", 64).code == 0
    with closing(sqlite3.connect(tmp_path / "state" / "jobs.sqlite3", isolation_level=None)) as other:
        other.execute("UPDATE jobs SET images = '{odd'")
    command("jobs")
    assert "in the database cannot be read" in caplog.text


def test_an_unusable_journal_is_told_once(command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "state").write_text("a file where the folder should be")
    run = command("generate", "a red apple", "--width", 64, "--height", 64)
    assert run.code == 0
    assert run.err.count("Job history is unavailable") == 1
    assert "Job history is unavailable" not in caplog.text


def test_doctor_with_a_comfyui_that_is_too_old(command: Command, comfyui: ComfyUIServer):
    comfyui.system_stats["system"]["comfyui_version"] = "0.3.56"
    run = command("doctor")
    assert run.code == 1
    assert findings(run.out)["engine"] == (
        "FAIL",
        f"The ComfyUI at {comfyui.url} is too old: it is version 0.3.56, which cannot interrupt one job alone. "
        "Update ComfyUI to 0.3.57 or newer.",
    )


@pytest.mark.parametrize("version", [None, "", {"odd": 1}, "nightly", "v0.3.57", "0.33.0"])
def test_doctor_accepts_a_new_or_unknown_version(command: Command, comfyui: ComfyUIServer, version: str | None):
    """Doctor takes a ComfyUI whose version is new or not told."""
    comfyui.system_stats["system"]["comfyui_version"] = version
    assert command("doctor").code == 0


def test_doctor_with_another_program_at_the_address(command: Command, comfyui: ComfyUIServer):
    comfyui.fail("html")
    run = command("doctor")
    assert run.code == 1
    assert "COMFYUI_URL must be the address of ComfyUI itself" in findings(run.out)["engine"][1]


def test_doctor_without_the_default_model(command: Command, comfyui: ComfyUIServer):
    """Doctor without the default model names what generates instead and what is missing."""
    comfyui.models["diffusion_models"] = []
    run = command("doctor")
    verdict, text = findings(run.out)["models"]
    assert (run.code, verdict) == (0, "ok")
    assert text.startswith("sd_xl_base_1.0.safetensors is ready (flux1-schnell is not ready; get ")


def test_doctor_without_any_model(command: Command, comfyui: ComfyUIServer):
    """Doctor without any model says what to download and where to."""
    comfyui.models.update(diffusion_models=[], checkpoints=[])
    run = command("doctor")
    assert run.code == 1
    assert findings(run.out)["models"] == (
        "FAIL",
        "nothing can generate: flux1-schnell is not ready; get flux1-schnell-fp8.safetensors from "
        "Comfy-Org/flux1-schnell (Hugging Face) into models/checkpoints",
    )


def test_doctor_with_a_read_only_folder(command: Command, tmp_path: Path):
    """Doctor with a folder that cannot be written to."""
    (tmp_path / "taken").write_text("a file")
    run = command("doctor", "--json", IMAGE_OUTPUT_DIR=tmp_path / "taken")
    assert run.code == 1
    assert {f["subject"]: f["level"] for f in run.json if not f["ok"]} == {"folder": "FAIL"}
    assert "set IMAGE_OUTPUT_DIR" in run.json[3]["text"]


# -- usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_help_tells_every_option(bare: Command, name: str):
    run = bare(name, "--help")
    assert run.code == 0
    assert [o for o in OPTIONS[name] if not re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", run.out)] == []


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_tells_every_command(bare: Command, arguments: list[str]):
    run = bare(*arguments)
    assert (run.code, run.err) == (0, "")
    assert all(name in run.out for name in OPTIONS)


def test_version(bare: Command):
    run = bare("--version")
    assert (run.code, run.out, run.err) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["generate", "x", "--nope"], "--nope"),
        (["generate"], "--prompt"),
        (["generate", "x", "--seed", "abc"], "abc"),
        (["generate", "x", "y"], "y"),
        (["nope"], "nope"),
        (["status"], "--prompt-id"),
        (["serve", "--http", "--port", "x"], "--port"),
    ],
)
def test_bad_usage_exits_2_and_says_so_on_stderr(bare: Command, arguments: list[str], word: str):
    run = bare(*arguments)
    assert (run.code, run.out) == (2, "")
    assert word in run.err


@pytest.mark.parametrize("arguments", [["generate", "x"], ["models"], ["status", "x"], ["serve"]])
def test_a_bad_variable_exits_2_and_is_named(bare: Command, arguments: list[str]):
    run = bare(*arguments, IMAGE_GEN_WAIT_SECONDS="soon")
    assert (run.code, run.out) == (2, "")
    assert "IMAGE_GEN_WAIT_SECONDS: Input should be a valid number" in run.err


def test_a_bad_variable_as_json(bare: Command):
    run = bare("models", "--json", COMFYUI_HEADERS="nope")
    assert run.code == 2
    assert run.json["error"]["code"] == "settings_invalid"
    assert "COMFYUI_HEADERS" in json.dumps(run.json)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.20", "my-host"])
def test_http_beyond_this_machine_needs_a_token(bare: Command, host: str):
    run = bare("serve", "--http", "--host", host)
    assert (run.code, run.out) == (2, "")
    assert f"--host {host} can be reached from other machines, and no token protects it." in run.err
    assert "Set IMAGE_GEN_HTTP_TOKEN" in run.err
