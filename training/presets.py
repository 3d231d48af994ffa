"""What to train on, how large and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One way to train the model."""

    styles: tuple[str, ...]  #: style words of data.ICON_SETS
    concrete_only: bool  #: things people ask for by name, without signs and variants
    side: int  #: px
    patch: int  #: px
    width: int
    depth: int
    heads: int
    rank: int  #: channels between the condition and the modulation of a block; 0 = straight
    word_width: int  #: channels of a row of the embedding table
    sketch: int  #: channels of the sketch that the prompt alone gives to every patch
    batch: int
    minutes: float  #: of learning to generate in all, resumed runs included
    shift: float  #: mean of the logit of t; lower for larger images, which need more noise to hide
    rate: float = 2e-3  #: of Muon, for the matrices of the blocks; AdamW takes half of it for the rest
    recoloured: float = 0.04  #: share of images painted in another colour
    counted: float = 0.0  #: share of images that show two, three or four of a thing
    silent: float = 0.1  #: share of captions left out, for classifier-free guidance
    average: float = 0.999  #: decay of the averaged weights


PRESETS = {
    "gpu": Preset(
        styles=("flat", "3d", "noto", "outline", "simple"),
        concrete_only=False,
        side=128,
        patch=8,
        width=384,
        depth=8,
        heads=6,
        rank=64,
        word_width=192,
        sketch=8,
        batch=256,
        minutes=8,
        shift=-1.0,
        recoloured=0.1,
        counted=0.12,
        average=0.9995,
    ),
    # To try the code within a minute on a CPU; what it generates is a blur.
    "tiny": Preset(
        styles=("flat", "simple"),
        concrete_only=True,
        side=32,
        patch=8,
        width=64,
        depth=2,
        heads=2,
        rank=16,
        word_width=32,
        sketch=4,
        batch=32,
        minutes=0.25,
        shift=-0.4,
        recoloured=0.1,
        counted=0.12,
    ),
}
