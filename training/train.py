"""Train the built-in model with one command: fetch icons, learn to generate, export.

usage: train.py [--preset gpu|tiny] [--minutes M] [--work FOLDER]

Everything goes to FOLDER (default: build/training). Run the same command again to go on from the last checkpoint.
Touch FOLDER/FINISH, or write a number of minutes into it, to let the learning rate fade over that time and then finish.
"""

import argparse
import math
import os
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import data
import torch
from export import export
from icons import Icons
from model import Denoiser, Shape, sample
from muon import Muon
from PIL import Image
from presets import PRESETS, Preset
from torch import Tensor, nn

STEADY = 0.55  # share of the time before the learning rate begins to fade
FADE = 8.0  # minutes that FINISH gives when it names none
WARM_UP = 300  # steps
CHECKPOINT = 240.0  # seconds between checkpoints
SHEET = """a red apple, smiling face, dog, rocket, strawberry, house, blue heart, pizza, airplane, cat face, sunflower,
snowman, guitar, bicycle, light bulb, rainbow, robot, whale, key, birthday cake, umbrella, fire, octopus,
christmas tree, car, banana, unicorn, crown, soccer ball, camera, castle, purple cat, two red apple, three blue car,
rocket 3d, dog noto, house outline, four strawberry, camera simple, green octopus 3d"""


