"""Measure an exported model: does it generate what was asked for?

usage: evaluate.py [--work FOLDER] [--model FOLDER] [--sheet sheet.png] [--prompts N]

A small network, the judge, is trained for this alone to tell all icons apart, however shifted, scaled, blurred or
tinted they are, in their own colours or painted. A generated image counts as right when the icon nearest to it in the
judge's eyes is one of the thing that was asked for. The judge knows the held-out icons too.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import data
import numpy as np
import torch
from captions import STYLE_WORDS, misspell, recoloured
from icons import CELLS, Item, in_processes, items_of, split_held_out
from PIL import Image
from presets import PRESETS, Preset
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its name everywhere)

from mcp_image_gen_local.engines.builtin.network import Network, vocabulary_of, weights_folder
from mcp_image_gen_local.engines.builtin.sampler import SampleSpec, steps_of

SIDE = 32  # px, what the judge looks at
SHEET = (
    "a red apple",
    "a green apple",
    "banana",
    "strawberry",
    "watermelon",
    "pizza",
    "hamburger",
    "birthday cake",
    "ice cream",
    "cup of coffee",
    "bread",
    "cheese",
    "dog",
    "cat face",
    "panda",
    "fox",
    "lion",
    "elephant",
    "penguin",
    "owl",
    "octopus",
    "whale",
    "butterfly",
    "unicorn",
    "sunflower",
    "rose",
    "cactus",
    "palm tree",
    "christmas tree",
    "mushroom",
    "smiling face",
    "robot",
    "ghost",
    "alien",
    "pumpkin",
    "snowman",
    "sun",
    "crescent moon",
    "rainbow",
    "fire",
    "house",
    "castle",
    "rocket",
    "airplane",
    "car",
    "bicycle",
    "sailboat",
    "train",
    "soccer ball",
    "basketball",
    "guitar",
    "drum",
    "camera",
    "laptop",
    "light bulb",
    "key",
    "blue heart",
    "crown",
    "umbrella",
    "book",
    "a purple cat",
    "a blue car",
    "two strawberrys",
    "\U0001f355",
)
MORE = (
    "two red apples", "three blue cars", "four bananas", "2 dogs", "a green octopus", "a pink rocket", "3 yellow stars",
    "a red whale", "a 3d rocket", "a glossy dog", "an outlined house", "a minimal camera", "noto pizza", "a 3d robot",
    "gradient cat face", "two 3d pumpkins",
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
        """Return what tells one image from another."""
        return F.normalize(self.body(x), dim=-1)


def vary(x: Tensor) -> Tensor:
    """Return images (N, 3, s, s) shifted, scaled, turned, blurred, tinted and with noise, each at random."""
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


def train_judge(images: Tensor, labels: Tensor, epochs: int = 40) -> Judge:
    """Return a judge that has seen every image `epochs` times on average, never unaltered."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a network is slower on several, above all when other programs want the cores
    judge, classes = Judge(), nn.Parameter(torch.randn(int(labels.max()) + 1, 128))
    steps = epochs * (len(images) // 64)
    stepper = torch.optim.AdamW([*judge.parameters(), classes], lr=2e-3, weight_decay=1e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(stepper, 2e-3, total_steps=steps)
    for _ in range(steps):
        pick = torch.randint(len(images), (64,))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            seen = judge(vary(images[pick]))
        likeness = seen.float() @ F.normalize(classes, dim=-1).T
        stepper.zero_grad()
        F.cross_entropy(16 * likeness, labels[pick], label_smoothing=0.05).backward()
        stepper.step()
        rate.step()
    return judge.eval()


def known_judge(path: Path, images: Tensor, labels: Tensor) -> Judge:
    """Return the judge kept at `path`, trained first when there is none."""
    if not path.exists():
        torch.save(train_judge(images, labels).state_dict(), path)
    judge = Judge()
    judge.load_state_dict(torch.load(path))
    return judge.eval()


def small(images: np.ndarray) -> Tensor:
    """Return images (N, side, side, 3) uint8 as the judge takes them."""
    shrunk = [np.asarray(Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for p in images]
    return torch.from_numpy(np.stack(shrunk)).permute(0, 3, 1, 2).float() / 127.5 - 1


def generate_all(model: Network, prompts: list[str]) -> np.ndarray:
    """Return images (N, side, side, 3) uint8 as the engine generates them at default settings, seed = index."""
    vocabulary, settings, generated = vocabulary_of(model.facts), model.facts["defaults"], []
    nothing = np.array(vocabulary.encode([]), dtype=np.int64)
    for seed, prompt in enumerate(prompts):
        asked = np.array(vocabulary.encode(list(vocabulary.understand(prompt).words)), dtype=np.int64)
        spec = SampleSpec(
            seed=seed,
            steps=settings["steps"],
            cfg=settings["cfg"],
            asked=asked,
            avoided=nothing,
            side=model.side,
        )
        *_, image = steps_of(spec, model.denoise)
        generated.append(image.clip(-1, 1))
    return ((np.stack(generated) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)


def report(name: str, found: np.ndarray) -> None:
    """Print top-1 and top-5 accuracy."""
    print(
        f"{name}: top-1 {100 * (found == 0).mean():.1f} %, top-5 {100 * (found < 5).mean():.1f} % of {len(found)}",
        flush=True,
    )


class Known:
    """The icons that the judge compares with, and what is held out from training."""

    def __init__(self, work: Path, preset: Preset) -> None:
        """Load the icons of `work` and the judge kept there, which is trained first when there is none."""
        arrays, self.all = data.load(work / "icons.zip", list(preset.styles), SIDE, concrete_only=preset.concrete_only)
        kept, self.held_out = split_held_out(self.all)
        self.records = [self.all[i] for i in kept]
        painted = in_processes(recoloured, arrays[kept])
        _, self.held_items = items_of(self.records, painted, counted=preset.counted > 0)
        self.labels = [record["label"] for record in self.all]
        self.icons = tensor_of(arrays)
        extra = [(image, self.records[i]["label"]) for i, colours in enumerate(painted) for image in colours.values()]
        shown = torch.cat([self.icons, tensor_of(np.stack([image for image, _ in extra]))]) if extra else self.icons
        number = {label: i for i, label in enumerate(sorted(set(self.labels)))}
        names = [*self.labels, *(label for _, label in extra)]
        self.judge = known_judge(work / "judge.pt", shown, torch.tensor([number[name] for name in names]))

    @torch.no_grad()
    def ranks(self, generated: Tensor, wanted: list[str]) -> np.ndarray:
        """Return for each image how many concepts are nearer to it than the one that was asked for (0 = right)."""
        likeness = (self.judge(generated) @ self.judge(self.icons).T).numpy()
        found = []
        for row, label in zip(likeness, wanted, strict=True):
            order = list(dict.fromkeys(self.labels[i] for i in np.argsort(-row)))
            found.append(order.index(label))
        return np.array(found)


def tensor_of(images: np.ndarray) -> Tensor:
    """Return images (N, SIDE, SIDE, 3) uint8 as (N, 3, SIDE, SIDE) in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def prompt_of(record: dict, item: Item | None = None) -> str:
    """Return a plain way to ask for an icon in its style, or for a painted or counted one."""
    colour, count = (item.colour or "", item.count) if item else ("", 1)
    number = {1: "a", 2: "two", 3: "three", 4: "four"}[count]
    return " ".join(part for part in (number, colour, record["label"], STYLE_WORDS[record["style"]][0]) if part)


def cells_of(images: np.ndarray, count: int) -> np.ndarray:
    """Return where the things stand in images (N, side, side, 3) of `count` things: (N * count, side / 2, ...)."""
    side = images.shape[1]
    cells = [(round(top * side), round(left * side)) for top, left in CELLS[count]]
    return np.concatenate([image[None, y : y + side // 2, x : x + side // 2] for image in images for y, x in cells])


def judge_colours(model: Network, known: Known, items: list[Item]) -> None:
    """Report colours of things that training never showed in them."""
    records = [known.records[item.record] for item in items]
    images = generate_all(model, [prompt_of(*pair) for pair in zip(records, items, strict=True)])
    report("held-out colours: the thing", known.ranks(small(images), [record["label"] for record in records]))
    seen = [data.colour_words(Image.fromarray(image)) for image in images]
    right = [item.colour in colours for item, colours in zip(items, seen, strict=True)]
    print(f"held-out colours: the colour {100 * np.mean(right):.1f} % of {len(items)}", flush=True)


def judge_counts(model: Network, known: Known, items: list[Item]) -> None:
    """Report counts of things that training never showed so many of; the worst of the things counts."""
    worst = []
    for count in CELLS:
        mine = [item for item in items if item.count == count]
        if mine:
            records = [known.records[item.record] for item in mine]
            images = generate_all(model, [prompt_of(*pair) for pair in zip(records, mine, strict=True)])
            wanted = [record["label"] for record in records for _ in range(count)]
            found = known.ranks(small(cells_of(images, count)), wanted)
            worst.append(found.reshape(-1, count).max(1))
    report("held-out counts", np.concatenate(worst))


def write_sheet(model: Network, path: Path, prompts: tuple[str, ...]) -> None:
    """Write the images of `prompts`, eight in a row, and print how long one takes."""
    began = time.monotonic()
    images = generate_all(model, list(prompts))
    print(f"{(time.monotonic() - began) / len(prompts):.2f} s an image", flush=True)
    rows = [np.concatenate(list(images[i : i + 8]), 1) for i in range(0, len(images), 8)]
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    """Print accuracies and write the contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="gpu")
    parser.add_argument("--work", type=Path, default=Path("build/training"))
    parser.add_argument("--model", type=Path, default=weights_folder(), help="export folder (default: the package's)")
    parser.add_argument("--sheet", type=Path, default=Path("sheet.png"))
    parser.add_argument("--prompts", type=int, default=200)
    asked = parser.parse_args()
    model, preset = Network(asked.model), PRESETS[asked.preset]
    write_sheet(model, asked.sheet, SHEET + MORE)

    known, dice = Known(asked.work, preset), random.Random(0)
    random.seed(0)
    report("judge itself, on altered icons", known.ranks(vary(known.icons), known.labels))
    held = [known.all[i] for i in known.held_out]
    if held:
        icons = known.icons[known.held_out]
        report("judge itself, on altered held-out icons", known.ranks(vary(icons), [r["label"] for r in held]))
    judge_prompts(model, known, "prompts", dice.sample(known.records, min(asked.prompts, len(known.records))))
    long = [record for record in known.records if max(map(len, record["label"].split())) > 4]
    judge_prompts(model, known, "misspelt prompts", dice.sample(long, asked.prompts // 4), change=misspelt)
    judge_prompts(model, known, "held-out concept and style", held)
    colours = [item for item in known.held_items if item.colour and item.count == 1]
    counts = [item for item in known.held_items if item.count > 1]
    if preset.counted:
        judge_colours(model, known, dice.sample(colours, min(50, len(colours))))
        judge_counts(model, known, dice.sample(counts, min(50, len(counts))))


def misspelt(prompt: str) -> str:
    """Return `prompt` with a slip in every longer word."""
    return " ".join(misspell(word) if len(word) > 4 else word for word in prompt.split())


def judge_prompts(
    model: Network, known: Known, name: str, records: list[dict], change: Callable[[str], str] = str
) -> None:
    """Report how well the icons of `records` are generated."""
    if records:
        images = generate_all(model, [change(prompt_of(record)) for record in records])
        report(name, known.ranks(small(images), [record["label"] for record in records]))


if __name__ == "__main__":
    main()
