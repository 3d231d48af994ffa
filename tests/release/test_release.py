"""A tag is released only if everything says the same."""

import pytest

from mcp_image_gen_local import __version__
from scripts import release

DATED = f"# Changelog\n\n## [{__version__}] - 2026-11-30\n\n- New.\n\n## [0.0.1] - 2026-01-01\n\n- Old.\n"


@pytest.fixture
def _owned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        release, "project", lambda: {"urls": {"Repository": "https://github.com/somebody/mcp-image-gen"}}
    )


@pytest.mark.usefixtures("_owned")
def test_the_right_tag_is_released():
    assert release.problems_of(f"v{__version__}", DATED) == []


@pytest.mark.usefixtures("_owned")
def test_another_tag_is_refused():
    (problem,) = release.problems_of("v9.9.9", DATED)
    assert "v9.9.9" in problem


@pytest.mark.usefixtures("_owned")
@pytest.mark.parametrize("date", ["unreleased", "soon"])
def test_a_version_without_a_date_is_refused(date: str):
    (problem,) = release.problems_of(f"v{__version__}", DATED.replace("2026-11-30", date))
    assert date in problem


def test_a_release_without_an_owner_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(release, "project", lambda: {"urls": {"Repository": "https://example.org/OWNER"}})
    (problem,) = release.problems_of(f"v{__version__}", DATED)
    assert "owner" in problem


def test_the_notes_are_the_section_of_this_version():
    assert release.changes(DATED, __version__) == "- New.\n"
    assert release.changes(DATED, "0.0.1") == "- Old.\n"
