"""What `doctor` finds in the configuration files of MCP clients: entries that start another project.

The name of our command is, on the package index, the name of a stranger's package.
"""

import asyncio
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mcp_image_gen_local.cli.client_entries import parse, runners_of_stranger
from mcp_image_gen_local.domain.finding import Finding, Level
from mcp_image_gen_local.domain.text import clean

COMMAND = "mcp-image-gen"
MAX_BYTES = 20 * 2**20  #: of a configuration file; Claude Code keeps its history in one
MAX_SCRIPT_BYTES = 2**20
OTHER_MODULE = re.compile(rb"\bmcp_image_gen\b(?!_local)")
#: Client -> its files. CONFIG: the user's folder for programs; CODE: VS Code's and its relatives' below it.
FILES = {
    "Claude Desktop": ("CONFIG/Claude/claude_desktop_config.json",),
    "Claude Code": ("~/.claude.json", "~/.claude/settings.json", "./.mcp.json"),
    "Cursor": ("~/.cursor/mcp.json", "./.cursor/mcp.json"),
    "VS Code": ("CODE/mcp.json", "CODE/settings.json", "./.vscode/mcp.json"),
    "Codex": ("CODEX_HOME/config.toml", "./.codex/config.toml"),
    "Gemini CLI": ("~/.gemini/settings.json", "~/.gemini/antigravity/mcp_config.json", "./.gemini/settings.json"),
    "Qwen Code": ("~/.qwen/settings.json", "./.qwen/settings.json"),
    "Cline": (
        "~/.cline/data/settings/cline_mcp_settings.json",
        "CODE/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
    ),
    "Roo Code": ("CODE/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json", "./.roo/mcp.json"),
    "Kilo Code": (
        *("~/.config/kilo/kilo.jsonc", "~/.config/kilo/kilo.json", "./kilo.jsonc", "./kilo.json"),
        *("./.kilocode/mcp.json", "CODE/globalStorage/kilocode.kilo-code/settings/mcp_settings.json"),
    ),
    "opencode": (
        *("~/.config/opencode/opencode.json", "~/.config/opencode/opencode.jsonc"),
        *("./opencode.json", "./opencode.jsonc"),
    ),
    "Copilot CLI": ("~/.copilot/mcp-config.json",),
    "Windsurf": ("~/.codeium/windsurf/mcp_config.json",),
    "LM Studio": ("~/.lmstudio/mcp.json", "~/.cache/lm-studio/mcp.json"),
    "Continue": ("~/.continue/config.yaml", "~/.continue/config.json"),
    "Goose": ("~/.config/goose/config.yaml",),
    "Zed": ("~/.config/zed/settings.json", "./.zed/settings.json"),
    "Kiro": ("~/.kiro/settings/mcp.json", "./.kiro/settings/mcp.json"),
    "Amazon Q": ("~/.aws/amazonq/mcp.json",),
    "Crush": ("~/.config/crush/crush.json", "./crush.json"),
}
EDITORS = ("Code", "Code - Insiders", "VSCodium")


async def examine() -> Sequence[Finding]:
    """Return a finding for each entry that starts another project, and for each file that cannot be read."""
    return await asyncio.to_thread(_examine)


def _examine() -> list[Finding]:
    home, seen, findings = Path(os.path.expanduser("~")), 0, _command()  # noqa: PTH111
    for client, path in paths(home, Path.cwd(), os.environ, sys.platform):
        if not os.path.lexists(path):
            continue
        seen += 1
        try:
            runners = runners_of_stranger(parse(path.suffix, _read(path)))
        except (OSError, ValueError, RecursionError) as error:
            text = f"{client}: {path} cannot be read ({clean(error, 100)}), so it was not searched"
            findings.append(Finding(subject="clients", level=Level.WARN, text=text))
        else:
            findings += [_stranger(client, path, runner) for runner in runners]
    if seen and not findings:
        files = "1 configuration file was" if seen == 1 else f"{seen} configuration files were"
        findings.append(Finding(subject="clients", text=f"{files} searched; none starts another project of our name"))
    return findings


def paths(home: Path, cwd: Path, environment: Mapping[str, str], platform: str) -> Iterator[tuple[str, Path]]:
    """Yield client and path of each configuration file that may exist; one path once."""
    config = _config(home, environment, platform)
    roots = {
        "~": [home],
        ".": [cwd],
        "CONFIG": [config],
        "CODE": [config / editor / "User" for editor in EDITORS],
        "CODEX_HOME": [Path(environment.get("CODEX_HOME") or home / ".codex")],
    }
    told: set[Path] = set()
    for client, files in FILES.items():
        for root, _, below in (file.partition("/") for file in files):
            for path in (folder / below for folder in roots[root]):
                if path not in told:
                    told.add(path)
                    yield client, path


def _config(home: Path, environment: Mapping[str, str], platform: str) -> Path:
    if platform == "win32":
        return Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
    return home / "Library" / "Application Support" if platform == "darwin" else home / ".config"


def _read(path: Path) -> str:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        message = "it is no file"
        raise ValueError(message)
    if found.st_size > MAX_BYTES:
        message = f"it has {found.st_size / 2**20:.0f} MiB"
        raise ValueError(message)
    return path.read_text("utf-8-sig")


def _stranger(client: str, path: Path, runner: str) -> Finding:
    text = (
        f"{client}: {path} starts the package {COMMAND} of the package index with {runner}. That is another project, "
        f'which uploads images to a cloud. Write "command": "{COMMAND}", "args": [] instead (docs/how-to/clients.md)'
    )
    return Finding(subject="clients", level=Level.FAIL, text=text)


def _command() -> list[Finding]:
    """Return a finding if the command of our name, which clients start, is the other project's."""
    found = shutil.which(COMMAND)
    try:
        if found is None or os.stat(found).st_size > MAX_SCRIPT_BYTES:  # noqa: PTH116
            return []
        script = Path(found).read_bytes()
    except OSError:
        return []
    if not OTHER_MODULE.search(script):
        return []
    text = f"the command {COMMAND} on the PATH, {found}, is another project. Uninstall it, then install this one again"
    return [Finding(subject="command", level=Level.FAIL, text=text)]
