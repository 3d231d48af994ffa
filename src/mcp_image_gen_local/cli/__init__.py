"""The terminal door: serve, generate, models, status, doctor."""

import gc
import os
import sys
from collections.abc import MutableMapping
from io import TextIOWrapper

NO_HOME = os.path.join(os.devnull, "no-home-directory")  #: nobody can make a folder there  # noqa: PTH118


def main() -> None:
    """Run the command line; with no argument and no terminal, serve MCP over stdio.

    Clients start the server that way, so this path imports neither the command-line library nor an engine.
    """
    use_utf8()
    settle_environment(os.environ)
    arguments = sys.argv[1:]
    if arguments == ["serve"] or (not arguments and not sys.stdin.isatty()):
        gc.disable()  # while modules are imported it finds next to nothing; 8 % of the start
        from mcp_image_gen_local.cli.serving import serve_stdio  # the fast path

        sys.exit(serve_stdio())
    from mcp_image_gen_local.cli.commands import app  # see above

    print_everything()
    sys.exit(app(arguments or ["--help"], result_action="return_value"))


def settle_environment(environment: MutableMapping[str, str]) -> None:
    """Set what the libraries stumble over, before they are imported.

    FastMCP reads `.env` of the working directory, which may be a stranger's project; and it cannot be imported where
    nothing tells a home directory.
    """
    environment.setdefault("FASTMCP_ENV_FILE", os.devnull)
    if os.path.expanduser("~") == "~":  # noqa: PTH111  (Path raises instead)
        environment["HOME"] = environment["USERPROFILE"] = NO_HOME


def use_utf8() -> None:
    """Start again in UTF-8 mode where Python takes file names, arguments and variables for ASCII.

    That is the C locale with PYTHONUTF8=0: names and prompts would hold halves of characters, which nothing can store.
    """
    if sys.getfilesystemencoding() in ("ascii", "us-ascii") and sys.executable:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def print_everything() -> None:
    """Let stdout write characters that its code page lacks as codes: a path must not cost its image a traceback."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # stderr does so by itself
