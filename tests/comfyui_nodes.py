"""The node classes that the ComfyUI test double knows, with live file lists."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RECORDINGS = Path(__file__).parent / "recordings"

DEFAULT_MODELS: dict[str, list[str]] = {
    "checkpoints": ["sd_xl_base_1.0.safetensors", "v1-5-pruned-emaonly-fp16.safetensors"],
    "diffusion_models": ["flux1-schnell.safetensors"],
    "text_encoders": ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"],
    "vae": ["ae.safetensors"],
    "loras": ["flux/tiny_flux_style.safetensors"],
    "upscale_models": ["RealESRGAN_x4plus.pth"],
}

#: What GET /models answers, in ComfyUI's order.
FOLDERS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models"),
    *("embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "custom_nodes"),
    *("hypernetworks", "photomaker", "classifiers", "model_patches", "audio_encoders"),
)

#: (class, input) -> the models folder that fills its options.
_FILE_INPUTS = {
    ("CheckpointLoaderSimple", "ckpt_name"): "checkpoints",
    ("UNETLoader", "unet_name"): "diffusion_models",
    ("CLIPLoader", "clip_name"): "text_encoders",
    ("DualCLIPLoader", "clip_name1"): "text_encoders",
    ("DualCLIPLoader", "clip_name2"): "text_encoders",
    ("TripleCLIPLoader", "clip_name1"): "text_encoders",
    ("TripleCLIPLoader", "clip_name2"): "text_encoders",
    ("TripleCLIPLoader", "clip_name3"): "text_encoders",
    ("VAELoader", "vae_name"): "vae",
    ("LoraLoader", "lora_name"): "loras",
    ("LoraLoaderModelOnly", "lora_name"): "loras",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
}
_UPLOAD_INPUTS = (("LoadImage", "image"), ("LoadImageMask", "image"))

NodeInfo = dict[str, Any]


def recording(name: str) -> Any:
    """Return the content of tests/recordings/`name`."""
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


def options(config: Sequence[Any]) -> list[Any] | None:
    """Return a combo input's options whichever of the two shapes `config` has; None if it is no combo."""
    if isinstance(config[0], list):
        return config[0]
    if config[0] == "COMBO":
        return config[1].get("options")
    return None


class NodeCatalogue:
    """Answers /object_info from a recording, with the file lists of this moment."""

    def __init__(self, models: Mapping[str, Sequence[str]], uploads: Callable[[], list[str]]) -> None:
        self.models = models  #: folder -> file names; may change at any time
        self._uploads = uploads
        self._classes: dict[str, NodeInfo] = recording("object_info.json")
        self._text: str | None = None
        self._filled_with: list[Any] = []
        self._lock = threading.Lock()

    def remove(self, class_type: str) -> None:
        """Forget a class, as a ComfyUI without that custom node has never known it."""
        with self._lock:
            del self._classes[class_type]
            self._text = None

    def get(self, class_type: str) -> NodeInfo | None:
        """Return what /object_info says about one class since the last `refresh`, or None if it is unknown."""
        return self._classes.get(class_type)

    def as_json(self) -> str:
        """Return the whole /object_info body."""
        self.refresh()
        with self._lock:
            if self._text is None:
                self._text = json.dumps(self._classes)
            return self._text

    def files(self, folder: str) -> list[str]:
        """Return a folder's names as ComfyUI lists them: sorted."""
        return sorted(self.models.get(folder, ()))

    def refresh(self) -> None:
        """Fill the file combos again if a file list has changed since the last call."""
        now = [{folder: list(names) for folder, names in self.models.items()}, self._uploads()]
        with self._lock:
            if now == self._filled_with:
                return
            self._filled_with, self._text = now, None
            for (class_type, name), folder in _FILE_INPUTS.items():
                # The recorded VAE list ends with a name that is no file.
                extra = ["pixel_space"] if folder == "vae" else []
                self._fill(class_type, name, self.files(folder) + extra)
            for class_type, name in _UPLOAD_INPUTS:
                self._fill(class_type, name, now[1])

    def _fill(self, class_type: str, name: str, names: list[str]) -> None:
        """Put `names` where this input keeps its options."""
        if class_type not in self._classes:
            return
        config = self._classes[class_type]["input"]["required"][name]
        if config[0] == "COMBO":
            config[1]["options"] = names
        else:
            config[0] = names
