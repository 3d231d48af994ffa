"""Measurements: what this server adds to a picture, beside a bare FastMCP server in the same run."""
