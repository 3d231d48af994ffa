"""How a prompt is read."""

import pytest

from mcp_image_gen_local.engines.builtin.network import read_facts, vocabulary_of, weights_folder
from mcp_image_gen_local.engines.builtin.words import Vocabulary


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return vocabulary_of(read_facts(weights_folder()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a red apple", ["red", "apple"]),
        ("apples", ["red", "apple"]),
        ("pears", ["pear"]),
        ("wolves", ["wolf"]),
        ("butterflys", ["butterfly"]),
        ("appels", ["red", "apple"]),
        ("strawbery", ["strawberry"]),
        ("elefant", ["elephant"]),
        ("RED Apple!!", ["red", "apple"]),
        ("the cat's house", ["cat", "house"]),
        ("🍎", ["red", "apple"]),
        ("❤️", ["red", "heart"]),
        ("crème", ["cream"]),
        ("a blue car", ["blue", "automobile"]),
        ("police car", ["police", "car"]),
        ("a purple apple", ["purple", "apple"]),
        ("a green apple", ["green", "apple"]),
        ("an orange", ["tangerine"]),
        ("a new moon", ["new", "moon"]),
        ("two 3d cars", ["two", "3d", "automobile"]),
        ("cup of coffee", ["hot", "beverage"]),
        ("three yellow stars", ["three", "yellow", "star"]),
        ("glasses", ["glasses"]),
        ("grapes", ["grapes"]),
    ],
)
def test_prompts_are_read_as_a_person_would(vocabulary: Vocabulary, text: str, words: list[str]):
    assert list(vocabulary.understand(text).words) == words


def test_words_beyond_those_that_fit_are_told(vocabulary: Vocabulary):
    reading = vocabulary.understand("red blue green yellow white black orange purple apple cat")
    assert len(reading.words) == vocabulary.length
    assert set(reading.ignored) == {"apple", "cat"}


def test_a_very_long_prompt_is_read_in_moments(vocabulary: Vocabulary):
    """Only so many words are compared with all known ones; the rest is told as left out."""
    reading = vocabulary.understand(" ".join(f"qzx{n}vkw" for n in range(5000)))
    assert len(reading.ignored) == 5000


def test_tokens_have_the_shape_that_the_network_takes(vocabulary: Vocabulary):
    tokens = vocabulary.encode(["apple", "unheardof"])
    assert [len(row) for row in tokens] == [1 + vocabulary.grams] * vocabulary.length
    assert tokens[0][0] > 0
    assert tokens[1][0] == 0
    assert tokens[1][1] > 0
    assert max(max(row) for row in tokens) < vocabulary.rows


@pytest.mark.parametrize(
    "text",
    ["s" * 20_000, "x" * 20_000, "es" * 10_000, " ".join(f"q{n}z" + "q" * 615 for n in range(32))],
    ids=["all plural", "no plural", "plurals of plurals", "many"],
)
def test_words_longer_than_any_are_left_out(vocabulary: Vocabulary, text: str):
    """Such a word is no slip of a known one; to take it apart letter by letter would take minutes."""
    reading = vocabulary.understand(f"apple {text}")
    assert reading.words == ("red", "apple")
    assert len(reading.ignored) == len(text.split())
    assert max(map(len, reading.ignored)) <= 41


@pytest.mark.parametrize("letters", [39, 40])
def test_the_longest_words_are_looked_at(vocabulary: Vocabulary, letters: int):
    word = "butterfly" + "s" * (letters - 9)
    assert vocabulary.understand(word).words == ("butterfly",)
