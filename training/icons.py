"""The images to train on, and batches of them with captions."""

import os
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import data
import numpy as np
import torch
from captions import COLOUR_WORDS, COUNTS, Captioner, build_vocabulary, recoloured
from presets import Preset
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its name everywhere)

HELD_OUT = 50  # concept-and-style pairs, colours and counts of things, each never shown
CAPTIONS = 48  # made of every image, once
CELLS = {2: ((0.25, 0), (0.25, 0.5)), 3: ((0, 0.25), (0.5, 0), (0.5, 0.5)), 4: ((0, 0), (0, 0.5), (0.5, 0), (0.5, 0.5))}
# count -> (top, left) of its things, each half as large, as parts of the side


def split_held_out(records: list[dict]) -> tuple[list[int], list[int]]:
    """Return (indices to train on, indices held out): pairs whose concept is still seen in another style."""
    by_label: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        by_label.setdefault(record["label"], []).append(i)
    shared = sorted(label for label, where in by_label.items() if len({records[i]["style"] for i in where}) > 2)
    chosen = random.Random(0).sample(shared, min(HELD_OUT, len(shared)))
    held = {random.Random(label).choice(by_label[label]) for label in chosen}
    return [i for i in range(len(records)) if i not in held], sorted(held)


@dataclass(frozen=True)
class Item:
    """One kind of image to show: an icon as it is, in another colour, or several of it."""

    record: int  #: index of the icon
    image: int  #: index among all images, painted ones included
    colour: str | None = None
    count: int = 1

    def is_held_out(self, label: str) -> bool:
        """Tell whether this colour or count of the thing named `label` is kept for the evaluation: one in 40."""
        asked = f"{label}/{self.colour}/{self.count}"
        return (self.colour is not None or self.count > 1) and random.Random(asked).random() < 1 / 40


def items_of(
    records: list[dict], painted: list[dict[str, np.ndarray]], *, counted: bool
) -> tuple[list[Item], list[Item]]:
    """Return (what to show, what to hold out) of icons, those in another colour, and several of both.

    Args:
        records: the icons to train on.
        painted: for each of them, colour -> the painted image; these follow the icons among all images.
        counted: also show two, three and four of a thing.
    """
    labels, image = {r["label"] for r in records}, len(records)
    items = [Item(i, i) for i in range(len(records))]
    for i, colours in enumerate(painted):
        bare = " ".join(w for w in records[i]["label"].split() if w not in COLOUR_WORDS)
        for colour in colours:
            # A thing that another icon shows in that colour already is not painted.
            if f"{colour} {bare}" not in labels:
                items.append(Item(i, image, colour))
            image += 1
    if counted:
        things = [item for item in items if data.is_concrete(records[item.record])]
        items += [Item(i.record, i.image, i.colour, count) for count in COUNTS for i in things]
    held = [item.is_held_out(records[item.record]["label"]) for item in items]
    shown = [item for item, out in zip(items, held, strict=True) if not out]
    return shown, [item for item, out in zip(items, held, strict=True) if out]


def grouped(items: list[Item]) -> dict[int, list[Item]]:
    """Return count -> its items; those with one thing in its own colour are under 0."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(0 if item.image == item.record and item.count == 1 else item.count, []).append(item)
    return groups


def several(images: Tensor, count: int) -> Tensor:
    """Return images (N, 3, s, s) that each show `count` of the ones given, on white (1)."""
    side = images.shape[-1]
    small = F.avg_pool2d(images, 2)
    page = torch.ones_like(images)
    for top, left in CELLS[count]:
        y, x = round(top * side), round(left * side)
        page[:, :, y : y + side // 2, x : x + side // 2] = small
    return page


class Icons:
    """The images to train on, and batches of them with captions."""

    def __init__(self, preset: Preset, zipped: Path, where: torch.device) -> None:
        """Load from the packed icons; everything lies on the device `where`."""
        images, records = data.load(zipped, list(preset.styles), preset.side, concrete_only=preset.concrete_only)
        self.kept, _ = split_held_out(records)
        self.plain, self.records = images[self.kept], [records[i] for i in self.kept]
        emoji = {r["emoji"].replace("\ufe0f", ""): r["label"] for r in self.records if r["emoji"]}
        self.vocabulary = build_vocabulary(self.records, emoji)
        self.captioner = Captioner(self.records, self.vocabulary, preset.styles)
        self.preset, self.where = preset, where
        painted = in_processes(recoloured, self.plain) if preset.recoloured else [{}] * len(self.plain)
        groups = grouped(items_of(self.records, painted, counted=preset.counted > 0)[0])
        captions = {count: in_processes(partial(captions_of, self.captioner), group) for count, group in groups.items()}
        stack = [self.plain, *(image[None] for colours in painted for image in colours.values())]
        # No process is started once the accelerator is in use.
        self.images = torch.from_numpy(np.concatenate(stack)).to(where).permute(0, 3, 1, 2).contiguous()
        self.pool = {
            count: (
                torch.tensor([item.image for item in group], device=where),
                torch.from_numpy(np.stack(captions[count])).to(where),
            )
            for count, group in groups.items()
        }  # count -> index of the image (M,), captions (M, CAPTIONS, words, 1 + grams)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return images (N, 3, side, side) in -1..1 and token ids (N, words, 1 + grams)."""
        size, parts = self.preset.batch, []
        counted = round(size * self.preset.counted / len(COUNTS))
        sizes = {1: round(size * self.preset.recoloured), **dict.fromkeys(COUNTS, counted)}
        sizes = {count: n for count, n in sizes.items() if n and count in self.pool}
        for count, n in {0: size - sum(sizes.values()), **sizes}.items():
            indices, captions = self.pool[count]
            pick = torch.randint(len(indices), (n,), device=self.where)
            images = self.images[indices[pick]].float() / 127.5 - 1
            ids = captions[pick, torch.randint(CAPTIONS, (n,), device=self.where)].long()
            parts.append((several(images, count) if count > 1 else images, ids))
        images, ids = (torch.cat(part) for part in zip(*parts, strict=True))
        said = torch.rand(size, 1, 1, device=self.where) >= self.preset.silent
        return images, ids * said


def captions_of(captioner: Captioner, item: Item) -> np.ndarray:
    """Return CAPTIONS random captions (CAPTIONS, words, 1 + grams) of an item."""
    made = [captioner.encode(item.record, item.colour, item.count) for _ in range(CAPTIONS)]
    return np.array(made, dtype=np.int16)


def in_processes(work: Callable, things: Iterable) -> list:
    """Return what `work` makes of each of `things`, on all cores; the processes inherit `work` and what it knows."""
    things = list(things)
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork"), _begin, (work,)) as pool:
        return list(pool.map(_do, things, chunksize=1 + len(things) // 400))


def _begin(work: Callable) -> None:
    global _work
    _work = work
    random.seed()


def _do(thing: object) -> object:
    return _work(thing)
