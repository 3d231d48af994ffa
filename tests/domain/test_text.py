"""Foreign text is one bounded line without control characters."""

import pytest

from mcp_image_gen_local.domain.text import clean, is_clean


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        (None, ""),
        (404, "404"),
        (" two\n\n lines\t", "two lines"),
        ("\x1b]0;PWNED\x07\x1b[31mred", "]0;PWNED [31mred"),
        ("a\u202eb\u2028c\ud800d\0e", "a b c d e"),
        ("Grüße 日本 🦊", "Grüße 日本 🦊"),
    ],
)
def test_clean(text, shown):
    assert clean(text) == shown


def test_long_text_is_cut():
    assert clean("x" * 2_000_000, 10) == "xxxxxxxxx…"
    assert clean("\n" * 100 + "x", 10) == "…"
    assert clean("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize(("name", "shown"), [("a.png", True), ("a\nb", False), ("x" * 201, False)])
def test_names(name, shown):
    assert is_clean(name) is shown
