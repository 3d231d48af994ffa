"""Measure an exported model: does it draw what was asked for?

usage: evaluate.py [--work FOLDER] [--model FOLDER] [--sheet sheet.png] [--prompts N]

A small network is trained for this alone to tell the training icons apart, however shifted, scaled, blurred or tinted
they are. A drawing counts as right when the icon nearest to it in that network's eyes is the one that was asked for.
"""

import argparse
import random
import time
from pathlib import Path

import data
import numpy as np
import torch
from captions import misspell
from icons import split_held_out
from PIL import Image
from presets import PRESETS
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its name everywhere)

from mcp_image_gen_local.engines.builtin.network import Network, vocabulary_of, weights_folder
from mcp_image_gen_local.engines.builtin.sampler import Order, steps_of

SIDE = 32  # px, what the judge looks at
SHEET = (
    "a red apple", "a green apple", "banana", "strawberry", "watermelon", "pizza", "hamburger", "birthday cake",
    "ice cream", "cup of coffee", "bread", "cheese", "dog", "cat face", "panda", "fox",
    "lion", "elephant", "penguin", "owl", "octopus", "whale", "butterfly", "unicorn",
    "sunflower", "rose", "cactus", "palm tree", "christmas tree", "mushroom", "smiling face", "robot",
    "ghost", "alien", "pumpkin", "snowman", "sun", "crescent moon", "rainbow", "fire",
    "house", "castle", "rocket", "airplane", "car", "bicycle", "sailboat", "train",
    "soccer ball", "basketball", "guitar", "drum", "camera", "laptop", "light bulb", "key",
    "blue heart", "crown", "umbrella", "book", "a purple cat", "a blue car", "two strawberrys", "\U0001f355",
)  # fmt: skip


