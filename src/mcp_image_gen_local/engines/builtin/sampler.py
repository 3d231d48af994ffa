"""From noise to an image in a few Euler steps, guided by the prompt. Pure but for the network it is given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

#: (noisy images (N, 3, side, side), times (N,), token ids (N, words, 1 + grams)) -> clean images
Denoise = Callable[["Array", "Array", "Array"], "Array"]


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """One image to generate, as numbers."""

    seed: int  #: 0..2**64-1
    steps: int
    cfg: float  #: 1 follows the prompt plainly, and the negative prompt has no say
    asked: "Array"  #: token ids of the prompt
    avoided: "Array"  #: token ids of the negative prompt; all 0 for none
    side: int  #: pixels of the network's images
    start: "Array | None" = None  #: (3, side, side) in -1..1: image to begin with
    denoise: float = 1.0  #: 0 keeps `start`, 1 ignores it


def steps_of(spec: SampleSpec, denoise: Denoise) -> Iterator["Array"]:
    """Yield the network's idea of the clean image (3, side, side) after each step; the last one is the image.

    The noise is that of numpy's RandomState, whose stream is frozen for all versions (NEP 19): one seed generates the
    same image everywhere.
    """
    import numpy as np  # heavy; only wanted when something is generated

    noise_of = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([spec.seed, 0])))
    noise = noise_of.standard_normal((3, spec.side, spec.side)).astype(np.float32)
    first = 0.0 if spec.start is None else 1.0 - spec.denoise
    z = noise if spec.start is None else first * spec.start.astype(np.float32) + (1 - first) * noise
    guided = spec.cfg != 1
    ids = np.stack([spec.asked, spec.avoided] if guided else [spec.asked])
    times = np.linspace(first, 1.0, spec.steps + 1, dtype=np.float32)
    for now, then in pairwise(times):
        if now >= 1:  # denoise 0: nothing is left to do
            yield z
            continue
        clean = denoise(np.stack([z] * len(ids)), np.full(len(ids), now, np.float32), ids)
        guess = clean[1] + np.float32(spec.cfg) * (clean[0] - clean[1]) if guided else clean[0]
        z = z + (guess - z) * ((then - now) / (1 - now))
        yield guess.clip(-1, 1)
