"""How a prompt becomes numbers: words, hashed letter n-grams, emoji. Pure Python, shared by training and generation.

A word is known by its own id and, beside it, by its letter n-grams (as in fastText), so "appels" still lands near
"apple". All ids are rows of one embedding table: row 0 is "nothing", then the vocabulary, then the n-gram buckets.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

STOP_WORDS = frozenset(
    """a an the of with and in on at to for from by is are be it its this that some one my your
    draw make create generate show please image picture drawing icon emoji emojis illustration clipart
    background photo sticker logo art style very""".split()  # noqa: SIM905  (one word a line would fill a page)
)
PLURALS = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""))  #: ending -> what stands there in the singular
MOST_WORDS = 32  #: of a prompt that are looked at; to compare a word with all known ones takes a while
LONGEST = 40  #: letters of a word that is looked at; the longest known one has 34
VARIATION_SELECTORS = dict.fromkeys((0xFE0E, 0xFE0F))


def fnv1a(text: str) -> int:
    """Return the 32-bit FNV-1a hash of `text` in UTF-8; the same on every machine and Python version."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def letter_grams(word: str, sizes: tuple[int, ...] = (3, 4)) -> list[str]:
    """Return the n-grams of `<word>`, shortest first: "cat" gives <ca, cat, at>, <cat, cat>."""
    marked = f"<{word}>"
    return [marked[i : i + n] for n in sizes for i in range(len(marked) - n + 1)]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words and emoji that a model knows, and the shape of its token ids."""

    words: tuple[str, ...]  #: row 1 + index of the embedding table belongs to this word
    emoji: dict[str, str]  #: emoji character, without variation selectors -> the label that stands for it
    length: int = 8  #: words of a prompt that reach the model
    grams: int = 20  #: n-grams kept of a word
    buckets: int = 4096  #: rows of the embedding table for hashed n-grams
    stop_words: frozenset[str] = STOP_WORDS
    labels: frozenset[str] = frozenset()  #: names of the things that the model knows
    aliases: Mapping[str, str] = field(default_factory=dict)  #: everyday name of a thing -> its label
    colours: frozenset[str] = frozenset()
    modifiers: frozenset[str] = frozenset()  #: counts, styles and adjectives: like colours, words that are no things
    least_overlap: float = 0.7  #: a word that cannot be corrected and is less like (0..1) any known one is ignored

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {word: i + 1 for i, word in enumerate(self.words)}

    @cached_property
    def _cache(self) -> dict[tuple[int, str], list[int]]:
        return {}

    @cached_property
    def _deletes(self) -> dict[str, list[str]]:
        """Every known word under its forms with one letter left out, and, after a slash, its sound."""
        forms: dict[str, list[str]] = {}
        for word in self.words:
            for form in (*sorted(one_letter_less(word)), "/" + sound(word)):
                forms.setdefault(form, []).append(word)
        return forms

    @cached_property
    def _known_grams(self) -> list[frozenset[str]]:
        return [frozenset(letter_grams(word)) for word in self.words]

    @property
    def rows(self) -> int:
        """Rows of the embedding table."""
        return 1 + len(self.words) + self.buckets

    def split(self, text: str) -> list[str]:
        """Return the words of `text` that carry meaning, emoji replaced by their labels."""
        text = text.translate(VARIATION_SELECTORS)
        for symbol in sorted((e for e in self.emoji if e in text), key=len, reverse=True):
            text = text.replace(symbol, f" {self.emoji[symbol]} ")
        text = unicodedata.normalize("NFKD", text.lower())
        text = "".join(c for c in text if not unicodedata.combining(c))
        text = re.sub(r"['\u2019]s\b", "", text).replace("'", "").replace("\u2019", "")
        return [word for word in re.findall(r"[a-z0-9]+", text) if word not in self.stop_words]

    def token(self, word: str, *, by_letters_only: bool = False) -> list[int]:
        """Return the 1 + `grams` table rows of `word`: its own (0 = unknown), then its n-grams', 0-padded."""
        row = 0 if by_letters_only else self._rows.get(word, 0)
        key = (row, word)
        if key not in self._cache:
            first = 1 + len(self.words)
            grams = [first + fnv1a(gram) % self.buckets for gram in letter_grams(word)[: self.grams]]
            self._cache[key] = [row, *grams, *[0] * (self.grams - len(grams))]
        return self._cache[key]

    def encode(self, words: list[str]) -> list[list[int]]:
        """Return token ids of shape (`length`, 1 + `grams`) for words already split."""
        tokens = [self.token(word) for word in words[: self.length]]
        return tokens + [[0] * (1 + self.grams)] * (self.length - len(tokens))

    def understand(self, text: str) -> "ParsedPrompt":
        """Return what the model will see of `text`: known words, typing errors corrected, the rest left out."""
        seen: list[str] = []
        ignored: list[str] = []
        corrected: dict[str, str] = {}
        words = self.split(text)
        for word in words[:MOST_WORDS]:
            if len(word) > LONGEST:
                ignored.append(f"{word[:LONGEST]}…")
                continue
            found = [word] if word in self._rows else self._mend(word)
            if found and found != [word]:
                corrected[word] = " ".join(found)
            if found:
                seen += found
            elif self._overlap(word) >= self.least_overlap:
                seen.append(word)
            else:
                ignored.append(word)
        things = self._things(seen)
        if (named := self._named(things, seen)) != things:
            seen = [*(word for word in seen if word not in things), *named]
            corrected[" ".join(things)] = " ".join(named)
        beyond = (*seen[self.length :], *(word[:LONGEST] for word in words[MOST_WORDS:]))
        return ParsedPrompt(words=tuple(seen[: self.length]), ignored=(*ignored, *beyond), corrected=corrected)

    def _things(self, words: list[str]) -> list[str]:
        """Return the words that name things; all, when a colour is all there is: "an orange"."""
        return [word for word in words if word not in self.modifiers | self.colours] or words

    def _named(self, things: list[str], words: list[str]) -> list[str]:
        """Return the label of things that `words` call by an everyday name or in the plural: automobile for "cars"."""
        if len(things) == 1 and things[0] not in self.labels:
            known = (stem for stem in singulars(things[0]) if stem in self.labels or stem in self.aliases)
            things = [next(known, things[0])]
        label = self.split(self.aliases.get(" ".join(things), ""))
        said = set(words) | set(things)
        if not label or any(set(things) < set(known.split()) <= said for known in self.labels):
            return things  # "blue heart" is a label as it stands
        is_coloured = not self.colours.isdisjoint(said - set(things))
        return [word for word in label if not (is_coloured and word in self.colours)]

    def _mend(self, word: str) -> list[str]:
        """Return what an unknown word means: the singular, the same sound, one slip away, two words run together."""
        while not (found := self._mend_once(word)):
            stems = singulars(word)
            if not stems or len(stems[-1]) <= 4:
                return []
            word = stems[-1]  # both in the plural and misspelt
        return found

    def _mend_once(self, word: str) -> list[str]:
        if known_stem := next((stem for stem in singulars(word) if stem in self._rows), None):
            return [known_stem]
        if alike := self._deletes.get("/" + sound(word)):
            return [max(alike, key=lambda known: likeness(word, known))]
        # A short word is one slip away from too many others: of four letters, only one left out is corrected.
        near = {known for form in one_letter_less(word) for known in self._deletes.get(form, ())}
        near = {known for known in near if known[0] == word[0] and (len(word) > 4 or len(known) > len(word) == 4)}
        if near:
            return [max(sorted(near), key=lambda known: likeness(word, known))]
        for i in range(3, len(word) - 2):
            if word[:i] in self._rows and word[i:] in self._rows:
                return [word[:i], word[i:]]
        return []

    def _overlap(self, word: str) -> float:
        """Return the likeness (0..1) of `word` to the known word that is most like it."""
        mine = frozenset(letter_grams(word))
        return max((_dice(mine, theirs) for theirs in self._known_grams), default=0.0)


