"""Links lead somewhere, examples can be read, and every variable exists."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from mcp_image_gen_local.engine_kit.registry import all_variables
from tests.docs.documents import FENCE, ROOT, all_documents, anchors, blocks

LINK = re.compile(r"\]\(([^)\s]+)\)")
MAX_README_LINES = 150
VARIABLE = re.compile(r"\b(?:COMFYUI|IMAGE)_[A-Z_]*[A-Z]\b")

each_document = pytest.mark.parametrize("document", all_documents(), ids=lambda path: str(path.relative_to(ROOT)))


@each_document
def test_links_within_the_project_lead_somewhere(document: Path):
    broken = []
    for link in LINK.findall(FENCE.sub("", document.read_text("utf-8"))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            broken.append(link)
    assert broken == []


@each_document
def test_examples_in_json_and_toml_can_be_read(document: Path):
    text = document.read_text("utf-8")
    for block in blocks(text, "json"):
        json.loads(block)
    for block in blocks(text, "toml"):
        tomllib.loads(block)


@each_document
def test_only_variables_that_exist_are_named(document: Path):
    assert set(VARIABLE.findall(document.read_text("utf-8"))) <= set(all_variables())


@each_document
def test_each_code_block_ends(document: Path):
    assert document.read_text("utf-8").count("\n```") % 2 == 0


def test_the_readme_is_short():
    """Details belong to docs/."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < MAX_README_LINES


def test_the_readme_has_one_client_block():
    """All others stand in docs/how-to/clients.md."""
    examples = [json.loads(block) for block in blocks((ROOT / "README.md").read_text("utf-8"), "json")]
    assert [list(example) for example in examples if "status" not in example] == [["mcpServers"]]


def test_the_readme_names_every_page():
    linked = {link.partition("#")[0] for link in LINK.findall((ROOT / "README.md").read_text("utf-8"))}
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - linked == set()
