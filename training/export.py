"""Write the trained networks as ONNX files with 8-bit weights, and the vocabulary as JSON.

usage: export.py [--work FOLDER] [--target FOLDER]
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from aliases import ALIASES
from captions import COLOUR_WORDS, MODIFIERS
from model import Denoiser, Shape
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mcp_image_gen_local.engines.builtin.words import STOP_WORDS, Vocabulary

VERSION = "2"
DEFAULTS = {"steps": 20, "cfg": 3.0}
SMALLEST = 2048  # numbers; a smaller tensor stays as it is


def write_onnx(model: nn.Module, example: tuple[torch.Tensor, ...], names: list[str], path: Path) -> None:
    """Write `model` with a free first axis and 8-bit weights."""
    batch = torch.export.Dim("n", min=1, max=1024)
    program = torch.onnx.export(
        model.eval(),
        example,
        input_names=names,
        output_names=["clean"],
        dynamic_shapes=tuple({0: batch} for _ in example),
        dynamo=True,
        opset_version=18,
        verbose=False,
    )
    onnx.save(shrink(program.model_proto), path)


def shrink(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large weights as int8 with one scale per row, unfolded to float32 once, when the file is loaded.

    Cast and Mul rather than DequantizeLinear, which ONNX Runtime would compute anew in every step.
    """
    graph, kept, unfold = model.graph, [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < SMALLEST:
            kept.append(tensor)
            continue
        axes = tuple(range(values.ndim))[1:] if widest_axis(tensor.name, graph) == 0 else tuple(range(values.ndim))[:-1]
        scale = np.maximum(np.abs(values).max(axis=axes, keepdims=True), 1e-8) / 127
        small = np.round(values / scale).astype(np.int8)
        kept += [
            numpy_helper.from_array(small, f"{tensor.name}.int8"),
            numpy_helper.from_array(scale.astype(np.float32), f"{tensor.name}.scale"),
        ]
        unfold += [
            helper.make_node("Cast", [f"{tensor.name}.int8"], [f"{tensor.name}.float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{tensor.name}.float", f"{tensor.name}.scale"], [tensor.name]),
        ]
    nodes = [*unfold, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def widest_axis(name: str, graph: onnx.GraphProto) -> int:
    """Return the axis that gets scales of its own: the last of a MatMul, the first of all else."""
    return -1 if any(node.op_type == "MatMul" and name in node.input for node in graph.node) else 0


def load_denoiser(path: Path) -> tuple[Denoiser, Vocabulary, dict]:
    """Return the averaged denoiser, its vocabulary and the checkpoint."""
    state = torch.load(path, map_location="cpu")
    model = Denoiser(Shape(**state["shape"]))
    model.load_state_dict(state["average"])
    return model.eval(), Vocabulary(words=tuple(state["words"]), emoji=state["emoji"]), state


def export(work: Path, target: Path) -> None:
    """Write denoiser.onnx, vocabulary.json and SHA256SUMS to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    model, vocabulary, state = load_denoiser(work / "denoiser.pt")
    side = model.shape.side
    ids = torch.zeros(2, vocabulary.length, 1 + vocabulary.grams, dtype=torch.int64)
    write_onnx(model, (torch.randn(2, 3, side, side), torch.rand(2), ids), ["z", "t", "ids"], target / "denoiser.onnx")
    labels = set(state["labels"])
    facts = {
        "version": VERSION,
        "side": side,
        "defaults": DEFAULTS,
        "length": vocabulary.length,
        "grams": vocabulary.grams,
        "gram_sizes": [3, 4],
        "buckets": vocabulary.buckets,
        "least_overlap": vocabulary.least_overlap,
        "stop_words": sorted(STOP_WORDS),
        "styles": list(state["styles"]),
        "aliases": {asked: label for asked, label in ALIASES.items() if label in labels and asked not in labels},
        "colours": sorted(COLOUR_WORDS),
        "modifiers": sorted(MODIFIERS),
        "trained_on": {
            "icons": len(state["labels"]),
            "images_shown": state["images"],
            "minutes": round(state["spent"] / 60),
        },
        "concepts": sorted(labels),
        "emoji": vocabulary.emoji,
        "words": list(vocabulary.words),
    }
    (target / "vocabulary.json").write_text(
        json.dumps(facts, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    names = ("denoiser.onnx", "vocabulary.json")
    sums = [f"{hashlib.sha256((target / name).read_bytes()).hexdigest()}  {name}" for name in names]
    (target / "SHA256SUMS").write_text("\n".join(sums) + "\n", encoding="ascii")
    for path in sorted(target.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/training"))
    parser.add_argument("--target", type=Path, default=Path("build/export"))
    asked = parser.parse_args()
    export(asked.work, asked.target)
