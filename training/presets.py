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
    sketch: int  #: channels of the sketch that the prompt alone gives to every patch
    batch: int
    minutes: float  #: of learning to draw in all, resumed runs included
    enlarge: float  #: minutes of learning to enlarge, in each run; 0 = drawn at full size at once
    shift: float  #: mean of the logit of t; lower for larger pictures, which need more noise to hide
    rate: float = 2e-3  #: of Muon, for the matrices of the blocks; AdamW takes half of it for the rest
    recoloured: float = 0.04  #: share of pictures painted in another colour
    silent: float = 0.1  #: share of captions left out, for classifier-free guidance
    average: float = 0.999  #: decay of the averaged weights


PRESETS = {
    "cpu": Preset(
        styles=("flat",),
        concrete_only=True,
        side=32,
        patch=4,
        width=256,
        depth=6,
        heads=4,
        sketch=24,
        batch=64,
        minutes=95,
        enlarge=20,
        shift=-0.4,
    ),
    "gpu": Preset(
        styles=("flat", "3d", "noto", "outline", "simple"),
        concrete_only=False,
        side=128,
        patch=8,
        width=320,
        depth=7,
        heads=5,
        sketch=12,
        batch=256,
        minutes=60,
        enlarge=0,
        shift=-1.2,
        average=0.9995,
    ),
}
