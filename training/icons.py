"""The pictures to train on, and batches of them with captions."""

import random
from pathlib import Path

import data
import numpy as np
import torch
from captions import Captioner, build_vocabulary, recolour
from presets import Preset
from torch import Tensor

HELD_OUT = 50  # concept-and-style pairs never shown, when several styles are trained


def split_held_out(records: list[dict]) -> tuple[list[int], list[int]]:
    """Return (indices to train on, indices held out): pairs whose concept is still seen in another style."""
    by_label: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        by_label.setdefault(record["label"], []).append(i)
    shared = sorted(label for label, where in by_label.items() if len({records[i]["style"] for i in where}) > 2)
    chosen = random.Random(0).sample(shared, min(HELD_OUT, len(shared)))
    held = {random.Random(label).choice(by_label[label]) for label in chosen}
    return [i for i in range(len(records)) if i not in held], sorted(held)


class Icons:
    """The pictures to train on, and batches of them with captions."""

    def __init__(self, preset: Preset, zipped: Path, where: torch.device) -> None:
        """Load from the packed icons; batches go to the device `where`."""
        pictures, records = data.load(zipped, list(preset.styles), preset.side, concrete_only=preset.concrete_only)
        self.kept, _ = split_held_out(records)
        self.pictures, self.records = pictures[self.kept], [records[i] for i in self.kept]
        emoji = {r["emoji"].replace("\ufe0f", ""): r["label"] for r in self.records if r["emoji"]}
        self.vocabulary = build_vocabulary(self.records, emoji)
        self.captioner = Captioner(self.records, self.vocabulary)
        self.painted = recolour(self.pictures, self.records) if preset.recoloured else {}
        self.preset, self.where = preset, where
        self.silence = [[0] * (1 + self.vocabulary.grams)] * self.vocabulary.length

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return pictures (N, 3, side, side) in -1..1 and token ids (N, words, 1 + grams)."""
        pictures, ids = [], []
        for i in np.random.randint(len(self.records), size=self.preset.batch).tolist():
            picture, colour = self.pictures[i], None
            if i in self.painted and random.random() < self.preset.recoloured * len(self.pictures) / len(self.painted):
                colour, picture = random.choice(self.painted[i])
            pictures.append(picture)
            ids.append(self.silence if random.random() < self.preset.silent else self.captioner.encode(i, colour))
        stacked = torch.from_numpy(np.stack(pictures)).to(self.where).permute(0, 3, 1, 2)
        return stacked.float() / 127.5 - 1, torch.tensor(ids, device=self.where)
