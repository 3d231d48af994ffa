"""The trained networks, loaded when something is generated: ONNX Runtime on the CPU."""

import hashlib
import json
import os
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mcp_image_gen_local.domain.errors import EngineNotInstalled
from mcp_image_gen_local.engines.builtin.words import Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

INSTALL = 'uv tool install ".[builtin]" (or: pip install ".[builtin]") in the folder of mcp-image-gen'
REINSTALL = 'pip install --force-reinstall ".[builtin]" in the folder of mcp-image-gen'


class Network:
    """The denoiser, with the facts of its training.

    Raises:
        EngineNotInstalled: the runtime is not installed, or a weight file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        """Load and check the files of `folder`: vocabulary.json, SHA256SUMS and denoiser.onnx."""
        self.facts = read_facts(folder)
        _check_sums(folder, ("vocabulary.json", "denoiser.onnx"))
        self.side: int = self.facts["side"]
        self._denoiser = _session(folder / "denoiser.onnx")

    def denoise(self, z: "Array", t: "Array", ids: "Array") -> "Array":
        """Return the clean images (N, 3, side, side) that the noisy ones seem to hide."""
        return cast("Array", self._denoiser.run(None, {"z": z, "t": t, "ids": ids})[0])


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what vocabulary.json tells.

    Raises:
        EngineNotInstalled: it is missing or damaged.
    """
    try:
        facts = json.loads((folder / "vocabulary.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder / "vocabulary.json") from error
    return dict(facts)


def vocabulary_of(facts: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary that the facts describe."""
    return Vocabulary(
        words=tuple(facts["words"]),
        emoji=facts["emoji"],
        length=facts["length"],
        grams=facts["grams"],
        buckets=facts["buckets"],
        stop_words=frozenset(facts["stop_words"]),
        labels=frozenset(facts["concepts"]),
        aliases=facts["aliases"],
        colours=frozenset(facts["colours"]),
        modifiers=frozenset(facts["modifiers"]),
        least_overlap=facts["least_overlap"],
    )


@lru_cache(maxsize=1)
def weights_folder() -> Path:
    """Return the folder of the shipped weights."""
    with as_file(files(__package__) / "weights") as folder:
        return folder


def _check_sums(folder: Path, names: tuple[str, ...]) -> None:
    """Compare the files with SHA256SUMS: a flipped bit in a weight generates nonsense without an error."""
    try:
        lines = (folder / "SHA256SUMS").read_text("ascii").splitlines()
        sums = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    except (OSError, ValueError) as error:
        raise _damaged(folder / "SHA256SUMS") from error
    for name in names:
        try:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise _damaged(folder / name) from error
        if sums.get(name) != digest:
            raise _damaged(folder / name)


def _session(path: Path) -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.32 on it tells its makers of each session, on Linux too
    try:
        import onnxruntime  # the extra; 0.2 s to import

        onnxruntime.disable_telemetry_events()
    except ImportError as error:
        raise EngineNotInstalled(
            "The built-in engine's runtime is not installed.", hint=f"Install it with: {INSTALL}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # the batch size varies; plans for each would only hold memory
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base of their own
        raise _damaged(path) from error


def _damaged(path: Path) -> EngineNotInstalled:
    return EngineNotInstalled(
        f"The built-in engine's file {path.name} is missing or damaged.", hint=f"Install it again: {REINSTALL}"
    )
