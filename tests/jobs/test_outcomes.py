"""How jobs end: pure decisions about errors and images."""

from pathlib import Path

import pytest

from mcp_image_gen_local.domain.errors import (
    EngineAnswerUnusable,
    EngineRefused,
    EngineStalled,
    EngineUnreachable,
    GenerationCancelled,
    GenerationFailed,
    GenerationLost,
    ImageGenError,
    ImageGone,
    OutputNotWritable,
    UnexpectedError,
)
from mcp_image_gen_local.domain.image import SavedImage
from mcp_image_gen_local.domain.job import Job, JobStatus, Plan
from mcp_image_gen_local.jobs import outcomes
from tests.scripted_engine import ScriptedEngine

PLAN = Plan(model="m", seed=7)
RETRYABLE = [EngineUnreachable, EngineStalled, EngineRefused, EngineAnswerUnusable, OutputNotWritable, UnexpectedError]


def job(**fields: object) -> Job:
    return Job(**{"job_id": "a", "engine": "steered", "request": {"prompt": "x"}, "plan": PLAN, **fields})


def image(path: Path, index: int = 0) -> SavedImage:
    return SavedImage(path=path, seed=7, width=1, height=1, size_bytes=1, mime_type="image/png", index=index)


@pytest.fixture
def here(tmp_path: Path) -> SavedImage:
    (tmp_path / "here.png").touch()
    return image(tmp_path / "here.png")


@pytest.fixture
def gone(tmp_path: Path) -> SavedImage:
    return image(tmp_path / "gone.png", 1)


def test_images_on_disk(here: SavedImage, gone: SavedImage):
    assert outcomes.on_disk(job(images=(here, gone))) == (here,)


def test_a_running_job_is_not_settled(here: SavedImage):
    assert not outcomes.is_settled(job(status=JobStatus.RUNNING, images=(here,)))


def test_a_done_job_is_settled_with_its_images(here: SavedImage, gone: SavedImage):
    assert outcomes.is_settled(job(status=JobStatus.DONE, images=(here,)))
    assert not outcomes.is_settled(job(status=JobStatus.DONE, images=(here, gone)))
    assert outcomes.is_settled(job(status=JobStatus.DONE, images=(here,), plan=None))
    assert not outcomes.is_settled(job(status=JobStatus.DONE, images=(gone,), plan=None))


@pytest.mark.parametrize("kind", RETRYABLE)
def test_an_error_that_may_pass_is_not_settled(kind: type[ImageGenError]):
    assert not outcomes.is_settled(job(status=JobStatus.FAILED, error=kind("No.")))
    assert outcomes.is_settled(job(status=JobStatus.FAILED, error=kind("No."), plan=None))


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_an_end_without_an_image_is_settled(status: JobStatus):
    assert outcomes.is_settled(job(status=status, error=GenerationFailed("No.")))


def test_a_loss_is_settled_when_images_are_known(here: SavedImage):
    assert not outcomes.is_settled(job(status=JobStatus.LOST, error=GenerationLost("No.")))
    assert outcomes.is_settled(job(status=JobStatus.LOST, error=ImageGone("No."), images=(here,)))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GenerationCancelled, JobStatus.CANCELLED),
        (GenerationLost, JobStatus.LOST),
        (GenerationFailed, JobStatus.FAILED),
        (EngineUnreachable, JobStatus.FAILED),
    ],
)
def test_an_error_gives_the_status(error: type[ImageGenError], status: JobStatus):
    raised = error("What.", hint="Next.")
    found, given = outcomes.outcome(raised, job(plan=None))
    assert (found, type(given), given.message, given.hint) == (status, error, "What.", "Next.")
    assert given is not raised


@pytest.mark.parametrize("error", [GenerationCancelled, GenerationLost])
def test_a_requested_cancel(error: type[ImageGenError]):
    status, given = outcomes.outcome(error("What."), job(cancel_requested=True))
    assert (status, str(given), given.code) == ("cancelled", "The job a was cancelled.", "generation_cancelled")


@pytest.mark.parametrize("kind", RETRYABLE)
def test_a_cancel_that_the_engine_missed(kind: type[ImageGenError]):
    status, given = outcomes.outcome(kind("It is off."), job(cancel_requested=True))
    assert (status, given.message) == ("cancelled", "The job a was cancelled.")
    assert given.hint == "The cancel request failed: It is off."


def test_a_failure_after_a_cancel_request():
    """The engine failed on its own: that is what the user must know."""
    status, given = outcomes.outcome(GenerationFailed("No."), job(cancel_requested=True))
    assert (status, str(given)) == ("failed", "No.")


@pytest.mark.parametrize("kind", RETRYABLE)
def test_an_error_that_may_pass_says_so(kind: type[ImageGenError]):
    status, given = outcomes.outcome(kind("No.", hint="Start it."), job())
    assert (status, given.hint) == (
        "failed",
        'Start it. (Later, get_generation_status(prompt_id="a") fetches it.)',
    )
    assert outcomes.outcome(kind("No."), job())[1].hint == '(Later, get_generation_status(prompt_id="a") fetches it.)'


@pytest.mark.parametrize(
    ("request_fields", "have", "sentence"),
    [
        ({"batch_size": 3}, 1, "Only 1 of 3 images are available."),
        ({"batch_size": 3}, 3, ""),
        ({"batch_size": 3}, 0, ""),
        ({"batch_size": 3}, 4, ""),
        ({}, 0, ""),
        ({}, 1, ""),
        (None, 1, ""),
    ],
)
def test_an_incomplete_batch_says_so(request_fields: dict | None, have: int, sentence: str):
    images = tuple(image(Path(f"/{index}.png"), index) for index in range(have))
    assert outcomes.incomplete(job(request=request_fields, images=images)) == sentence


def test_a_loss_says_how_to_repeat():
    engine = ScriptedEngine()
    error = outcomes.loss(job(), engine)
    assert error.hint == "Call generate_image again (seed=7 generates the same image)."
    assert outcomes.loss(job(plan=Plan(model="m", seed=0)), engine).hint.endswith("(seed=0 generates the same image).")
    assert outcomes.loss(job(plan=None), engine).hint == "Call generate_image again."
    images = (image(Path("/a.png")), image(Path("/b.png"), 1))
    gone = outcomes.loss(job(images=images), engine)
    assert gone.message == (
        f"The image is no longer at {images[0].path}, {images[1].path}, and steered (http://scripted) does not have it "
        "either."
    )


def test_an_unknown_id_is_cut():
    error = outcomes.unknown("x" * 100, ScriptedEngine())
    assert error.message == f"Unknown prompt_id '{'x' * 64}': not found in this server's history or at http://scripted."
    assert error.hint == "Check the prompt_id. The answer of generate_image holds it."
