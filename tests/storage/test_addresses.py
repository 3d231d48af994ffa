"""What a text names that an agent gives as an image."""

import pytest

from mcp_image_gen_local.storage.addresses import (
    Elsewhere,
    FilePath,
    JobImage,
    NewestImage,
    read_address,
    unwrapped,
)

ID = "0178bea0-7dfe-4d23-b8e0-c677c3390c7d"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/a/b.png", "/a/b.png"),
        ("  /a/b.png\n", "/a/b.png"),
        ('"/a/b.png"', "/a/b.png"),
        ("'/a/b.png'", "/a/b.png"),
        ("`/a/b.png`", "/a/b.png"),
        ("</a/b.png>", "/a/b.png"),
        ("\u201c/a/b.png\u201d", "/a/b.png"),
        ("\" '/a/b.png' \"", "/a/b.png"),
        ("![a fox](/a/b.png)", "/a/b.png"),
        ("[a fox](file:///a/b%20c.png)", "/a/b c.png"),
        ("file:///a/b.png", "/a/b.png"),
        ("FILE:///a/b.png", "/a/b.png"),
        ("file:/a/b.png", "/a/b.png"),
        ("file://localhost/a/b.png", "/a/b.png"),
        ("file:///a/b%20%C3%BC%23%25.png", "/a/b ü#%.png"),
        ("<file:///a/b.png>", "/a/b.png"),
        ("file:///C:/a/b.png", "C:/a/b.png"),
        ("file://C:/a/b.png", "C:/a/b.png"),
        ("file:///C:%5Ca%5Cb.png", "C:\\a\\b.png"),
        ("C:\\a\\b.png", "C:\\a\\b.png"),
        ("~/b.png", "~/b.png"),
        ("b.png", "b.png"),
        ("it's.png", "it's.png"),
        ("a%20b.png", "a%20b.png"),
        ("", ""),
    ],
)
def test_a_path_in_many_dresses(text: str, path: str):
    assert read_address(text) == FilePath((path,))


@pytest.mark.parametrize("text", ["/a/b.png.", "/a/b.png,", "file:///a/b.png."])
def test_the_end_of_a_sentence_is_tried_without(text: str):
    spellings = read_address(text).spellings
    assert spellings[0].startswith("/a/b.png")
    assert spellings[1] == "/a/b.png"


@pytest.mark.parametrize(
    ("text", "index"),
    [
        (f"image://{ID}/0", 0),
        (f"image://{ID}/3", 3),
        (f'"image://{ID}/3"', 3),
        (f"IMAGE://{ID}/1/", 1),
        (f"image://{ID}", 0),
        (f"job://{ID}", 0),
        (ID, 0),
        (f" {ID}\n", 0),
        (f"`{ID}`", 0),
        (f"{ID}/2", 2),
        (f"prompt_id: {ID}", 0),
        (f'prompt_id="{ID}"', 0),
    ],
)
def test_an_image_of_a_job(text: str, index: int):
    assert read_address(text) == JobImage(ID, index)


@pytest.mark.parametrize("text", ["last", "Latest", " newest ", "'last'"])
def test_the_newest_image(text: str):
    assert read_address(text) == NewestImage()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("https://example.org/a.png", "a web address"),
        ("HTTP://example.org/a.png", "a web address"),
        ("s3://bucket/a.png", "an address that begins s3://"),
        ("image://a b/0", "an address that begins image://"),
        ("file://server/share/a.png", "a file of another machine"),
        ("file:", "a file of another machine"),
        ("data:image/png;base64,iVBORw0KGgo=", "the data of an image"),
        ("iVBORw0KGgo" + "A" * 300, "the data of an image"),
        ("/9j/" + "A" * 300_000, "the data of an image"),
    ],
)
def test_what_is_no_file_here(text: str, kind: str):
    assert read_address(text) == Elsewhere(kind)


@pytest.mark.parametrize("text", ["(" * 300_000, "[" * 300_000, "'" * 300_000, "![" * 100_000, "a/" * 100_000 + "."])
def test_long_nonsense_is_a_path(text: str):
    """No pattern takes long over it; the time limit of the tests is the check."""
    assert isinstance(read_address(text), FilePath)


def test_quotes_and_blanks_are_taken_off():
    assert unwrapped(f" ' {ID} ' ") == ID
    assert unwrapped("0") == "0"
    assert unwrapped("'") == "'"
