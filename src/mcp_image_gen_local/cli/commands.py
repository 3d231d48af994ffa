"""The commands."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App as CommandLine
from cyclopts import Parameter

from mcp_image_gen_local import __version__
from mcp_image_gen_local.app import App
from mcp_image_gen_local.cli import show
from mcp_image_gen_local.cli.common import FAILED, GlobalOptions, report, run, run_and_exit, store_log_off
from mcp_image_gen_local.cli.doctor import diagnose
from mcp_image_gen_local.cli.jobs import list_jobs
from mcp_image_gen_local.cli.jobs import prune as prune_images
from mcp_image_gen_local.cli.options import with_request_options
from mcp_image_gen_local.cli.serving import serve_http, serve_stdio
from mcp_image_gen_local.domain.image import ImageRef
from mcp_image_gen_local.domain.job import JobStatus
from mcp_image_gen_local.domain.request import GenerationRequest
from mcp_image_gen_local.settings import load_settings
from mcp_image_gen_local.storage.inputs import refer_to

COMMAND, LEASE_SECONDS = "generate --output", 5.0  #: who stores the new paths of moved files

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
    return run_and_exit(lambda: serve_http(load_settings(), host=host, port=port), as_json=False)


def generate(
    *,
    output: Annotated[
        Path | None,
        Parameter(
            name=["-o", "--output"], help="File to write instead of a new one in the output folder; ends in .png."
        ),
    ] = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Let --output replace a file that exists.")] = False,
    common: GlobalOptions | None = None,
    **arguments: Any,
) -> int:
    """Generate an image and print the path of its file."""
    common = common or GlobalOptions()

    async def run_request(opened: App) -> int:
        if output:
            show.check_target(output, arguments.get("batch_size", 1), overwrite=overwrite)
        request = await opened.request_of(arguments, _refer)
        with show.ProgressBar() as bar:
            job = await opened.generate(
                request,
                wait=opened.settings.job_timeout_seconds + 60,
                on_progress=bar.update,
                cancels=_say_cancelled,
            )
        if job.error:
            show.notes(job)
            raise job.error.anew()
        if output:
            job = show.move(job, output)
            if await opened.jobs.claim(job.job_id, owner=COMMAND, seconds=LEASE_SECONDS):
                await opened.jobs.update(job, owner=COMMAND)  # its files have new paths
        return report(job, as_json=common.json)

    return run(common, run_request, reports_store=True)


app.command(with_request_options(generate, GenerationRequest))


async def _refer(path: Path) -> ImageRef:
    return await asyncio.to_thread(refer_to, path)


async def _say_cancelled() -> bool:
    print("Cancelling the job ...", file=sys.stderr)
    return True


@app.command
def status(prompt_id: str, *, common: GlobalOptions | None = None) -> int:
    """Wait for a job that was left running, and print the path of its image; exit 1 unless it is done.

    Parameters
    ----------
    prompt_id
        The id that generate_image answered with.
    """
    common = common or GlobalOptions()

    async def look(opened: App) -> int:
        await opened.runner.find(prompt_id)
        limit = opened.settings.wait_seconds
        seconds = opened.settings.job_timeout_seconds if limit is None else limit  # a terminal has no limit of its own
        with show.ProgressBar() as bar:
            async for job in opened.runner.watch(prompt_id, seconds=seconds, heartbeat=1.0):
                await bar.update(job)
        return report(job, as_json=common.json)

    return run(common, look)


@app.command
def cancel(prompt_id: str, *, common: GlobalOptions | None = None) -> int:
    """Cancel a job, including jobs queued by your other servers. Exits with 1 if the job was not cancelled.

    Parameters
    ----------
    prompt_id
        The job's id, as `mcp-image-gen jobs` lists it.
    """
    common = common or GlobalOptions()

    async def cancel_job(opened: App) -> int:
        job = await opened.runner.cancel(prompt_id)
        report(job, as_json=common.json)
        if not common.json and job.status is JobStatus.DONE:
            show.talk.print("Not cancelled: the job was done before.")
        elif not common.json and not job.status.is_final:
            show.talk.print(f"Not cancelled yet: {show.escape(job.cancel_error) or 'the engine has not confirmed it.'}")
        return 0 if job.status is JobStatus.CANCELLED else FAILED

    return run(common, cancel_job)


jobs_app = CommandLine(name="jobs", help="List what was generated; `jobs prune` makes room.", help_format="plaintext")
app.command(jobs_app)


@jobs_app.default
def jobs(
    *,
    running: Annotated[bool, Parameter(negative="")] = False,
    failed: Annotated[bool, Parameter(negative="")] = False,
    limit: int = 20,
    common: GlobalOptions | None = None,
) -> int:
    """List the newest jobs of all your servers, the newest first; no engine is asked.

    Parameters
    ----------
    running
        Show only queued and running jobs.
    failed
        Only those that failed, were lost or cancelled.
    limit
        How many.
    """
    common = common or GlobalOptions()
    return run(
        common,
        lambda opened: list_jobs(opened, running=running, failed=failed, limit=limit, as_json=common.json),
        reports_store=True,
    )


@jobs_app.command
def prune(
    *,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    keep_days: float | None = None,
    max_bytes: int | None = None,
    common: GlobalOptions | None = None,
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
    common = common or GlobalOptions()
    return run(
        common,
        lambda opened: prune_images(
            opened, keep_days=keep_days, max_bytes=max_bytes, dry_run=dry_run, as_json=common.json
        ),
        reports_store=True,
    )


@app.command
def models(*, common: GlobalOptions | None = None) -> int:
    """List the engine's models, which are ready, and what the others lack."""
    common = common or GlobalOptions()

    async def list_models(opened: App) -> int:
        catalog = await opened.engine.models()
        if common.json:
            print(json.dumps({"models": [m.to_dict() for m in catalog.models], "files": catalog.files}))
        else:
            show.models(catalog)
        return 0

    return run(common, list_models)


@app.command
def doctor(
    *,
    client: Annotated[str | None, Parameter(help="Also show what this client gets, e.g. claude-code.")] = None,
    common: GlobalOptions | None = None,
) -> int:
    """Check engine, models, folders, job journal and clients: a line each, with the fix; exit 1 if one says FAIL."""
    common = common or GlobalOptions()

    def check() -> int:
        findings = asyncio.run(diagnose(common.open, client))
        if common.json:
            print(json.dumps([finding.to_dict() for finding in findings]))
        else:
            for finding in findings:
                show.line(finding)
        return 0 if all(finding.ok for finding in findings) else FAILED

    with store_log_off():
        return run_and_exit(check, as_json=common.json)
