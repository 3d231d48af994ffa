"""The enlarger: a plain convolution network that makes the pictures of the denoiser sharp and four times as wide."""

import random
import time
from pathlib import Path

import numpy as np
import torch
from model import Denoiser
from parallel import Workers
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its name everywhere)

FACTOR = 4
PART = 4  # pictures that one thread learns from at a time


class Enlarger(nn.Module):
    """(N, 3, s, s) -> (N, 3, 4 s, 4 s), both about -1..1. All but the last two convolutions work at the small size."""

    def __init__(self, width: int = 64, depth: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 5, padding=2)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(depth)
        )
        self.spread = nn.Conv2d(width, 12 * FACTOR**2, 3, padding=1)
        self.finish = nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
        for layer in (*(block[-1] for block in self.body), self.finish[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` enlarged."""
        hidden = self.first(x)
        for block in self.body:
            hidden = hidden + block(hidden)
        plain = F.pixel_shuffle(x.repeat_interleave(FACTOR**2, 1), FACTOR)
        return plain + self.finish(F.pixel_shuffle(self.spread(hidden), FACTOR))


@torch.no_grad()
def redraw(model: Denoiser, small: Tensor, ids: Tensor, *, steps: int = 4) -> Tensor:
    """Return what the denoiser makes of its own training pictures: aligned with them, but with its own faults.

    Each picture is drowned in noise and drawn again from there in a few guided steps.

    Args:
        model: the averaged denoiser.
        small: (N, 3, side, side) in -1..1.
        ids: (N, words, 1 + grams).
        steps: Euler steps.
    """
    t = torch.rand(len(small), device=small.device) * 0.5 + 0.1
    cfg = torch.rand(len(small), 1, 1, 1, device=small.device) * 2 + 1
    grow = ((1 - t) / steps).view(-1, 1, 1, 1)
    z = t.view(-1, 1, 1, 1) * small + (1 - t).view(-1, 1, 1, 1) * torch.randn_like(small)
    for step in range(steps):
        now = t + step * grow.flatten()
        with torch.autocast(small.device.type, dtype=torch.bfloat16):
            asked, free = (
                model(z.repeat(2, 1, 1, 1), now.repeat(2), torch.cat([ids, torch.zeros_like(ids)])).float().chunk(2)
            )
        z = z + (free + cfg * (asked - free) - z) * grow / (1 - now).view(-1, 1, 1, 1)
    return z.clamp(-1, 1)


def spoil(small: Tensor) -> Tensor:
    """Return `small` with slight noise and blur of random strength."""
    n = len(small)
    strength = torch.rand(n, 1, 1, 1, device=small.device)
    soft = F.avg_pool2d(F.pad(small, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = torch.lerp(small, soft, 0.5 * strength * (torch.rand_like(strength) < 0.4))
    return mixed + torch.randn_like(small) * 0.08 * torch.rand_like(strength)


def error(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Return the absolute error of pixels and of the steps between them; the latter is what keeps edges sharp."""
    loss = (drawn - wanted).abs().mean()
    for axis in (2, 3):
        loss = loss + 0.5 * (drawn.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
    return loss


def learn(
    model: Denoiser, large: np.ndarray, small: np.ndarray, ids: Tensor, path: Path, *, minutes: float, batch: int = 16
) -> Enlarger:
    """Train an enlarger, or go on with the one at `path`, for `minutes`; write it to `path`.

    Args:
        model: the averaged denoiser.
        large: (N, 3, 4 side, 4 side) uint8.
        small: (N, 3, side, side) uint8, the same pictures.
        ids: (N, words, 1 + grams), their labels.
        path: checkpoint.
        minutes: of training.
        batch: pictures of a step.
    """
    where = ids.device
    enlarger = Enlarger().to(where)
    if path.exists():
        enlarger.load_state_dict(torch.load(path, map_location=where))
    average = Enlarger().to(where)
    average.load_state_dict(enlarger.state_dict())
    stepper = torch.optim.AdamW(enlarger.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    clean = torch.from_numpy(small).to(where).float() / 127.5 - 1
    drawn = torch.cat([redraw(model, clean[i : i + 64], ids[i : i + 64]) for i in range(0, len(clean), 64)])
    workers = Workers(where, PART)

    def add_gradients(given: Tensor, wanted: Tensor) -> float:
        with torch.autocast(where.type, dtype=torch.bfloat16, cache_enabled=False):
            guess = enlarger(given)
        loss = error(guess.float(), wanted) * (len(wanted) / batch)
        loss.backward()
        return loss.item()

    began, step, mean = time.monotonic(), 0, 0.0
    while (done := (time.monotonic() - began) / (60 * minutes)) < 1:
        pick = random.sample(range(len(clean)), batch)
        wanted = torch.from_numpy(large[pick]).to(where).float() / 127.5 - 1
        given = torch.where(torch.rand(batch, 1, 1, 1, device=where) < 0.6, drawn[pick], clean[pick])
        stepper.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 100) * max(0.01, min(1.0, (1 - done) / 0.5))
        stepper.zero_grad()
        loss = workers.learn(add_gradients, spoil(given), wanted)
        nn.utils.clip_grad_norm_(enlarger.parameters(), 1.0)
        stepper.step()
        step += 1
        keep = min(0.998, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(enlarger.parameters()), 1 - keep)
        mean = 0.99 * mean + 0.01 * loss
        if step % 100 == 0:
            pace = step * batch / (time.monotonic() - began)
            print(
                f"enlarger: {100 * done:.0f} %, step {step}, loss {mean / (1 - 0.99**step):.4f}, {pace:.0f} pictures/s",
                flush=True,
            )
    torch.save(average.state_dict(), path)
    return average
