"""The denoiser: a small transformer over patches and words that predicts the clean image."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (its name everywhere)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the weights of a denoiser fit."""

    side: int  #: px of the image it generates
    patch: int  #: px of a patch; (side / patch)^2 tokens
    width: int  #: channels of a token
    depth: int  #: transformer blocks
    heads: int
    rank: int  #: channels between the condition and the modulation of a block; 0 = straight
    word_width: int  #: channels of a row of the embedding table
    words: int  #: words of a prompt
    rows: int  #: rows of the embedding table
    sketch: int  #: channels of the sketch that the prompt alone gives to every patch

    @property
    def patches(self) -> int:
        """Tokens of an image."""
        return (self.side // self.patch) ** 2


class Block(nn.Module):
    """Attention and MLP over words and patches together, modulated by time and prompt (adaLN-zero)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        # Six numbers per channel would be half of all weights; few of them are independent.
        last = nn.Linear(shape.rank or width, 6 * width)
        self.modulation = nn.Sequential(nn.Linear(width, shape.rank, bias=False), last) if shape.rank else last
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return x (N, tokens, width) after one block; `condition` is (N, width)."""
        n, length, width = x.shape
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(condition).unsqueeze(1).chunk(6, -1)
        qkv = self.qkv(plain_norm(x) * (1 + scale1) + shift1).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = x + gate1 * self.proj(attend(plain_norm(q), plain_norm(k), v).transpose(1, 2).reshape(n, length, width))
        hidden = F.gelu(self.up(plain_norm(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gate2 * self.down(hidden)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention (N, heads, tokens, channels)."""
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    # Written out: for so few tokens the fused kernel's backward pass costs five times as much on a CPU.
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return weights.to(v.dtype) @ v


def plain_norm(x: Tensor) -> Tensor:
    """Return x with mean 0 and variance 1 over its last axis."""
    return F.layer_norm(x, x.shape[-1:])


class Denoiser(nn.Module):
    """(noisy image, time, prompt) -> clean image."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, pixels = shape.width, 3 * shape.patch**2
        self.table = nn.Embedding(shape.rows, shape.word_width, padding_idx=0)
        with torch.no_grad():
            self.table.weight[1:].normal_(std=0.5)
        self.word_in = nn.Linear(shape.word_width, width, bias=False)
        nn.init.orthogonal_(self.word_in.weight, gain=(width / shape.word_width) ** 0.5)
        self.word_place = nn.Parameter(torch.zeros(1, shape.words, width))
        self.patch_place = nn.Parameter(torch.randn(1, shape.patches, width) * 0.02)
        self.patch_in = nn.Linear(pixels, width)
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.prompt = nn.Linear(width, width)
        # From the prompt straight to a rough image: nearly free, for it is computed once per image, not per token.
        self.sketch = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, shape.patches * shape.sketch))
        self.sketch_in = nn.Linear(shape.sketch, width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.last, self.patch_out = nn.Linear(width, 2 * width), nn.Linear(width, pixels)
        self.polish = nn.Sequential(
            nn.Conv2d(6, 24, 3, padding=1), nn.GELU(approximate="tanh"),
            nn.Conv2d(24, 24, 3, padding=1), nn.GELU(approximate="tanh"),
            nn.Conv2d(24, 3, 3, padding=1),
        )  # fmt: skip
        for layer in (self.last, self.patch_out, self.polish[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """Return the clean image (N, 3, side, side), about -1..1.

        Args:
            z: (N, 3, side, side), t * image + (1 - t) * noise.
            t: (N,), 0 = noise, 1 = image.
            ids: (N, words, 1 + grams) rows of the embedding table; 0 = nothing.
        """
        s = self.shape
        grid, p = s.side // s.patch, s.patch
        patches = z.reshape(-1, 3, grid, p, grid, p).permute(0, 2, 4, 1, 3, 5).reshape(-1, s.patches, 3 * p * p)
        words, pooled = self.read(ids)
        condition = F.silu(self.time(time_features(t)) + self.prompt(pooled))
        sketch = self.sketch_in(self.sketch(pooled).view(-1, s.patches, s.sketch))
        x = torch.cat([words + self.word_place, self.patch_in(patches) + self.patch_place + sketch], 1)
        for block in self.blocks:
            x = block(x, condition)
        scale, shift = self.last(condition).unsqueeze(1).chunk(2, -1)
        out = self.patch_out(plain_norm(x[:, s.words :]) * (1 + scale) + shift)
        out = out.reshape(-1, grid, grid, 3, p, p).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, s.side, s.side)
        return out + self.polish(torch.cat([out, z.to(out.dtype)], 1))

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return words (N, words, width) and the whole prompt (N, width); both are 0 where nothing is said."""
        known = (ids > 0).to(self.table.weight.dtype)
        vectors = self.table(ids)
        grams = vectors[:, :, 1:].sum(2) / known[:, :, 1:].sum(2, keepdim=True).clamp(min=1).sqrt()
        words = self.word_in(vectors[:, :, 0] + grams)
        said = known.amax(2).sum(1, keepdim=True).clamp(min=1)
        return words, words.sum(1) / said.sqrt()


def time_features(t: Tensor) -> Tensor:
    """Return sines and cosines (N, 128) of t in 0..1."""
    angle = t[:, None] * 1000 * torch.exp(torch.arange(64, device=t.device) * (-math.log(1e4) / 64))
    return torch.cat([angle.sin(), angle.cos()], -1)


@torch.no_grad()
def sample(model: Denoiser, ids: Tensor, *, steps: int = 20, cfg: float = 3.0, seed: int = 0) -> Tensor:
    """Return images (N, 3, side, side) in -1..1 for token ids: Euler steps with classifier-free guidance."""
    n, side = len(ids), model.shape.side
    z = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed)).to(ids.device)
    times = torch.linspace(0, 1, steps + 1).tolist()
    both = torch.cat([ids, torch.zeros_like(ids)])
    for now, then in pairwise(times):
        t = torch.full((2 * n,), now, device=ids.device)
        asked, free = model(torch.cat([z, z]), t, both).chunk(2)
        clean = free + cfg * (asked - free)
        z = z + (clean - z) * ((then - now) / max(1 - now, 1e-3))
    return z.clamp(-1, 1)
