"""FLUX.1-schnell by diffusers, with random weights: the shape and the time of the real one, and none of its files.

Needs torch, transformers, accelerate and diffusers, which are no dependencies of this project.
"""

import io
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.hooks import apply_group_offloading, apply_layerwise_casting
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

COMPUTE, STORAGE = torch.bfloat16, torch.float8_e4m3fn
INIT_STD = 0.02  #: of every matrix and filter; all values stay finite
CONTRAST = 0.5  #: of the last filters: the image then takes 2 bytes a pixel as PNG, as a photograph does
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"  #: tokens 0, 1 and 2
CLIP_TOKENS = 77
PNG_LEVEL = 4  #: as ComfyUI writes its files


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the four networks and of what they generate."""

    transformer: dict[str, Any]
    t5: dict[str, Any]
    clip: dict[str, Any]
    vae_channels: tuple[int, ...]
    vae_groups: int
    side: int  #: pixels
    steps: int = 4
    tokens: int = 256  #: of the prompt, as T5 reads it


FULL = Shape(
    transformer={
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "axes_dims_rope": (16, 56, 56),
    },
    t5={"vocab_size": 32_128, "d_model": 4096, "d_ff": 10_240, "d_kv": 64, "num_layers": 24, "num_heads": 64},
    clip={
        "vocab_size": 49_408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    vae_channels=(128, 256, 512, 512),
    vae_groups=32,
    side=1024,
)
TINY = Shape(
    transformer={
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "axes_dims_rope": (4, 6, 6),
    },
    t5={"vocab_size": 300, "d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4},
    clip={
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    vae_channels=(8, 8, 16, 16),
    vae_groups=4,
    side=64,
)


class Marks:
    """Moments of one call: events on the device, which keep nothing waiting, or readings of the clock on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._moments: dict[str, Any] = {}

    def set(self, name: str) -> None:
        """Mark this moment, the first time only."""
        if name in self._moments:
            return
        if self._is_cuda:
            self._moments[name] = torch.cuda.Event(enable_timing=True)
            self._moments[name].record()
        else:
            self._moments[name] = time.perf_counter()

    def seconds(self, begin: str, end: str) -> float:
        """Return the seconds between two moments; both must have passed."""
        first, last = self._moments[begin], self._moments[end]
        return float(first.elapsed_time(last)) / 1e3 if self._is_cuda else float(last - first)


@dataclass
class Flux:
    """The pipeline, and the stages of its newest call."""

    pipe: FluxPipeline
    shape: Shape
    device: torch.device
    stages: dict[str, float] = field(default_factory=dict)  #: seconds, by stage
    _marks: Marks | None = None

    def __post_init__(self) -> None:
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.transformer.register_forward_pre_hook(lambda *_: self._mark("denoise"))

    def _mark(self, name: str) -> None:
        if self._marks:
            self._marks.set(name)

    def image(self, prompt: str, seed: int, on_step: Callable[[int], None] | None = None) -> Image.Image:
        """Generate one image; `on_step` is told the number of each step when its work has been queued."""
        shape, marks = self.shape, Marks(self.device)
        self._marks = marks

        def step_ends(_pipe: Any, index: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if index + 1 == shape.steps:
                marks.set("decode")
            if on_step:
                on_step(index + 1)
            return tensors

        marks.set("text")
        image: Image.Image = self.pipe(
            prompt,
            height=shape.side,
            width=shape.side,
            num_inference_steps=shape.steps,
            guidance_scale=0.0,
            max_sequence_length=shape.tokens,
            generator=torch.Generator(self.device).manual_seed(seed),
            callback_on_step_end=step_ends,
            callback_on_step_end_tensor_inputs=[],
        ).images[0]
        marks.set("end")
        self.synchronize()
        stages = ("text", "denoise", "decode", "end")
        self.stages = {a: marks.seconds(a, b) for a, b in itertools.pairwise(stages)}
        return image

    def png(self, prompt: str, seed: int, on_step: Callable[[int], None] | None = None) -> bytes:
        """Generate one image and return it as a PNG file."""
        image = self.image(prompt, seed, on_step)
        begun = time.perf_counter()
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=PNG_LEVEL)
        self.stages["png"] = time.perf_counter() - begun
        return buffer.getvalue()

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def weights(self) -> dict[str, int]:
        """Return the bytes of the weights as they are stored, by network."""
        networks = {n: m for n, m in self.pipe.components.items() if isinstance(m, torch.nn.Module)}
        return {name: sum(p.nbytes for p in network.parameters()) for name, network in networks.items()}


