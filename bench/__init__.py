"""Measurements: what this server adds to an image, beside a bare FastMCP server in the same run."""
