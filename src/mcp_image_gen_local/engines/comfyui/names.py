"""Names of files at ComfyUI, taken apart: which are no models, and the words that tell what a model is. Pure."""

import re
from functools import lru_cache

MODEL_EXTENSIONS = (".safetensors", ".sft", ".ckpt", ".gguf", ".pt", ".pth", ".pt2", ".bin", ".pkl", ".onnx")
MAX_LOOKED_AT = 256  #: characters at the end of a path that are looked at; no file system takes longer names

#: Where a word ends without a mark: "realvisXL", "v50Lightning", "XLLightning"; "14B" is one word.
_WORD_ENDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[0-9])(?=[A-Z][A-Za-z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MIXED_CASE = (("LoRA", "Lora"), ("LyCORIS", "Lycoris"), ("ControlNet", "Controlnet"), ("ViT", "Vit"))
_PLACEHOLDER = re.compile(r"put_.*_here(\.txt)?")
_EXTENSION = re.compile(r"[a-z][a-z0-9_]{0,9}|\d{1,2}[a-z]{1,8}")
_HASH = re.compile(r"\s*\[[0-9a-f]{6,64}\]$", re.IGNORECASE)
_QUOTES = " \t\r\n\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb"


def is_model_file(name: str) -> bool:
    """Return False for hidden files, macOS's `._` twins, placeholders of empty folders and files of other kinds."""
    path = normal(name)
    file = base(path)
    if not file or _PLACEHOLDER.fullmatch(file) or any(part.startswith(".") for part in path.split("/")):
        return False
    _, dot, extension = file.rpartition(".")
    return file.endswith(MODEL_EXTENSIONS) or not (dot and _EXTENSION.fullmatch(extension))


def bare(asked: str) -> str:
    """Return the name without what other programs put around it: quotes, blanks, a hash in brackets."""
    name = asked[: 2 * MAX_LOOKED_AT].strip(_QUOTES)
    return _HASH.sub("", name).strip(_QUOTES)


def normal(path: str) -> str:
    """Return the path in lower case, with forward slashes."""
    return path.replace("\\", "/").lower()


def base(path: str) -> str:
    """Return the file name without its folders, in lower case."""
    return normal(path).rsplit("/", 1)[-1]


def stem(path: str) -> str:
    """Return the path without the extension of a model file."""
    extension = next((e for e in MODEL_EXTENSIONS if path.lower().endswith(e)), "")
    return path[: len(path) - len(extension)]


@lru_cache(maxsize=8192)
def words(path: str) -> str:
    r"""Return the words of a path, without its extension, in lower case with single hyphens between them.

    `SDXL\realvisxlV50_v50Lightning.safetensors` becomes `sdxl/realvisxl-v50-v50-lightning`.
    """
    return "/".join(_hyphenated(part) for part in stem(path[-MAX_LOOKED_AT:]).replace("\\", "/").split("/"))


def _hyphenated(text: str) -> str:
    for mixed, plain in _MIXED_CASE:
        text = text.replace(mixed, plain)
    return "-".join(_runs(_WORD_ENDS.sub(" ", text)))


@lru_cache(maxsize=8192)
def squash(text: str) -> str:
    """Return letters and digits only, in lower case: `FLUX.1-schnell` and `flux 1 schnell` are the same then."""
    return "".join(_runs(text[-MAX_LOOKED_AT:]))


def _runs(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