@dataclass(frozen=True, kw_only=True)
class ParsedPrompt:
    """What a model understands of a prompt."""

    words: tuple[str, ...]  #: that it will see, in order
    ignored: tuple[str, ...]  #: words like nothing that it knows, and those beyond its length
    corrected: dict[str, str]  #: word as written -> known word or words taken instead


def singulars(word: str) -> list[str]:
    """Return what `word` may be the plural of."""
    return [word.removesuffix(end) + instead for end, instead in PLURALS if word.endswith(end)]


def one_letter_less(word: str) -> set[str]:
    """Return `word` and its forms with one letter left out; words that share one are about one slip apart."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def sound(word: str) -> str:
    """Return roughly how `word` sounds in English, so that "elefant" and "bycicle" are known."""
    for written, heard in (("ph", "f"), ("ck", "k"), ("y", "i"), ("z", "s"), ("ie", "i"), ("ei", "i"), ("ea", "e")):
        word = word.replace(written, heard)
    return re.sub(r"(.)\1", r"\1", word)


def likeness(one: str, other: str) -> float:
    """Return how many letter n-grams two words share (Dice, 0..1)."""
    return _dice(frozenset(letter_grams(one)), frozenset(letter_grams(other)))


def _dice(mine: frozenset[str], theirs: frozenset[str]) -> float:
    return 2 * len(mine & theirs) / (len(mine) + len(theirs))
