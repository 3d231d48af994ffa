"""Generations that outlive the calls, and the processes, that requested them."""

from mcp_image_gen_local.jobs.calls import Calls
from mcp_image_gen_local.jobs.context import JobContext, Timings
from mcp_image_gen_local.jobs.runner import JobRunner

__all__ = ["Calls", "JobContext", "JobRunner", "Timings"]
