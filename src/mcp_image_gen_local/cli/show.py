"""What the terminal shows: a progress bar and talk on stderr, data on stdout."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from rich import markup
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mcp_image_gen_local.domain.errors import InvalidRequest, OutputNotWritable
from mcp_image_gen_local.domain.job import Job, JobStatus
from mcp_image_gen_local.domain.model import ModelCatalog, ModelInfo
from mcp_image_gen_local.domain.text import MAX_NAME, clean, visible

talk = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def escape(text: object) -> str:
    """Return text of any origin as `talk` shows it: no markup, no character that steers the terminal."""
    return markup.escape(visible(text))


def line(text: object) -> None:
    """Print one line of data on stdout."""
    print(visible(text))


class ProgressBar:
    """A progress bar on stderr, where that is a terminal."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal)
        self._bar = self._bars.add_task("sending the job", total=None)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    async def update(self, job: Job) -> None:
        """Show the job's progress."""
        if job.progress:
            progress = job.progress
            doing = visible(progress.describe())
            self._bars.update(self._bar, description=doing, completed=progress.step, total=progress.steps)


def check_target(output: Path, count: int, *, overwrite: bool) -> None:
    """Refuse an --output that could not be written, before anything is generated.

    Raises:
        InvalidRequest: not a .png, in a folder that is not there, or one of the `count` files exists.
    """
    if output.suffix.lower() != ".png":
        raise InvalidRequest(f"--output {output} does not end in .png.", hint="Images are written as PNG.")
    if not output.absolute().parent.is_dir():
        raise InvalidRequest(f"The folder {output.absolute().parent} does not exist.", hint="Make it first.")
    for target in _targets(output, count):
        if target.is_dir():
            raise InvalidRequest(f"{target} is a folder.", hint="Choose another name.")
        if target.exists() and not overwrite:
            raise InvalidRequest(f"{target} exists.", hint="Choose another name, or add --overwrite.")


def _targets(output: Path, count: int) -> list[Path]:
    """Return FILE, FILE-2, FILE-3 ..."""
    first = output.absolute()
    return [first, *(first.with_stem(f"{first.stem}-{number}") for number in range(2, count + 1))]


def move(job: Job, output: Path) -> Job:
    """Move the images to `output`, further ones of a batch to output-2, output-3 ...; return the job with new paths.

    Raises:
        OutputNotWritable: an image could not be moved; it stays where it was saved.
    """
    images = []
    for image, target in zip(job.images, _targets(output, len(job.images)), strict=True):
        try:
            shutil.move(image.path, target)
        except OSError as error:
            raise OutputNotWritable(
                f"Cannot write {target}: {error.strerror or error}.", hint=f"The image is saved at {image.path}."
            ) from error
        images.append(replace(image, path=target))
    return replace(job, images=tuple(images))


def facts(job: Job) -> dict[str, Any]:
    """Return the job for --json."""
    known: dict[str, Any] = {"status": job.status, "prompt_id": job.job_id, "seconds": round(job.seconds, 2)}
    if job.images:
        known |= job.images[0].to_dict()
        known["images"] = [image.to_dict() for image in job.images]
    if job.plan:
        known["model"] = job.plan.model
    if job.error:
        known["error"] = job.error.to_dict()
    return {**known, "engine": job.engine, "notes": list(job.notes)}


def outcome(job: Job) -> None:
    """Print the paths on stdout and the rest on stderr."""
    for image in job.images:
        line(image.path)
    notes(job)
    for image in job.images:
        if image.uniform:
            talk.print(f"[yellow]Note:[/] {escape(image.path.name)} has one colour only; the VAE may have overflowed.")
    if job.status is JobStatus.DONE:
        seed = job.images[0].seed
        model = job.plan.model if job.plan else job.engine
        talk.print(f"{escape(model)}, seed {seed}, {job.seconds:.1f} s")
    else:
        state = job.progress.describe() if job.progress and not job.status.is_final else ""
        talk.print(f"{job.status}: {escape(job.error or state)}")


def notes(job: Job) -> None:
    """Print on stderr what the reader must know of the job."""
    for note in job.notes:
        talk.print(f"[yellow]Note:[/] {escape(note)}")


def models(catalog: ModelCatalog) -> None:
    """Print a table of models on stdout, as wide as it gets, and the files of every role on stderr."""
    shown = [clean(m.name, MAX_NAME) for m in catalog.models]
    longest, widest = max(map(len, shown), default=5), max((len(m.family) for m in catalog.models), default=6)
    line(f"{'MODEL':{longest}}  {'FAMILY':{widest}}  STEPS  CFG  SIZE       READY")
    for name, model in zip(shown, catalog.models, strict=True):
        line(f"{name:{longest}}  {model.family:{widest}}  {_defaults(model):21}  {_readiness(model)}")
    for role, names in catalog.files.items():
        talk.print(f"{role}: {escape(', '.join(clean(name, MAX_NAME) for name in names) or 'none')}")
    for problem in catalog.problems:
        talk.print(f"[yellow]Note:[/] {escape(problem)}")


def _defaults(model: ModelInfo) -> str:
    """Return steps, cfg and size in columns; nothing of a model that cannot generate."""
    size = f"{model.width}x{model.height}"
    return "" if model.unsupported else f"{model.steps:5}  {model.cfg:3g}  {size:9}"


def _readiness(model: ModelInfo) -> str:
    if model.ready:
        return "yes"
    return f"no; missing: {'; '.join(model.missing)}" if model.missing else f"no; {model.unsupported}"
