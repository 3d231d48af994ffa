"""Generations that outlive the calls, and the processes, that asked for them."""

from mcp_image_gen_local.jobs.runner import JobRunner

__all__ = ["JobRunner"]