def device() -> torch.device:
    """Return the accelerator when there is one."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class Clock:
    """Training time, and the learning rate that goes with it: steady, then fading to nothing."""

    def __init__(self, minutes: float, finish: Path, spent: float) -> None:
        """Plan `minutes` in all, of which `spent` seconds are over; the file `finish` cuts them short."""
        self.total, self.finish, self.began = minutes * 60, finish, time.monotonic() - spent
        self.fade_from, self.level, self.asked = STEADY * self.total, 1.0, 0.0

    @property
    def spent(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return time.monotonic() - self.began

    def share(self) -> float:
        """Return the part of the full learning rate that holds now; 0 or less means that training is over."""
        if self.finish.exists() and self.finish.stat().st_mtime != self.asked:
            self.asked = self.finish.stat().st_mtime
            self.level, self.fade_from = self._share_at(self.spent), self.spent
            self.total = self.spent + 60 * float(self.finish.read_text().strip() or FADE)
        return self._share_at(self.spent)

    def _share_at(self, spent: float) -> float:
        return self.level * min(1.0, (self.total - spent) / max(1.0, self.total - self.fade_from))


class Learner:
    """A denoiser in training, its average and its optimisers."""

    def __init__(self, preset: Preset, icons: Icons) -> None:
        """Start anew."""
        self.preset, self.icons, vocabulary = preset, icons, icons.vocabulary
        sizes = {
            key: getattr(preset, key)
            for key in ("side", "patch", "width", "depth", "heads", "rank", "word_width", "sketch")
        }
        self.shape = Shape(**sizes, words=vocabulary.length, rows=vocabulary.rows)
        self.model, self.average = (Denoiser(self.shape).to(icons.where) for _ in range(2))
        self.average.load_state_dict(self.model.state_dict())
        matrices = [
            getattr(block, name).weight for block in self.model.blocks for name in ("qkv", "proj", "up", "down")
        ]
        taken = {id(p) for p in matrices}
        rest = [p for p in self.model.parameters() if id(p) not in taken]
        rate, on_cuda = preset.rate, icons.where.type == "cuda"
        self.steppers = [
            Muon(matrices, lr=rate),
            torch.optim.AdamW(rest, lr=rate / 2, betas=(0.9, 0.95), weight_decay=0.0, fused=on_cuda),
        ]
        # Compiled for an accelerator alone: there it takes a minute, and on two CPU cores it gains nothing.
        self.predict = torch.compile(self.model, dynamic=False) if on_cuda else self.model
        self.rates, self.steps = (rate, rate / 2), 0

    def step(self, share: float) -> Tensor:
        """Learn from one batch at `share` of the full rate; return the loss, on the device."""
        for stepper, rate in zip(self.steppers, self.rates, strict=True):
            for group in stepper.param_groups:
                group["lr"] = rate * share * min(1.0, (self.steps + 1) / WARM_UP)
            stepper.zero_grad()
        loss = self._add_gradients(*self.icons.batch())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for stepper in self.steppers:
            stepper.step()
        self.steps += 1
        keep = min(self.preset.average, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
        return loss

    def _add_gradients(self, x: Tensor, ids: Tensor) -> Tensor:
        """Add the gradients of a batch; return the loss.

        That is the squared error of the velocity that the predicted clean image implies, bounded near t = 1.
        """
        t = torch.sigmoid(torch.randn(len(x), device=x.device) + self.preset.shift)
        mix = t[:, None, None, None]
        z = mix * x + (1 - mix) * torch.randn_like(x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            clean = self.predict(z, t, ids)
        error = (clean.float() - x).square().mean((1, 2, 3)) / (1 - t).clamp(min=0.2).square()
        loss = error.mean()
        loss.backward()
        return loss.detach()  # not .item(): an accelerator would be waited for at every step

    def save(self, path: Path, spent: float) -> None:
        """Write a checkpoint, so that a crash never leaves half of one."""
        vocabulary = self.icons.vocabulary
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "steppers": [stepper.state_dict() for stepper in self.steppers],
            "step": self.steps,
            "spent": spent,
            "images": self.steps * self.preset.batch,
            "shape": asdict(self.shape),
            "words": vocabulary.words,
            "emoji": vocabulary.emoji,
            "labels": [record["label"] for record in self.icons.records],
            "styles": self.preset.styles,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def restore(self, path: Path) -> float:
        """Go on from a checkpoint; return the seconds of training that went into it."""
        state = torch.load(path, map_location=self.icons.where)
        if tuple(state["words"]) != self.icons.vocabulary.words:
            raise SystemExit(f"{path} was trained with other words: start in another folder with --work.")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for stepper, kept in zip(self.steppers, state["steppers"], strict=True):
            stepper.load_state_dict(kept)
        self.steps = state["step"]
        print(f"going on from step {self.steps}, {state['spent'] / 60:.1f} min", flush=True)
        return state["spent"]

    def write_sheet(self, path: Path) -> None:
        """Generate the prompts of SHEET into one PNG, eight in a row."""
        vocabulary = self.icons.vocabulary
        tokens = [vocabulary.encode(vocabulary.split(prompt)) for prompt in SHEET.split(",")]
        generated = sample(self.average, torch.tensor(tokens, device=self.icons.where)).cpu()
        images = ((generated + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
        sheet = torch.cat([torch.cat(list(row), 1) for row in images.split(8)])
        Image.fromarray(sheet.numpy()).save(path)


def learn_to_generate(preset: Preset, work: Path, icons: Icons) -> None:
    """Train until the clock runs out; SIGTERM saves and ends the program."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    path, learner = work / "denoiser.pt", Learner(preset, icons)
    float(learner.step(0.0))  # compiles; the clock starts after that
    clock = Clock(preset.minutes, work / "FINISH", learner.restore(path) if path.exists() else 0.0)
    saved, told, losses = time.monotonic(), time.monotonic(), []
    while (share := clock.share()) > 0 and not stopped:
        losses.append(learner.step(share))
        if len(losses) == 100:
            pace, told = 100 * preset.batch / (time.monotonic() - told), time.monotonic()
            loss, losses = float(sum(losses)) / 100, []
            if not math.isfinite(loss):
                raise SystemExit(
                    f"the loss is {loss} at step {learner.steps}: go on from the last checkpoint with a lower rate"
                )
            print(
                f"{clock.spent / 60:.1f} min, step {learner.steps}, loss {loss:.4f}, rate x{share:.2f}, "
                f"{pace:.0f} images/s",
                flush=True,
            )
        if time.monotonic() - saved > CHECKPOINT:
            learner.save(path, clock.spent)
            learner.write_sheet(work / "sheet.png")
            saved = time.monotonic()
    learner.save(path, clock.spent)
    if stopped:
        raise SystemExit("stopped; the same command goes on from here")
    learner.write_sheet(work / "sheet.png")


def main() -> None:
    """Run the whole training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="gpu")
    parser.add_argument("--minutes", type=float, help="of learning to generate in all (default: the preset's)")
    parser.add_argument("--work", type=Path, default=Path("build/training"))
    asked = parser.parse_args()
    preset = PRESETS[asked.preset]
    if asked.minutes is not None:
        preset = replace(preset, minutes=asked.minutes)
    asked.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(os.cpu_count() or 1)
    if not (zipped := asked.work / "icons.zip").exists():
        data.pack(zipped, asked.work / "downloads")
    icons = Icons(preset, zipped, device())
    print(f"{len(icons.records)} images, {len(icons.vocabulary.words)} words", flush=True)
    learn_to_generate(preset, asked.work, icons)
    export(asked.work, asked.work / "export")


if __name__ == "__main__":
    main()
