"""Which command lines in the files of clients start the stranger's package."""

from typing import Any

import pytest

from mcp_image_gen_local.cli.client_entries import parse, runner_of_stranger, runners_of_stranger

STRANGER = "mcp-image-gen"


@pytest.mark.parametrize(
    ("line", "runner"),
    [
        ("uvx NAME", "uvx"),
        ("uvx NAME@latest", "uvx"),
        ("uvx NAME==1.0", "uvx"),
        ("uvx mcp_image_gen", "uvx"),
        ("uvx --python 3.12 NAME serve", "uvx"),
        ("uvx -p 3.12 NAME", "uvx"),
        ("uvx --from NAME NAME", "uvx"),
        ("uvx --from=NAME[all] NAME", "uvx"),
        ("uvx --with NAME other", "uvx"),
        ("C:\\tools\\UVX.EXE NAME", "uvx"),
        ("/opt/uv tool run NAME", "uv"),
        ("uv tool install NAME", "uv"),
        ("uv run --with NAME NAME", "uv"),
        ("pipx run NAME", "pipx"),
        ("pipx run --spec NAME NAME", "pipx"),
        ("python -m pip install NAME", "pip"),
        ('sh -c "pip install NAME && NAME"', "pip"),
        ("cmd /c npx -y NAME", "npx"),
        ("npx -y -p NAME NAME", "npx"),
        ("bunx NAME", "bunx"),
        ("NAME", ""),
        ("/home/me/.local/bin/NAME serve", ""),
        ("uvx NAME-local", ""),
        ("uvx --from NAME-local NAME", ""),
        ("uvx --from /home/me/NAME NAME", ""),
        ("uvx --from . NAME", ""),
        ("uvx --from git+https://example.org/me/NAME NAME", ""),
        ("pipx run --spec NAME-local NAME", ""),
        ("uv run NAME", ""),
        ("uv --directory /home/me/NAME run NAME", ""),
        ("python -m mcp_image_gen_local", ""),
        ("uvx another-server", ""),
    ],
)
def test_the_package_of_a_command_line(line: str, runner: str):
    assert runner_of_stranger(line.replace("NAME", STRANGER).split()) == runner


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"mcpServers": {"a": {"command": "uvx", "args": ["NAME"]}}}'),
        (".json", '{"projects": {"/x": {"mcpServers": {"a": {"args": ["NAME"], "env": {}, "command": "uvx"}}}}}'),
        (".jsonc", '{"mcp": {"a": {"type": "local", "command": ["uvx", "NAME"],} /* my */, }, // server\n}'),
        (".json", '{"context_servers": {"a": {"command": {"path": "uvx", "args": ["NAME"], "env": {}}}}}'),
        (".toml", '[mcp_servers.a]\ncommand = "uvx"\nargs = ["NAME"]\n'),
        (".yaml", "mcpServers:\n  - name: a\n    command: uvx\n    args:\n      - --quiet\n      - NAME\n"),
        (".yaml", 'extensions:\n  a:\n    cmd: uvx\n    args: ["NAME"]\n    envs: {}\n'),
    ],
)
def test_an_entry_is_found_in_each_format(suffix: str, text: str):
    assert runners_of_stranger(parse(suffix, text.replace("NAME", STRANGER))) == ["uvx"]


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '{"mcpServers": {"a": {"command": "NAME", "args": []}, "b": {"command": "uvx", "args": ["x"]}}}'),
        (".jsonc", '{\n// "a": {"command": "uvx", "args": ["NAME"]}\n"url": "http://x//uvx NAME"}'),
        (".toml", 'note = "uvx NAME"\n'),
        (".yaml", "a:\n  command: uvx\n  args: [x]\nb:\n  command: NAME\n  args: []\n# command: uvx NAME\n"),
        (".json", ""),
        (".json", "[1, null]"),
    ],
)
def test_other_entries_are_left_alone(suffix: str, text: str):
    assert runners_of_stranger(parse(suffix, text.replace("NAME", STRANGER))) == []


def test_a_file_of_beginnings_takes_no_time():
    """A file of a stranger's project cannot hold doctor up."""
    for begin in ("/*", '"', "//", "[,", ", " * 10):
        with pytest.raises((ValueError, RecursionError)):
            parse(".json", "{" + begin * 10**5)


@pytest.mark.parametrize(
    ("suffix", "text"), [(".json", "{nope"), (".toml", "nope"), (".json", '{"a": "'), (".json", "[" * 10**5)]
)
def test_a_broken_file_is_said_to_be_one(suffix: str, text: Any):
    with pytest.raises((ValueError, RecursionError)):
        parse(suffix, text)
