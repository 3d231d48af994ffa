"""Turn what is known of an icon into the many ways somebody might ask for it."""

import random
from collections import Counter

import numpy as np
from data import COLOURS

from mcp_image_gen_local.engines.builtin.words import Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FILLERS = [
    "cute",
    "little",
    "big",
    "small",
    "simple",
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
RARE = 6  # a tag that at most so many pictures carry says enough on its own
HUES = {"red": 0, "orange": 25, "yellow": 48, "green": 120, "blue": 212, "purple": 275, "pink": 325}  # degrees


def build_vocabulary(records: list[dict], emoji: dict[str, str]) -> Vocabulary:
    """Return a vocabulary of all words in labels, tags, styles, colours and fillers of `records`."""
    plain = Vocabulary(words=(), emoji={})
    texts = [" ".join([r["label"], *r["tags"], *STYLE_WORDS[r["style"]]]) for r in records]
    counts = Counter(word for text in texts for word in plain.split(text))
    words = {*counts, *FILLERS, *COLOUR_WORDS} - plain.stop_words
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
    """Draws random captions for pictures, as token ids."""

    def __init__(self, records: list[dict], vocabulary: Vocabulary) -> None:
        self.vocabulary, self.styles = vocabulary, len({r["style"] for r in records})
        count = Counter(tag for r in records for tag in set(r["tags"]))
        split = vocabulary.split
        self.entries = []
        for r in records:
            tags = [(split(tag), 1 / count[tag]) for tag in r["tags"] if split(tag)]
            self.entries.append(
                {
                    "label": split(r["label"]) or r["label"].split(),
                    "tags": [words for words, _ in tags],
                    "weights": [weight for _, weight in tags],
                    "rare": [words for words, weight in tags if weight >= 1 / RARE],
                    "style": STYLE_WORDS[r["style"]],
                    "colours": [c for c in r["colours"][:1] if c not in ("black", "grey")],
                }
            )

    def words(self, i: int, colour: str | None = None) -> list[str]:
        """Return the words of one way to ask for picture `i`, which was painted in `colour` unless that is None."""
        entry, r = self.entries[i], random.random()
        words = list(entry["label"])
        if colour:
            return [colour, *(w for w in words if w not in COLOUR_WORDS)]
        if r < 0.18 and entry["rare"]:
            words = random.choice(entry["rare"])
        elif r < 0.4 and entry["tags"]:
            extra = random.choices(entry["tags"], entry["weights"], k=random.randint(1, 2))
            words = [*words, *(w for tag in extra for w in tag)]
        elif r < 0.5 and len(words) > 1:
            words = [w for w in words if w != random.choice(words)] or words
        if entry["colours"] and random.random() < 0.15:
            words = [random.choice(entry["colours"]), *words]
        if random.random() < (0.75 if self.styles > 1 else 0.15):
            words = [*words, random.choice(entry["style"])]
        if random.random() < 0.08:
            words = [random.choice(FILLERS), *words]
        return random.sample(words, len(words)) if random.random() < 0.15 else words

    def encode(self, i: int, colour: str | None = None) -> list[list[int]]:
        """Return token ids (length, 1 + grams) of a random caption.

        Some words are misspelt, in the plural or known by their letters only.
        """
        tokens = []
        for word in self.words(i, colour)[: self.vocabulary.length]:
            r = random.random()
            asked = misspell(word) if r < 0.05 else word + "s" if r < 0.1 else word
            tokens.append(self.vocabulary.token(asked, by_letters_only=r > 0.9))
        return tokens + [[0] * (1 + self.vocabulary.grams)] * (self.vocabulary.length - len(tokens))


def recolour(pictures: np.ndarray, records: list[dict]) -> dict[int, list[tuple[str, np.ndarray]]]:
    """Return picture index -> [(colour word, the picture with its main hue turned to that colour)].

    Only pictures with one clear hue have any, so that "a blue cat" can be learned though no icon set holds one.

    Args:
        pictures: (N, side, side, 3) uint8.
        records: what is known of each.
    """
    from PIL import Image

    labels, painted = {r["label"] for r in records}, {}
    for i, (picture, record) in enumerate(zip(pictures, records, strict=True)):
        hsv = np.asarray(Image.fromarray(picture).convert("HSV")).astype(np.int32)
        vivid = (hsv[..., 1] > 70) & (hsv[..., 2] > 60)
        ink = (hsv[..., 1] > 30) | (hsv[..., 2] < 230)
        if vivid.sum() < 0.5 * ink.sum() or vivid.sum() < 0.1 * vivid.size:
            continue
        angle = np.exp(2j * np.pi * hsv[..., 0] / 255)
        main = np.angle(angle[vivid].mean()) / (2 * np.pi) * 360 % 360
        if abs(angle[vivid].mean()) < 0.85:
            continue
        near = [name for name, hue in HUES.items() if abs((hue - main + 180) % 360 - 180) < 30]
        bare = " ".join(w for w in record["label"].split() if w not in COLOUR_WORDS)
        for name, hue in HUES.items():
            if name in near or f"{name} {bare}" in labels:
                continue
            turned = hsv.copy()
            turned[..., 0] = np.where(vivid, (hsv[..., 0] + round((hue - main) / 360 * 255)) % 256, hsv[..., 0])
            painted.setdefault(i, []).append(
                (name, np.asarray(Image.fromarray(turned.astype(np.uint8), "HSV").convert("RGB")))
            )
    return painted
