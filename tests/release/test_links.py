"""Links lead somewhere on the package's page and on the site as well."""

import re

import pytest

from mcp_image_gen_local import __version__
from scripts import site
from scripts.links import LINK, OUTSIDE, ROOT, at_repository, package_page, project, relinked

REPOSITORY = project()["urls"]["Repository"]


def test_no_link_of_the_package_page_is_relative():
    assert [
        found["target"] for found in LINK.finditer(package_page(__version__)) if not OUTSIDE.match(found["target"])
    ] == []


def test_the_package_page_shows_files_of_its_version():
    page = package_page("1.2.3")
    assert f"]({REPOSITORY}/blob/v1.2.3/CHANGELOG.md)" in page
    assert f"]({REPOSITORY}/raw/v1.2.3/docs/images/tool-call.png)" in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](other.md)", "[a](blob:docs/other.md)"),
        ("[a](../README.md#top)", "[a](blob:README.md#top)"),
        ("![a](images/x.png)", "![a](raw:docs/images/x.png)"),
        ("[![a](x.png)](y.md)", "[![a](raw:docs/x.png)](blob:docs/y.md)"),
        ("[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("[a](#below)", "[a](#below)"),
        ("`list[0](x)`", "`list[0](x)`"),
        ("```python\ncall[0](x)\n```", "```python\ncall[0](x)\n```"),
    ],
)
def test_links_into_the_project_are_replaced(text: str, expected: str):
    assert relinked(text, "docs/page.md", lambda path, image: f"{'raw' if image else 'blob'}:{path}") == expected


@pytest.mark.parametrize(
    ("path", "page", "expected"),
    [
        ("docs/tutorial.md", "index.md", "tutorial.md"),
        ("README.md", "how-to/clients.md", "../index.md"),
        ("docs/reference/tools.md", "how-to/clients.md", "../reference/tools.md"),
        ("docs/images/tool-call.png", "index.md", "images/tool-call.png"),
        ("examples/checkerboard-engine/README.md", "reference/engines.md", None),
        ("docs/images/tool_call.py", "contributing.md", None),
    ],
)
def test_a_page_links_to_pages_or_to_the_repository(path: str, page: str, expected: str | None):
    assert site.link(path, False, page) == (expected or at_repository("main")(path, False))


def test_the_site_lists_every_page():
    pages = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text("utf-8")))
    assert pages == set(site.places().values())
