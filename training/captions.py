"""Turn what is known of an icon into the many ways somebody might ask for it."""

import random
from collections import Counter

import numpy as np
from data import COLOURS
from PIL import Image

from mcp_image_gen_local.engines.builtin.words import Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FILLERS = [
    "cute",
    "little",
    "big",
    "small",
    "nice",
    "beautiful",
    "old",
    "new",
    "happy",
    "pretty",
    "funny",
    "cool",
    "tiny",
    "large",
    "colorful",
    "colourful",
]
STYLE_WORDS = {
    "flat": ["flat", "vector"],
    "3d": ["3d", "glossy", "rendered"],
    "noto": ["noto", "gradient"],
    "outline": ["outline", "outlined"],
    "simple": ["simple", "minimal"],
}
COLOUR_WORDS = {*COLOURS, "black", "white", "brown", "grey", "gray"}
RARE = 6  # a tag that at most so many images carry says enough on its own
COUNTS = {2: ["two", "2"], 3: ["three", "3"], 4: ["four", "4"]}
MODIFIERS = {*FILLERS, *(word for words in (*COUNTS.values(), *STYLE_WORDS.values()) for word in words)}
NO_STYLE = 0.7  # of the captions of an icon in the style that comes when none is named
HUES = {"red": 0, "orange": 25, "yellow": 48, "green": 120, "blue": 212, "purple": 275, "pink": 325}  # degrees


def build_vocabulary(records: list[dict], emoji: dict[str, str]) -> Vocabulary:
    """Return a vocabulary of all words in labels, tags, styles, colours and fillers of `records`."""
    plain = Vocabulary(words=(), emoji={})
    texts = [" ".join([r["label"], *r["tags"], *STYLE_WORDS[r["style"]]]) for r in records]
    counts = Counter(word for text in texts for word in plain.split(text))
    numbers = (word for words in COUNTS.values() for word in words)
    words = {*counts, *FILLERS, *COLOUR_WORDS, *numbers} - plain.stop_words
    return Vocabulary(words=tuple(sorted(words)), emoji=emoji)


def misspell(word: str) -> str:
    """Return `word` with one letter dropped, doubled, swapped with the next or replaced."""
    if len(word) < 4:
        return word
    i = random.randrange(1, len(word) - 1)
    swapped = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return random.choice(
        [
            word[:i] + word[i + 1 :],
            word[:i] + word[i] + word[i:],
            swapped,
            word[:i] + random.choice(LETTERS) + word[i + 1 :],
        ]
    )


class Captioner:
    """Makes random captions for images, as token ids."""

    def __init__(self, records: list[dict], vocabulary: Vocabulary, styles: tuple[str, ...]) -> None:
        """Know the `records`; the first of `styles` that a thing has is the one that needs no naming."""
        self.vocabulary, self.styles = vocabulary, styles
        count = Counter(tag for r in records for tag in set(r["tags"]))
        homes: dict[str, str] = {}
        for r in sorted(records, key=lambda r: styles.index(r["style"])):
            homes.setdefault(r["label"], r["style"])
        self.entries = [self._entry(r, count, is_home=homes[r["label"]] == r["style"]) for r in records]

    def _entry(self, record: dict, count: Counter, *, is_home: bool) -> dict:
        split = self.vocabulary.split
        tags = [(split(tag), 1 / count[tag]) for tag in record["tags"] if split(tag)]
        return {
            "label": split(record["label"]) or record["label"].split(),
            "tags": [words for words, _ in tags],
            "weights": [weight for _, weight in tags],
            "rare": [words for words, weight in tags if weight >= 1 / RARE],
            "style": STYLE_WORDS[record["style"]],
            "unstyled": NO_STYLE if is_home else 0.85 if len(self.styles) == 1 else 0.0,
            "colours": [c for c in record["colours"][:1] if c not in ("black", "grey")],
        }

    def words(self, i: int, colour: str | None = None, count: int = 1) -> list[str]:
        """Return the words of one way to ask for image `i`.

        Args:
            i: index of the record.
            colour: that it was painted in, unless None.
            count: how many of it there are.
        """
        entry = self.entries[i]
        words = self._plain(entry) if colour is None and count == 1 else list(entry["label"])
        if colour:
            words = [colour, *(w for w in words if w not in COLOUR_WORDS)]
        elif entry["colours"] and random.random() < 0.15 and entry["colours"][0] not in words:
            words = [random.choice(entry["colours"]), *words]
        if count > 1:
            words = [random.choice(COUNTS[count]), *words]
        if random.random() >= entry["unstyled"]:
            style = random.choice(entry["style"])
            words = [*words, style] if random.random() < 0.6 else [style, *words]
        if random.random() < 0.08:
            words = [random.choice(FILLERS), *words]
        return random.sample(words, len(words)) if random.random() < 0.1 else words

    def _plain(self, entry: dict) -> list[str]:
        """Return the label, the label and tags, a rare tag, or the label less a word."""
        r, words = random.random(), list(entry["label"])
        if r < 0.18 and entry["rare"]:
            return list(random.choice(entry["rare"]))
        if r < 0.4 and entry["tags"]:
            extra = random.choices(entry["tags"], entry["weights"], k=random.randint(1, 2))
            return [*words, *(w for tag in extra for w in tag)]
        if r < 0.5 and len(words) > 1:
            return [w for w in words if w != random.choice(words)] or words
        return words

    def encode(self, i: int, colour: str | None = None, count: int = 1) -> list[list[int]]:
        """Return token ids (length, 1 + grams) of a random caption.

        Some words are misspelt, in the plural or known by their letters only.
        """
        tokens = []
        for word in self.words(i, colour, count)[: self.vocabulary.length]:
            r = random.random()
            asked = misspell(word) if r < 0.05 else word + "s" if r < 0.1 else word
            tokens.append(self.vocabulary.token(asked, by_letters_only=r > 0.9))
        return tokens + [[0] * (1 + self.vocabulary.grams)] * (self.vocabulary.length - len(tokens))


def recoloured(image: np.ndarray) -> dict[str, np.ndarray]:
    """Return colour word -> the image (side, side, 3) uint8 with its main hue turned to that colour.

    Only images with one clear hue have any, so that "a blue cat" can be learned though no icon set holds one.
    """
    hsv = np.asarray(Image.fromarray(image).convert("HSV")).astype(np.int32)
    vivid = (hsv[..., 1] > 70) & (hsv[..., 2] > 60)
    ink = (hsv[..., 1] > 30) | (hsv[..., 2] < 230)
    if vivid.sum() < 0.5 * ink.sum() or vivid.sum() < 0.1 * vivid.size:
        return {}
    angle = np.exp(2j * np.pi * hsv[..., 0] / 255)
    main = np.angle(angle[vivid].mean()) / (2 * np.pi) * 360 % 360
    if abs(angle[vivid].mean()) < 0.85:
        return {}
    painted = {}
    for name, hue in HUES.items():
        if abs((hue - main + 180) % 360 - 180) >= 30:
            turned = hsv.copy()
            turned[..., 0] = np.where(vivid, (hsv[..., 0] + round((hue - main) / 360 * 255)) % 256, hsv[..., 0])
            painted[name] = np.asarray(Image.fromarray(turned.astype(np.uint8), "HSV").convert("RGB"))
    return painted
