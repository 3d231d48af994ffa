"""The commands."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App as CommandLine
from cyclopts import Parameter

from mcp_image_gen_local import __version__
from mcp_image_gen_local.app import App
from mcp_image_gen_local.cli import show
from mcp_image_gen_local.cli.doctor import examine
from mcp_image_gen_local.cli.frame import FAILED, Common, guarded, report, run
from mcp_image_gen_local.cli.jobs import list_jobs
from mcp_image_gen_local.cli.jobs import prune as prune_images
from mcp_image_gen_local.cli.serving import serve_http, serve_stdio
from mcp_image_gen_local.domain.job import JobStatus
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.settings import load_settings
from mcp_image_gen_local.storage.inputs import read_input

app = CommandLine(
    name="mcp-image-gen",
    version=__version__,
    help="Generate images from any MCP client on hardware you own.",
    help_format="plaintext",
    help_epilogue=(
        "Examples:\n"
        '  mcp-image-gen generate "a lighthouse at dusk"\n'
        '  mcp-image-gen generate "a red apple" --seed 7 -o apple.png\n'
        "  mcp-image-gen doctor\n"
        "  mcp-image-gen models --json\n"
        "  mcp-image-gen jobs --failed\n"
        "  mcp-image-gen jobs prune --keep-days 30 --dry-run\n"
        "  mcp-image-gen cancel 84e1a8c0-76d5-4f0a-b3b6-eaf8cb7d9f0d\n\n"
        "MCP clients start it without arguments; it then speaks MCP over stdin and stdout. Settings come from the "
        "environment: COMFYUI_URL, IMAGE_OUTPUT_DIR, IMAGE_GEN_* (see the README)."
    ),
)


@app.command
def serve(*, http: bool = False, host: str = "127.0.0.1", port: int = 8765) -> int:
    """Serve MCP: over stdin and stdout, or over HTTP.

    Parameters
    ----------
    http
        Serve streamable HTTP at http://HOST:PORT/mcp instead of stdio.
    host
        Address to listen on; one that other machines reach needs IMAGE_GEN_HTTP_TOKEN.
    port
        TCP port to listen on.
    """
    if not http:
        return serve_stdio()
    return guarded(lambda: serve_http(load_settings(), host=host, port=port), as_json=False)


@app.command
def generate(  # the field's words, all but one optional
    prompt: str,
    *,
    negative_prompt: str = "",
    width: int | None = None,
    height: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    cfg: float | None = None,
    model: str | None = None,
    batch_size: int = 1,
    sampler: str | None = None,
    scheduler: str | None = None,
    init_image: Path | None = None,
    denoise: float | None = None,
    output: Annotated[Path | None, Parameter(name=["-o", "--output"])] = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
) -> int:
    """Generate an image and print the path of its file.

    Parameters
    ----------
    prompt
        What to generate.
    negative_prompt
        What to avoid; no effect on models with cfg 1.
    width
        Pixels, 16 to 4096; default by model.
    height
        Pixels, 16 to 4096; default by model.
    steps
        Sampling steps; default by model, 4 for FLUX.1-schnell.
    seed
        The same seed and settings generate the same image; default random.
    cfg
        Classifier-free guidance scale; default by model.
    model
        Family or file name, as `mcp-image-gen models` lists them.
    batch_size
        Images to generate, 1 to 16.
    sampler
        Sampler, e.g. euler.
    scheduler
        Scheduler, e.g. simple.
    init_image
        Image file to begin with.
    denoise
        0 keeps init_image, 1 ignores it.
    output
        File to write instead of a new one in the output folder; ends in .png.
    overwrite
        Let --output replace a file that exists.
    """
    common = common or Common()

    async def run_request(opened: App) -> int:
        if output:
            show.check_target(output, batch_size, overwrite=overwrite)
        request = GenerationRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            width=width,
            height=height,
            steps=steps,
            seed=seed,
            cfg=cfg,
            model=model,
            batch_size=batch_size,
            sampler=sampler,
            scheduler=scheduler,
            init_image=read_input(init_image) if init_image else None,
            denoise=denoise,
        )
        prompt_id = opened.runner.start(request)
        try:
            job = await show.follow(opened.runner, prompt_id, seconds=opened.settings.job_timeout_seconds + 60)
        except asyncio.CancelledError:
            print("Cancelled: taking the job back ...", file=sys.stderr)
            await opened.runner.cancel(prompt_id)
            raise
        if job.error:
            show.notes(job)
            raise job.error.anew()
        if output:
            job = show.move(job, output)
            await opened.journal.update(job)  # where the image lies now
        return report(job, as_json=common.json)

    return run(common, run_request, tells_of_journal=True)


@app.command
def status(prompt_id: str, *, common: Common | None = None) -> int:
    """Wait for a job that was left running, and print the path of its image; exit 1 unless it is done.

    Parameters
    ----------
    prompt_id
        The id that generate_image answered with.
    """
    common = common or Common()

    async def look(opened: App) -> int:
        await opened.runner.find(prompt_id)
        job = await show.follow(opened.runner, prompt_id, seconds=opened.settings.wait_seconds)
        return report(job, as_json=common.json)

    return run(common, look)


@app.command
def cancel(prompt_id: str, *, common: Common | None = None) -> int:
    """Take a job back from the engine, whichever of your servers queued it; exit 1 unless it is cancelled.

    Parameters
    ----------
    prompt_id
        The job's id, as `mcp-image-gen jobs` lists it.
    """
    common = common or Common()

    async def withdraw(opened: App) -> int:
        job = await opened.runner.cancel(prompt_id)
        report(job, as_json=common.json)
        if not common.json and job.status is JobStatus.DONE:
            show.talk.print("Not cancelled: the job was done before.")
        elif not common.json and not job.status.is_final:
            show.talk.print(f"Not cancelled yet: {show.escape(job.untold) or 'the engine has not let go of it.'}")
        return 0 if job.status is JobStatus.CANCELLED else FAILED

    return run(common, withdraw)


jobs_app = CommandLine(name="jobs", help="List what was generated; `jobs prune` makes room.", help_format="plaintext")
app.command(jobs_app)


@jobs_app.default
def jobs(
    *,
    running: Annotated[bool, Parameter(negative="")] = False,
    failed: Annotated[bool, Parameter(negative="")] = False,
    limit: int = 20,
    common: Common | None = None,
) -> int:
    """List the newest jobs of all your servers, the newest first; no engine is asked.

    Parameters
    ----------
    running
        Only those that had not ended when last heard of.
    failed
        Only those that failed, were lost or cancelled.
    limit
        How many.
    """
    common = common or Common()
    return run(
        common,
        lambda opened: list_jobs(opened, running=running, failed=failed, limit=limit, as_json=common.json),
        tells_of_journal=True,
    )


@jobs_app.command
def prune(
    *,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    keep_days: float | None = None,
    max_bytes: int | None = None,
    common: Common | None = None,
) -> int:
    """Delete old images from the output folder and print their paths; other files are never touched.

    Parameters
    ----------
    dry_run
        Only tell what would be deleted.
    keep_days
        Delete images older than so many days (IMAGE_GEN_KEEP_DAYS).
    max_bytes
        Delete the oldest until the rest takes so many bytes (IMAGE_GEN_MAX_BYTES).
    """
    common = common or Common()
    return run(
        common,
        lambda opened: prune_images(
            opened, keep_days=keep_days, max_bytes=max_bytes, dry_run=dry_run, as_json=common.json
        ),
        tells_of_journal=True,
    )


@app.command
def models(*, common: Common | None = None) -> int:
    """List the engine's models, which are ready, and what the others lack."""
    common = common or Common()

    async def list_models(opened: App) -> int:
        catalog = await opened.engine.models()
        if common.json:
            print(json.dumps({"models": [m.to_dict() for m in catalog.models], "files": catalog.files}))
        else:
            show.models(catalog)
        return 0

    return run(common, list_models)


@app.command
def doctor(*, common: Common | None = None) -> int:
    """Check engine, models, output folder and job journal: one line each, with the fix; exit 1 if anything is wrong."""
    common = common or Common()

    async def check(opened: App) -> int:
        findings = await examine(opened)
        if common.json:
            print(json.dumps([finding.to_dict() for finding in findings]))
        else:
            for finding in findings:
                print(finding)
        return 0 if all(finding.ok for finding in findings) else FAILED

    return run(common, check, tells_of_journal=True)
