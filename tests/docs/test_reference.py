"""docs/reference names everything the code has, and nothing else."""

import json
from collections.abc import Iterator

import pytest
from cyclopts import App as CommandLine
from fastmcp import Client

from mcp_image_gen_local.cli import commands, common
from mcp_image_gen_local.domain.errors import ImageGenError
from mcp_image_gen_local.domain.job import JobStatus
from mcp_image_gen_local.engine_kit.registry import engine_names
from mcp_image_gen_local.server import build_server
from mcp_image_gen_local.settings import load_settings
from tests.docs.documents import REFERENCE, ROOT, blocks, named, sections, table
from tests.docs.tables import TABLES, placed


def reference(page: str) -> dict[str, str]:
    return sections((REFERENCE / page).read_text("utf-8"))


def code_headings(page: str) -> list[str]:
    """Return the headings that are one thing in backticks."""
    return [h.strip("`") for h in reference(page) if h.startswith("`") and h.endswith("`")]


@pytest.mark.parametrize(("file", "name"), TABLES)
def test_generated_tables_are_up_to_date(file: str, name: str):
    """If this fails: python -m tests.docs.tables."""
    document = (ROOT / file).read_text("utf-8")
    assert placed(document, name, TABLES[file, name]()) == document


async def test_each_tool_has_a_section_with_its_arguments():
    async with Client(build_server(load_settings())) as client:
        tools = {tool.name: set(tool.input_schema["properties"]) for tool in await client.list_tools()}
    assert set(code_headings("tools.md")) == set(tools)
    for tool, arguments in tools.items():
        assert set(named(table(reference("tools.md")[f"`{tool}`"], "Argument"))) == arguments, tool


async def test_the_readme_names_each_tool_and_its_arguments():
    readme = sections((ROOT / "README.md").read_text("utf-8"))["Tools"]
    async with Client(build_server(load_settings())) as client:
        tools = await client.list_tools()
    assert set(named(readme)) == {tool.name for tool in tools}
    assert [a for tool in tools for a in tool.input_schema["properties"] if f"`{a}`" not in readme] == []


def test_each_status_of_a_job_is_explained():
    text = reference("tools.md")["`get_generation_status`"]
    assert named(table(text, "`status`")) == [str(status) for status in JobStatus]


def test_each_error_code_is_explained():
    assert sorted(named(table(reference("errors.md")["Errors"], "Code"))) == sorted(codes(ImageGenError))


def codes(kind: type[ImageGenError]) -> Iterator[str]:
    for narrower in kind.__subclasses__():
        yield narrower.code
        yield from codes(narrower)


def test_each_command_has_a_section_with_its_options():
    written = {h.removeprefix("mcp-image-gen "): named(reference("cli.md")[f"`{h}`"]) for h in code_headings("cli.md")}
    shared = {name for name in named(reference("cli.md")["Options of every command"]) if name.startswith("--")}
    told = {command: {*options, *(() if command == "serve" else shared)} for command, options in written.items()}
    assert told == {
        command: {
            name
            for argument in made.assemble_argument_collection()
            for name in argument.names
            if name.startswith("-") and not name.startswith("--no-")
        }
        for command, made in all_commands(commands.app)
    }


def all_commands(app: CommandLine, above: str = "") -> Iterator[tuple[str, CommandLine]]:
    """Yield ("jobs prune", its application) for each command and those below it."""
    for name in app:
        if not name.startswith("-"):
            yield f"{above}{name}", app[name]
            yield from all_commands(app[name], f"{above}{name} ")


def test_each_exit_code_is_explained():
    rows = [line.split("|")[1].strip() for line in reference("cli.md")["Exit codes"].splitlines() if "|" in line][2:]
    exits = {0, common.FAILED, common.BAD_USAGE, common.NO_ENGINE, common.INTERRUPTED}
    assert {int(row) for row in rows} == exits


def test_each_engine_has_a_section():
    assert sorted(code_headings("engines.md")) == engine_names()


@pytest.mark.parametrize("page", ["README.md", "docs/reference/tools.md"])
def test_the_example_answer_has_the_real_fields(page: str):
    examples = [json.loads(block) for block in blocks((ROOT / page).read_text("utf-8"), "json")]
    done = [list(example) for example in examples if example.get("status") == "done"]
    assert done == [["status", "path", "seed", "width", "height", "model", "engine", "seconds", "prompt_id"]]
