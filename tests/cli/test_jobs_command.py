"""mcp-image-gen jobs, jobs prune and cancel: the journal and the folder, seen from the terminal."""

import asyncio
import errno
import io
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from mcp_image_gen_local.app import App
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.settings import Settings
from mcp_image_gen_local.storage.sqlite_jobs import STEPS
from tests.cli.conftest import Command
from tests.comfyui_server import ComfyUIServer
from tests.engines.others import graph

DAY = 86_400


def generate(command: Command, prompt: str = "a fox", **options: object) -> Path:
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    run = command("generate", prompt, "--width", 64, "--height", 64, *words)
    assert run.code == 0, run.err
    return run.paths[0]


def age(path: Path, days: float) -> Path:
    os.utime(path, (time.time(), time.time() - days * DAY))
    return path


def make_unusable(state: Path) -> None:
    """Leave a journal that a newer version wrote."""
    with closing(sqlite3.connect(state / "jobs.sqlite3")) as file:
        file.execute(f"PRAGMA user_version = {len(STEPS) + 1}")


@pytest.fixture
def waiting(comfyui: ComfyUIServer, configure: Callable[..., Settings]) -> str:
    """A job that waits behind another client's; the server that queued it has ended."""

    async def begin() -> str:
        opened = App(configure())
        prompt_id = opened.runner.start(GenerationRequest(prompt="a fox", width=64, height=64))
        await comfyui.until(lambda server: server.queue_remaining == 2)
        await opened.aclose()
        return prompt_id

    comfyui.hold("step:1")
    post_theirs(comfyui)
    return asyncio.run(begin())


def post_theirs(comfyui: ComfyUIServer) -> None:
    """Let another client's job "theirs" run until it is held."""
    httpx2.post(f"{comfyui.url}/prompt", json={"prompt": graph(), "prompt_id": "theirs"}).raise_for_status()
    comfyui.wait_reached("step:1")


@pytest.fixture
def comfyui_off(comfyui: ComfyUIServer) -> ComfyUIServer:
    """No engine answers: the journal is enough."""
    comfyui.stop()
    return comfyui


def test_no_jobs_yet(command: Command, tmp_path: Path):
    run = command("jobs")
    assert (run.code, run.out) == (0, "")
    assert run.err == f"No jobs in {tmp_path / 'state' / 'jobs.sqlite3'}.\n"
    assert command("jobs", "--json").json == []


def test_jobs_are_listed_newest_first(command: Command, comfyui: ComfyUIServer):
    """Jobs are listed newest first with what came of them."""
    first = generate(command, seed=1)
    second = generate(command, seed=2, batch_size=2)
    comfyui.fail("out_of_memory")
    command("generate", "x", "--seed", 3)
    comfyui.stop()
    lines = command("jobs").out.splitlines()
    assert lines[0].split() == ["PROMPT_ID", "STATUS", "STARTED", "SECONDS", "SEED", "MODEL", "IMAGE"]
    assert [line.split()[1] for line in lines[1:]] == ["failed", "done", "done"]
    assert lines[1].endswith("out_of_memory")
    assert lines[2].endswith(f"{second} (+1)")
    assert lines[3].endswith(str(first))
    assert [line.index("flux1-schnell") for line in lines[1:]] == [lines[0].index("MODEL")] * 3


def test_json_tells_the_prompt_and_all_images(command: Command):
    path = generate(command, "ein Fuchs", seed=4, batch_size=2)
    (job,) = command("jobs", "--json").json
    assert (job["status"], job["prompt"], job["seed"], job["engine"]) == ("done", "ein Fuchs", 4, "comfyui")
    assert len(job["images"]) == 2
    assert job["images"][0]["path"] == str(path)
    assert job["created"][10] == "T"


def test_failed_and_running_choose(command: Command, comfyui: ComfyUIServer):
    generate(command)
    comfyui.fail("out_of_memory")
    command("generate", "x")
    assert [job["status"] for job in command("jobs", "--failed", "--json").json] == ["failed"]
    assert command("jobs", "--running", "--json").json == []
    assert len(command("jobs", "--limit", 1, "--json").json) == 1


def test_running_lists_a_job_that_waits_at_the_engine(command: Command, waiting: str):
    generates = command("jobs", "--running", "--json").json
    assert [(job["prompt_id"], job["status"], job["images"]) for job in generates] == [(waiting, "queued", [])]


