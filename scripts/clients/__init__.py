"""Runs published MCP clients against this server, with a scripted model and the test ComfyUI. See `__main__.py`."""
