"""Images that compress as photos do. Pure."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

GRAIN = 9  #: standard deviation of the noise, of 255


@lru_cache(maxsize=4)
def photo(width: int, height: int, seed: int, prompt: str, index: int) -> bytes:
    """Return a PNG of soft colours under a little grain: about 2 MB at 1024x1024."""
    chance = np.random.default_rng([seed, index, len(prompt)])
    colours = chance.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    soft = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
    grainy = np.asarray(soft, dtype=np.float32) + chance.normal(0, GRAIN, (height, width, 1)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(file, "PNG", compress_level=4)
    return file.getvalue()
