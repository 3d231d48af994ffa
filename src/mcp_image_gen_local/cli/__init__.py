"""The terminal door: serve, generate, models, status, doctor."""

import gc
import sys


def main() -> None:
    """Run the command line; with no argument and no terminal, serve MCP over stdio.

    Clients start the server that way, so this path imports neither the command-line library nor an engine.
    """
    arguments = sys.argv[1:]
    if arguments == ["serve"] or (not arguments and not sys.stdin.isatty()):
        gc.disable()  # while modules are imported it finds next to nothing; 8 % of the start
        from mcp_image_gen_local.cli.serving import serve_stdio  # the fast path

        sys.exit(serve_stdio())
    from mcp_image_gen_local.cli.commands import app  # see above

    sys.exit(app(arguments or ["--help"], result_action="return_value"))
