"""Texts of failures that ComfyUI, PyTorch, drivers and systems write, and what each means. Data.

Sources: the error texts of safetensors, PyTorch, CUDA, HIP and ROCm libraries, and of ComfyUI's own nodes.
"""

from dataclasses import dataclass

from mcp_image_gen_local.domain.errors import GenerationCancelled, GenerationFailed, ImageGenError, OutOfMemory

LESS_MEMORY = (
    "Lower width, height or batch_size, use an fp8 model file, or free the memory that another program holds "
    "(for Ollama: ollama stop MODEL). Starting ComfyUI with --lowvram also helps."
)
DOWNLOAD_AGAIN = "The model file is damaged or was not downloaded whole: download it again."
WRONG_BUILD = "PyTorch was built for other GPUs: install the build for yours."
WRONG_ROCM = (
    "PyTorch was built for other GPUs: install PyTorch for a newer ROCm. As a last resort start ComfyUI with "
    "HSA_OVERRIDE_GFX_VERSION=11.0.0 for an RX 7900 XTX or another RX 7000 (10.3.0 for an RX 6000)."
)
OTHER_FAMILY = (
    "A text encoder, VAE or LoRA belongs to another family than the model: use those that are made for the model."
)
FULL_DISK = "ComfyUI's disk is full: free space there."
RESTART = "The GPU driver faulted: restart ComfyUI, and keep the card's memory below its limit."


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A cause, and how it is recognised."""

    signs: tuple[str, ...]  #: any of these texts in the exception's type or message, in lower case
    advice: str
    kind: type[ImageGenError] = GenerationFailed


#: The first that fits counts: special ones stand before general ones.
FAULTS = (
    Fault(
        signs=("interruptprocessingexception", "processing interrupted", "processing was interrupted"),
        advice="Call again to generate it.",
        kind=GenerationCancelled,
    ),
    Fault(
        signs=("paging file is too small", "os error 1455", "winerror 1455"),
        advice="Windows' page file is too small for the model: enlarge it to at least the size of the model file "
        "(System, Advanced, Performance, Virtual memory), restart, or use an fp8 model file.",
        kind=OutOfMemory,
    ),
    Fault(
        signs=(
            *("outofmemory", "out of memory", "out_of_memory", "can't allocate memory", "cannot allocate memory"),
            *("not enough memory", "failed to allocate", "unable to allocate", "allocation on device", "bad_alloc"),
            *("status_alloc_failed", "statusallocfailed", "memoryerror", "hsa_status_error_out_of_resources"),
            "insufficient memory",
        ),
        advice=LESS_MEMORY,
        kind=OutOfMemory,
    ),
    Fault(
        signs=("invalid load key, '<'",),
        advice="The model file is a web page, not a model: the link was of a page, or asked for a login; download it "
        "again by the download button, or with your account.",
    ),
    Fault(
        signs=("invalid load key, 'v'",),
        advice="The model file is a pointer of Git LFS, not the model: download it again, by git lfs or a browser.",
    ),
    Fault(
        signs=(
            *("headertoolarge", "header too large", "headertoosmall", "header too small", "invalidheader"),
            *("invalid header", "metadataincompletebuffer", "incomplete metadata", "while deserializing header"),
            *("invalid json in header", "tensorinvalidinfo", "invalidoffset", "invalid load key", "corrupt"),
            *("pytorchstreamreader failed", "failed finding central directory", "not a zip archive"),
            *("unexpected eof", "unexpected end of file", "ran out of input", "cannot mmap an empty file"),
            *("file not fully covered", "gguf magic invalid", "expected more bytes", "unpicklingerror"),
            *("is not a valid safetensors", "file size is not a multiple"),
        ),
        advice=DOWNLOAD_AGAIN,
    ),
    Fault(
        signs=("clip input is invalid: none", "does not contain a valid clip or text encoder"),
        advice="The checkpoint holds no text encoder. Bare diffusion weights belong into models/diffusion_models, with "
        "text encoders in models/text_encoders and a VAE in models/vae; or take a checkpoint that holds all three.",
    ),
    Fault(
        signs=("vae is invalid: none", "does not contain a valid vae"),
        advice="The checkpoint holds no VAE. Bare diffusion weights belong into models/diffusion_models, with text "
        "encoders in models/text_encoders and a VAE in models/vae; or take a checkpoint that holds all three.",
    ),
    Fault(
        signs=("could not detect model type", "unable to detect model type", "unknown model architecture"),
        advice="This ComfyUI does not know this kind of model file: update it or use another.",
    ),
    Fault(
        signs=("to the mps backend", "float8_e4m3fn' on mps", "float8 is not supported on mps"),
        advice="A Mac cannot compute with fp8: use a model file without fp8, such as fp16 or GGUF.",
    ),
    Fault(
        signs=("bfloat16 is not supported on mps",),
        advice="Update macOS to 14 or newer, or start ComfyUI with --force-fp16.",
    ),
    Fault(
        signs=("not implemented for 'float8", "has no attribute 'float8"),
        advice="This PyTorch or GPU cannot compute with fp8: update PyTorch, or use a model file without fp8.",
    ),
    Fault(
        signs=("not implemented for 'half'",),
        advice="The CPU cannot compute with fp16: start ComfyUI with --force-fp32.",
    ),
    # -- AMD: HIP and the libraries of ROCm
    Fault(
        signs=("hiperrornobinaryforgpu", "hiperrorinvaliddevicefunction", "invalid device function"),
        advice=WRONG_ROCM,
    ),
    Fault(
        signs=(
            *("hiperrorinvalidimage", "hiperrorinvalidkernelfile", "device kernel image is invalid"),
            *("hiperrorsharedobjectinitfailed", "shared object initialization failed", "hsa_status_error_invalid_isa"),
            *("tensilelibrary", "could not initialize tensile", "hipblas_status_arch_mismatch"),
        ),
        advice=WRONG_ROCM,
    ),
    Fault(
        signs=("/dev/kfd", "/dev/dri/render"),
        advice="ComfyUI's user may not use the AMD GPU: add it to the groups render and video, log in anew, and start "
        "ComfyUI again.",
    ),
    Fault(
        signs=("no hip gpus are available", "hiperrornodevice"),
        advice="PyTorch finds no AMD GPU: check that rocminfo lists it, that ComfyUI's user is in the groups render "
        "and video, and that HIP_VISIBLE_DEVICES does not hide it.",
    ),
    Fault(
        signs=("hiperrorinvaliddevice", "invalid device ordinal"),
        advice="No GPU has that number: correct HIP_VISIBLE_DEVICES or CUDA_VISIBLE_DEVICES, or --cuda-device.",
    ),
    Fault(
        signs=("hiperrorinitializationerror", "hiperrornotinitialized", "hip error: initialization error"),
        advice="The AMD driver did not start: check rocminfo, and install the driver that this ROCm needs; then "
        "restart ComfyUI.",
    ),
    Fault(
        signs=("hiperrorinsufficientdriver", "hip driver version is insufficient"),
        advice="The AMD driver is too old for this ROCm: update the driver, or install PyTorch for an older ROCm.",
    ),
    Fault(
        signs=("hiperrorlaunchtimeout", "launch timed out and was terminated"),
        advice="The system stopped a computation that took too long: lower width, height or batch_size, or do not use "
        "this card for the display as well.",
    ),
    Fault(
        signs=("hiperrorlaunchfailure", "unspecified launch failure", "hiperrorecc", "uncorrectable ecc"),
        advice=f"{RESTART} If it repeats, lower clocks or power, and update the driver.",
    ),
    Fault(
        signs=("hiperrorillegaladdress", "illegal memory access", "hiperrorillegalstate", "memory access fault"),
        advice=RESTART,
    ),
    Fault(
        signs=("hiperrorlaunchoutofresources", "too many resources requested for launch"),
        advice="A kernel does not fit this GPU: start ComfyUI with --use-split-cross-attention, or update PyTorch.",
    ),
    Fault(
        signs=("miopen", "no suitable algorithm was found to execute"),
        advice="MIOpen found no way to compute this: start ComfyUI with MIOPEN_FIND_MODE=FAST, delete ~/.cache/miopen "
        "and ~/.config/miopen, or install PyTorch for a newer ROCm.",
    ),
    Fault(
        signs=("hipblas", "rocblas", "hip error: invalid argument", "hiperrorinvalidvalue"),
        advice="ROCm's libraries failed: start ComfyUI with TORCH_BLAS_PREFER_HIPBLASLT=0, or install PyTorch for a "
        "newer ROCm.",
    ),
    # -- NVIDIA, and all GPUs
    Fault(signs=("no kernel image is available",), advice=WRONG_BUILD),
    Fault(
        signs=(
            *("driver on your system is too old", "driver version is insufficient", "found no nvidia driver"),
            *("no cuda gpus are available", "forward compatibility was attempted", "driver too old"),
        ),
        advice="The GPU's driver is missing or too old for this PyTorch: update the driver, then restart ComfyUI.",
    ),
    Fault(
        signs=("torch not compiled with cuda enabled",),
        advice="This PyTorch computes on the CPU alone: install the build for your GPU, or start ComfyUI with --cpu.",
    ),
    Fault(
        signs=("device-side assert",),
        advice="A computation on the GPU met a value that cannot be, often because a text encoder or LoRA belongs to "
        "another family than the model. Restart ComfyUI first: until then everything fails.",
    ),
    Fault(
        signs=("cudnn_status", "cublas_status"),
        advice="The GPU's libraries failed, often for want of memory: restart ComfyUI, free memory on the card, and "
        "update driver and PyTorch.",
    ),
    Fault(
        signs=("all tensors to be on the same device", "tensors are on different devices"),
        advice="A part of the model lies on another device, often for custom nodes: update ComfyUI and its custom "
        "nodes, or start it with --disable-all-custom-nodes, or without --lowvram.",
    ),
    Fault(
        signs=(
            *("size mismatch", "shapes cannot be multiplied", "must match the size of tensor", "shape mismatch"),
            *("given groups=", "normalized_shape", "error(s) in loading state_dict", "mat1 and mat2"),
        ),
        advice=OTHER_FAMILY,
    ),
    # -- the machine that ComfyUI runs on
    Fault(
        signs=(
            "no space left on device",
            "not enough space on the disk",
            "os error 112",
            "disk quota exceeded",
            "errno 28",
        ),
        advice=FULL_DISK,
    ),
    Fault(
        signs=("permission denied", "permissionerror", "access is denied", "read-only file system"),
        advice="ComfyUI may not read or write a file: give its user the right to, then call again.",
    ),
    Fault(
        signs=("filenotfounderror", "no such file or directory", "cannot find the file"),
        advice="A file vanished at ComfyUI: put it back, or call list_available_models to see what is there.",
    ),
    Fault(
        signs=("modulenotfounderror", "no module named"),
        advice="A Python package is missing in ComfyUI's environment: install what the node or ComfyUI requires.",
    ),
)


def fault_of(text: str) -> Fault | None:
    """Return the cause that the text tells; None for an unknown one."""
    lowered = " ".join(text.lower().split())
    return next((fault for fault in FAULTS if any(sign in lowered for sign in fault.signs)), None)
