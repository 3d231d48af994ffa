"""The disk is full, at every write; and what it costs."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui_server import ComfyUIServer
from tests.conftest import Caller


class FullDisk:
    """Lets the first `writes` writes of images through, and fails the others."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, writes: int) -> None:
        owner = Path if name == "write_bytes" else os
        self._write = getattr(owner, name)
        self._left = writes
        patch.setattr(owner, name, lambda *arguments: self._fail_in_the_end(*arguments))  # a function, so it binds

    def _fail_in_the_end(self, *arguments: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(*arguments)


@pytest.mark.parametrize("writes", range(3))
async def test_a_disk_that_fills_up_within_a_batch(
    caller: Caller, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, writes: int
):
    """A disk that fills up within a batch costs nothing in the end.

    What was saved is not saved again; what was not is fetched once there is space.
    """
    with monkeypatch.context() as patch:
        FullDisk(patch, "write_bytes", writes)
        error = (await caller.generate(batch_size=3)).error
    assert error.startswith("The disk is full")
    before = set((tmp_path / "images").iterdir())
    assert len(before) == writes
    prompt_id = comfyui.prompts[0]["prompt_id"]
    facts = (await caller.call("get_generation_status", prompt_id=prompt_id)).facts
    after = set((tmp_path / "images").iterdir())
    assert (facts["status"], len(facts["images"]), len(after)) == ("done", 3, 3)
    assert before < after
    assert {image["path"] for image in facts["images"]} == {str(path) for path in after}
    assert len(comfyui.rendered) == 1


async def test_a_full_disk_is_reported_by_the_next_server(
    connect, comfyui: ComfyUIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A disk that fills up is reported to the next server too."""
    first = await connect()
    with monkeypatch.context() as patch:
        FullDisk(patch, "write_bytes", 1)
        await first.generate(batch_size=2)
    await first.client.close()
    prompt_id = comfyui.prompts[0]["prompt_id"]
    facts = (await (await connect()).call("get_generation_status", prompt_id=prompt_id)).facts
    assert (facts["status"], len(facts["images"])) == ("done", 2)
    assert len(list((tmp_path / "images").iterdir())) == 2


async def test_a_disk_without_room_for_a_name(caller: Caller, monkeypatch: pytest.MonkeyPatch):
    """A disk without room for a name is taken as one without links."""
    FullDisk(monkeypatch, "link", 0)
    assert (await caller.generate()).facts["status"] == "done"


async def test_a_full_disk_under_the_job_store(caller: Caller):
    """A full disk under the journal is reported with the image.

    SQLite's own limit stands for the disk's: the error is the same.
    """
    assert (await caller.generate(seed=1)).facts["status"] == "done"
    await caller.app.jobs.run(lambda file: file.execute("PRAGMA max_page_count = 1"), writes=False)
    answers = [await caller.generate("a very long prompt " * 200, seed=seed) for seed in range(2, 9)]
    assert [answer.facts["status"] for answer in answers] == ["done"] * 7
    assert "Job history is unavailable" in answers[-1].story
    assert "running jobs will not survive a server restart" in answers[-1].story
