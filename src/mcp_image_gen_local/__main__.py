"""`python -m mcp_image_gen_local` is `mcp-image-gen`."""

from mcp_image_gen_local.cli import main

main()
