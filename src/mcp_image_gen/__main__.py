"""`python -m mcp_image_gen` is `mcp-image-gen`."""

from mcp_image_gen.cli import main

main()