def build(shape: Shape, device: torch.device) -> Flux:
    """Make the networks on the device, in bfloat16, with random weights."""
    with _made_in(COMPUTE, device):
        transformer = FluxTransformer2DModel(in_channels=64, guidance_embeds=False, **shape.transformer)
        t5 = T5EncoderModel(T5Config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **shape.t5))
        clip = CLIPTextModel(
            CLIPTextConfig(
                max_position_embeddings=CLIP_TOKENS, bos_token_id=1, eos_token_id=1, pad_token_id=0, **shape.clip
            )
        )
        vae = _vae(shape)
    for network in (transformer, t5, clip, vae):
        _randomize(network)
    vae.decoder.conv_out.weight.mul_(CONTRAST)
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=clip,
        tokenizer=_tokenizer(CLIP_TOKENS),
        text_encoder_2=t5,
        tokenizer_2=_tokenizer(shape.tokens),
        transformer=transformer,
    )
    flux = Flux(pipe, shape, device)
    flux.synchronize()
    return flux


@contextmanager
def _made_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Let new weights be of this type, on this device."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def _vae(shape: Shape) -> AutoencoderKL:
    count = len(shape.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * count,
        up_block_types=("UpDecoderBlock2D",) * count,
        block_out_channels=shape.vae_channels,
        layers_per_block=2,
        latent_channels=16,
        norm_num_groups=shape.vae_groups,
        sample_size=shape.side,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


@torch.no_grad()
def _randomize(network: torch.nn.Module) -> None:
    """Fill matrices and filters; norms and biases keep what they were made with."""
    network.eval().requires_grad_(False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.normal_(0.0, INIT_STD)


def _tokenizer(length: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single bytes: any text becomes tokens, and no file is read."""
    known = [PAD, END, UNKNOWN, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(known)}, merges=[], unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, known.index(END))])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, model_max_length=length
    )


# -- storing and moving the weights -------------------------------------------------------------------


def store_in_fp8(flux: Flux) -> dict[str, int]:
    """Store transformer and T5 as float8; return the transformer's bytes as diffusers' defaults leave it.

    Those keep every module with "norm" in its name, and with it the modulation: 3.2 of 11.9 billion weights. It is
    stored as float8 here as well.
    """
    transformer = flux.pipe.transformer
    transformer.enable_layerwise_casting(storage_dtype=STORAGE, compute_dtype=COMPUTE)
    by_default = sum(p.nbytes for p in transformer.parameters())
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear) and "blocks." in name and module.weight.dtype is COMPUTE:
            _cast_whole(module)
    _store_t5_in_fp8(flux.pipe.text_encoder_2)
    return {"transformer_by_default": by_default}


def _store_t5_in_fp8(t5: torch.nn.Module) -> None:
    """Cast the feed-forward layers as wholes: T5 casts its values to the type in which `wo` is stored."""
    for module in t5.modules():
        if type(module).__name__ == "T5DenseGatedActDense":
            _cast_whole(module)
    kept = ("shared", "embed_tokens", "relative_attention_bias", "DenseReluDense")
    apply_layerwise_casting(t5, storage_dtype=STORAGE, compute_dtype=COMPUTE, skip_modules_pattern=kept)


def _cast_whole(module: torch.nn.Module) -> None:
    apply_layerwise_casting(module, storage_dtype=STORAGE, compute_dtype=COMPUTE, skip_modules_pattern=None)


def offload_models(flux: Flux) -> None:
    """Keep one network at a time on the device: the text encoders have left when the transformer comes."""
    flux.pipe.enable_model_cpu_offload(device=flux.device)


def offload_blocks(flux: Flux) -> None:
    """Keep the blocks of transformer and T5 in pinned memory; copy each while the one before it works."""
    pipe, is_cuda = flux.pipe, flux.device.type == "cuda"
    pipe.remove_all_hooks()
    for network in (pipe.text_encoder, pipe.vae):
        network.to(flux.device)
    for network in (pipe.text_encoder_2.encoder, pipe.transformer):
        apply_group_offloading(
            network,
            onload_device=flux.device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=is_cuda,
            record_stream=is_cuda,
        )
