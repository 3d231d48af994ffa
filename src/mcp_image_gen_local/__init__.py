"""Generate images from any MCP client on hardware you own."""

__version__ = "0.1.0"