def test_json_is_ascii_whatever_the_prompt(command: Command, monkeypatch: pytest.MonkeyPatch):
    """A pipe on Windows takes a few hundred characters only."""
    generate(command, "狐")
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", pipe)
    assert command("jobs", "--json").code == 0
    pipe.seek(0)
    assert "\\u72d0" in pipe.read()


def test_a_limit_may_be_larger_than_any_journal(command: Command):
    generate(command)
    assert len(command("jobs", "--limit", 10**20, "--json").json) == 1


@pytest.mark.parametrize("words", [("--running", "--failed"), ("--limit", "0")])
def test_what_makes_no_sense_is_refused(command: Command, words: tuple[str, ...]):
    run = command("jobs", *words)
    assert (run.code, run.out) == (2, "")
    assert words[0] in run.err


def test_a_journal_that_cannot_be_read_is_told(command: Command, tmp_path: Path):
    generate(command)
    make_unusable(tmp_path / "state")
    run = command("jobs", "--json")
    assert run.code == 1
    assert run.json["error"]["code"] == "journal_unusable"


def test_an_image_elsewhere_is_listed_there(command: Command, tmp_path: Path):
    """An image written elsewhere is listed where it is."""
    generate(command, output=tmp_path / "fox.png")
    assert command("jobs", "--json").json[0]["images"][0]["path"] == str(tmp_path / "fox.png")


# -- prune --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("comfyui_off")
def test_pruning_without_a_limit_is_refused(command: Command):
    run = command("jobs", "prune")
    assert run.code == 2
    assert "IMAGE_GEN_KEEP_DAYS" in run.err


@pytest.mark.parametrize("words", [("--keep-days", "0"), ("--keep-days", "-1"), ("--max-bytes", "0")])
def test_a_limit_that_would_delete_all_is_refused(command: Command, words: tuple[str, ...]):
    path = generate(command)
    assert command("jobs", "prune", *words).code == 2
    assert path.exists()


def test_old_images_and_their_jobs_go(command: Command):
    old, new = age(generate(command), 31), generate(command)
    run = command("jobs", "prune", "--keep-days", 30)
    assert (run.code, run.paths) == (0, [old])
    assert run.err == "Deleted: files: 1 (0.0 MB), jobs: 1.\n"
    assert (old.exists(), new.exists()) == (False, True)
    assert [job["images"][0]["path"] for job in command("jobs", "--json").json] == [str(new)]


def test_a_dry_run_changes_nothing(command: Command):
    old = age(generate(command), 31)
    run = command("jobs", "prune", "--keep-days", 30, "--dry-run")
    assert run.paths == [old]
    assert run.err.startswith("Would be deleted: files: 1")
    assert old.exists()
    assert len(command("jobs", "--json").json) == 1


def test_an_image_that_cannot_be_deleted(command: Command, monkeypatch: pytest.MonkeyPatch):
    """An image that cannot be deleted is reported and its job stays."""
    old = age(generate(command), 31)
    monkeypatch.setattr(Path, "unlink", refuse)
    run = command("jobs", "prune", "--keep-days", 30)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"Error: {old} cannot be deleted: {os.strerror(errno.EACCES)}.\n")
    assert len(command("jobs", "--json").json) == 1


