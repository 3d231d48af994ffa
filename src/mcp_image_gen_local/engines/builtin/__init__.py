"""A small model that generates emoji-style icons on any CPU: to try the server, and to test it end to end."""

from mcp_image_gen_local.engines.builtin.engine import BuiltinEngine

ENGINE = BuiltinEngine