class Judge(nn.Module):
    """(N, 3, 32, 32) in -1..1 -> unit vectors (N, 128)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 128), (128, 192)):
            layers += [
                nn.Conv2d(before, after, 3, stride=1 if before == 3 else 2, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(192 * 16, 128))

    def forward(self, x: Tensor) -> Tensor:
        """Return what tells one picture from another."""
        return F.normalize(self.body(x), dim=-1)


def vary(x: Tensor) -> Tensor:
    """Return pictures (N, 3, s, s) shifted, scaled, turned, blurred, tinted and with noise, each at random."""
    n = len(x)
    angle, size = (torch.rand(n) - 0.5) * 0.35, 1 + (torch.rand(n) - 0.5) * 0.35
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)
    grid = F.affine_grid(
        torch.cat([turn * size.view(-1, 1, 1), (torch.rand(n, 2, 1) - 0.5) * 0.25], 2),
        list(x.shape),
        align_corners=False,
    )
    x = 1 - F.grid_sample(1 - x, grid, align_corners=False)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = torch.lerp(x, soft, torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.5))
    x = x * (1 + (torch.rand(n, 3, 1, 1) - 0.5) * 0.3) + torch.randn_like(x) * 0.25 * torch.rand(n, 1, 1, 1)
    return x.clamp(-1, 1)


def train_judge(pictures: Tensor, labels: Tensor, epochs: int = 40) -> Judge:
    """Return a judge that has seen every picture `epochs` times, never unaltered."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a network is slower on several, above all when other programs want the cores
    judge, classes = Judge(), nn.Parameter(torch.randn(int(labels.max()) + 1, 128))
    steps = epochs * (len(pictures) // 64)
    stepper = torch.optim.AdamW([*judge.parameters(), classes], lr=2e-3, weight_decay=1e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(stepper, 2e-3, total_steps=steps)
    for _ in range(steps):
        pick = torch.randint(len(pictures), (64,))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            seen = judge(vary(pictures[pick]))
        likeness = seen.float() @ F.normalize(classes, dim=-1).T
        stepper.zero_grad()
        F.cross_entropy(16 * likeness, labels[pick], label_smoothing=0.05).backward()
        stepper.step()
        rate.step()
    return judge.eval()


def known_judge(path: Path, pictures: Tensor, labels: Tensor) -> Judge:
    """Return the judge kept at `path`, trained first when there is none."""
    if not path.exists():
        torch.save(train_judge(pictures, labels).state_dict(), path)
    judge = Judge()
    judge.load_state_dict(torch.load(path))
    return judge.eval()


def small(pictures: np.ndarray) -> Tensor:
    """Return pictures (N, side, side, 3) uint8 as the judge takes them."""
    shrunk = [np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for p in pictures]
    return torch.from_numpy(np.stack(shrunk)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def ranks(judge: Judge, known: Tensor, labels: list[str], drawn: Tensor, wanted: list[str]) -> np.ndarray:
    """Return for each drawing how many concepts are nearer to it than the one that was asked for (0 = right)."""
    likeness = (judge(drawn) @ judge(known).T).numpy()
    found = []
    for row, label in zip(likeness, wanted, strict=True):
        order = list(dict.fromkeys(labels[i] for i in np.argsort(-row)))
        found.append(order.index(label))
    return np.array(found)


def draw_all(model: Network, prompts: list[str]) -> np.ndarray:
    """Return pictures (N, side, side, 3) uint8 as the engine draws them at default settings, seed = index."""
    vocabulary, settings, drawn = vocabulary_of(model.facts), model.facts["defaults"], []
    nothing = np.array(vocabulary.encode([]), dtype=np.int64)
    for seed, prompt in enumerate(prompts):
        asked = np.array(vocabulary.encode(list(vocabulary.understand(prompt).words)), dtype=np.int64)
        order = Order(
            seed=seed,
            index=0,
            steps=settings["steps"],
            cfg=settings["cfg"],
            asked=asked,
            avoided=nothing,
            side=model.side,
        )
        *_, picture = steps_of(order, model.denoise)
        drawn.append(model.finish(picture).clip(-1, 1))
    return ((np.stack(drawn) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)


def report(name: str, found: np.ndarray) -> None:
    """Print top-1 and top-5 accuracy."""
    print(
        f"{name}: top-1 {100 * (found == 0).mean():.1f} %, top-5 {100 * (found < 5).mean():.1f} % of {len(found)}",
        flush=True,
    )


def main() -> None:
    """Print accuracies and write the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--work", type=Path, default=Path("build/training"))
    parser.add_argument("--model", type=Path, default=weights_folder(), help="export folder (default: the package's)")
    parser.add_argument("--sheet", type=Path, default=Path("sheet.png"))
    parser.add_argument("--prompts", type=int, default=200)
    asked = parser.parse_args()
    model, preset = Network(asked.model), PRESETS[asked.preset]

    began = time.monotonic()
    pictures = draw_all(model, list(SHEET))
    print(f"{len(SHEET)} pictures for the sheet in {time.monotonic() - began:.1f} s", flush=True)
    rows = [np.concatenate(list(pictures[i : i + 8]), 1) for i in range(0, len(pictures), 8)]
    Image.fromarray(np.concatenate(rows)).save(asked.sheet)

    arrays, records = data.load(asked.work / "icons.zip", list(preset.styles), SIDE, concrete_only=preset.concrete_only)
    kept, held_out = split_held_out(records)
    known, labels = small(arrays[kept]), [records[i]["label"] for i in kept]
    number = {label: i for i, label in enumerate(sorted(set(labels)))}
    judge = known_judge(asked.work / "judge.pt", known, torch.tensor([number[label] for label in labels]))
    dice = random.Random(0)
    random.seed(0)
    report("judge itself, on altered icons", ranks(judge, known, labels, vary(known), labels))
    wanted = dice.sample(labels, min(asked.prompts, len(labels)))
    report("prompts", ranks(judge, known, labels, small(draw_all(model, [f"a {label}" for label in wanted])), wanted))
    wanted = [label for label in wanted if max(map(len, label.split())) > 4][: asked.prompts // 4]
    misspelt = [" ".join(misspell(word) if len(word) > 4 else word for word in label.split()) for label in wanted]
    report("misspelt prompts", ranks(judge, known, labels, small(draw_all(model, misspelt)), wanted))
    if held_out:
        wanted = [records[i]["label"] for i in held_out]
        prompts = [f"{records[i]['label']} {records[i]['style']}" for i in held_out]
        report("held-out concept and style", ranks(judge, known, labels, small(draw_all(model, prompts)), wanted))


if __name__ == "__main__":
    main()