def refuse(path: Path, **_: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_a_job_goes_with_the_last_of_its_images(command: Command):
    first = age(generate(command, batch_size=2), 31)
    assert command("jobs", "prune", "--keep-days", 30).paths == [first]
    (job,) = command("jobs", "--json").json
    age(Path(job["images"][1]["path"]), 31)
    command("jobs", "prune", "--keep-days", 30)
    assert command("jobs", "--json").json == []


def test_an_old_job_without_an_image(command: Command, comfyui: ComfyUIServer):
    """An old job that never had an image is forgotten."""
    comfyui.fail("out_of_memory")
    command("generate", "x")
    assert command("jobs", "prune", "--keep-days", 1e-9, "--json").json["jobs"] == 1
    assert command("jobs", "--json").json == []


def test_an_old_job_with_an_image_elsewhere(command: Command, tmp_path: Path):
    """An old job whose image lies elsewhere is remembered."""
    generate(command, output=tmp_path / "fox.png")
    assert command("jobs", "prune", "--keep-days", 1e-9, "--json").json["jobs"] == 0
    assert len(command("jobs", "--json").json) == 1


def test_a_job_that_has_not_ended_is_never_forgotten(command: Command, waiting: str):
    assert command("jobs", "prune", "--keep-days", 1e-9, "--json").json["jobs"] == 0
    assert [job["prompt_id"] for job in command("jobs", "--json").json] == [waiting]


def test_an_output_folder_that_cannot_be_listed(command: Command, tmp_path: Path):
    """An output folder that cannot be listed is reported."""
    (tmp_path / "images").write_text("no folder")
    run = command("jobs", "prune", "--keep-days", 30, "--json")
    assert (run.code, run.json["error"]["code"]) == (1, "output_not_writable")


def test_pruning_with_an_unusable_job_store(command: Command, tmp_path: Path):
    """Pruning with an unusable journal deletes images and tells."""
    old = age(generate(command), 31)
    make_unusable(tmp_path / "state")
    run = command("jobs", "prune", "--keep-days", 30)
    assert (run.code, run.paths, old.exists()) == (1, [old], False)
    assert "a newer version of mcp-image-gen wrote it" in run.err


def test_the_settings_are_the_limits_and_options_win(command: Command):
    old = age(generate(command), 31)
    assert command("jobs", "prune", "--keep-days", 40, IMAGE_GEN_KEEP_DAYS=30).paths == []
    facts = command("jobs", "prune", "--json", IMAGE_GEN_KEEP_DAYS=30).json
    assert [file["path"] for file in facts["deleted"]] == [str(old)]
    assert (facts["jobs"], facts["dry_run"]) == (1, False)


def test_a_limit_never_deletes_the_newest_image(command: Command, tmp_path: Path):
    """A server with a limit cleans up after each image but never that one."""
    first = generate(command)
    second = generate(command)
    stranger = tmp_path / "images" / "holiday.png"
    stranger.write_bytes(b"x" * 1000)
    third = command("generate", "c", "--width", 64, "--height", 64, IMAGE_GEN_MAX_BYTES=1).paths[0]
    assert [path.exists() for path in (first, second, third, stranger)] == [False, False, True, True]


def test_a_limit_removes_half_written_files(command: Command, tmp_path: Path):
    """A server with a limit removes what a killed one left half written."""
    generate(command)
    part = tmp_path / "images" / f".{'0a' * 16}.part"
    part.write_bytes(b"x")
    age(part, 1)
    command("generate", "b", "--width", 64, "--height", 64, IMAGE_GEN_KEEP_DAYS=30)
    assert not part.exists()


def test_a_folder_that_cannot_be_cleaned_up(
    command: Command, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A folder that cannot be cleaned up costs no image."""
    monkeypatch.setattr(os, "scandir", refuse)
    run = command("generate", "b", "--width", 64, "--height", 64, IMAGE_GEN_KEEP_DAYS=30)
    assert (run.code, run.paths[0].is_file()) == (0, True)
    assert "cannot be cleaned up" in caplog.text


# -- cancel -------------------------------------------------------------------------------------------------------


def test_a_job_that_another_server_left_waiting(command: Command, comfyui: ComfyUIServer, waiting: str):
    """A job that another server left waiting is cancelled."""
    run = command("cancel", waiting)
    assert (run.code, run.out, run.err) == (0, "", f"cancelled: The job {waiting} was cancelled.\n")
    assert (comfyui.deleted, comfyui.interrupted) == ([waiting], [])
    assert [job["prompt_id"] for job in command("jobs", "--failed", "--json").json] == [waiting]


def test_cancelling_a_finished_job_exits_1(command: Command):
    """Cancelling a finished job reports where it lies and exits 1."""
    path = generate(command)
    prompt_id = command("jobs", "--json").json[0]["prompt_id"]
    run = command("cancel", prompt_id)
    assert (run.code, run.paths) == (1, [path])
    assert run.err.endswith("Not cancelled: the job was done before.\n")


def test_cancelling_a_job_of_another_client_is_refused(command: Command, comfyui: ComfyUIServer):
    comfyui.hold("step:1")
    post_theirs(comfyui)
    run = command("cancel", "theirs", "--json")
    assert (run.code, run.json["error"]["code"]) == (1, "job_of_another")
    assert comfyui.interrupted == []
    comfyui.release("step:1")


def test_cancelling_what_nobody_knows(command: Command):
    assert command("cancel", "nope").code == 1
