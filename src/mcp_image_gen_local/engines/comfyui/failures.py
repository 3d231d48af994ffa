"""ComfyUI's error answers, turned into errors that say what to do. Pure."""

from collections.abc import Mapping
from typing import Any

from mcp_image_gen_local.domain.errors import (
    GenerationCancelled,
    GenerationFailed,
    GenerationLost,
    ImageGenError,
    OutOfMemory,
    WorkflowRejected,
)
from mcp_image_gen_local.engines.comfyui.events import Outcome
from mcp_image_gen_local.engines.comfyui.object_info import MODEL_INPUTS, missing_node, not_in_list, options

MAX_TEXT = 300  #: characters of a foreign message that are passed on

LESS_MEMORY = (
    "Lower width, height or batch_size, use an fp8 model file, or free the memory that another program holds "
    "(for Ollama: ollama stop MODEL). Starting ComfyUI with --lowvram also helps."
)
#: text in the exception's type or message, in lower case
OUT_OF_MEMORY = (
    "outofmemoryerror",
    "out of memory",  # CUDA and HIP
    "can't allocate memory",  # the CPU allocator
    "not enough memory",
    "hiperroroutofmemory",
    "failed to allocate",
)
#: text in the message, in lower case -> what to do
KNOWN_FAULTS = {
    "invalid device function": "The ROCm build does not fit this GPU. For an RX 7900 XTX start ComfyUI with "
    "HSA_OVERRIDE_GFX_VERSION=11.0.0, or install PyTorch for ROCm 6.2 or newer.",
    "no kernel image is available": "PyTorch was built for other GPUs: install the build for yours.",
    "hiperrornobinaryforgpu": "PyTorch was built for other GPUs: install the ROCm build, or set "
    "HSA_OVERRIDE_GFX_VERSION=11.0.0 for an RX 7900 XTX.",
    "illegal memory access": "The GPU driver faulted: restart ComfyUI, and keep the card's memory below its limit.",
    "could not detect model type": "This ComfyUI does not know this kind of model file: update it or use another.",
    "incomplete metadata": "The model file is damaged or was not downloaded whole: download it again.",
    "header too large": "The model file is damaged or was not downloaded whole: download it again.",
    "invalid header": "The model file is damaged or was not downloaded whole: download it again.",
    "no space left on device": "ComfyUI's disk is full: free space there.",
}


def failure_of(outcome: Outcome) -> ImageGenError | None:
    """Return why a prompt ended before its time; None if it succeeded."""
    if outcome.kind == "error":
        return execution_error(outcome.error)
    if outcome.kind == "interrupted":
        return GenerationCancelled(
            "The image was interrupted at ComfyUI, by its Cancel button or another program.",
            hint="Call again to generate it.",
        )
    if outcome.kind == "lost":
        return GenerationLost("ComfyUI was restarted before it had finished all images.", hint="Call again.")
    return None


def execution_error(detail: Mapping[str, Any]) -> ImageGenError:
    """Return the error for an execution_error message; its traceback holds server paths and is left out."""
    text = " ".join(str(detail.get("exception_message") or "").split())
    kind = str(detail.get("exception_type") or "")
    where = f"node {detail.get('node_type') or 'unknown'}"
    lowered = f"{kind} {text}".lower()
    if any(sign in lowered for sign in OUT_OF_MEMORY):
        return OutOfMemory(f"ComfyUI ran out of memory in {where}: {shorten(text)}", hint=LESS_MEMORY)
    hint = next((advice for sign, advice in KNOWN_FAULTS.items() if sign in lowered), "ComfyUI's log says more.")
    return GenerationFailed(f"ComfyUI failed in {where}: {shorten(text) or kind or 'no reason given'}", hint=hint)


def rejection(status: int, body: object) -> ImageGenError:
    """Return the error for a refused `POST /prompt`; its body may be empty, text, or JSON without details."""
    answer: dict[str, Any] = body if isinstance(body, dict) else {}
    error = answer.get("error") if isinstance(answer.get("error"), dict) else None
    error = error or {}
    for node in (answer.get("node_errors") or {}).values():
        for fault in node.get("errors") or []:
            return _node_fault(str(node.get("class_type")), fault)
    message = str(error.get("message") or "")
    if class_type := (error.get("extra_info") or {}).get("class_type"):  # since ComfyUI 0.33: type missing_node_type
        return missing_node(str(class_type))
    if "does not exist" in message:
        return missing_node(message.removeprefix("Cannot execute because node ").removesuffix(" does not exist."))
    if status == 413:
        return WorkflowRejected("ComfyUI refused the request as too large (HTTP 413).", hint="Send smaller images.")
    reason = shorten(f"{message} {error.get('details') or ''}".strip()) or "no reason given"
    return WorkflowRejected(f"ComfyUI refused the workflow (HTTP {status}): {reason}", hint="ComfyUI's log says more.")


def _node_fault(class_type: str, fault: Mapping[str, Any]) -> ImageGenError:
    extra = fault.get("extra_info") or {}
    name, allowed = str(extra.get("input_name")), options(extra.get("input_config"))
    # Of more than 20 choices ComfyUI tells none.
    if fault.get("type") == "value_not_in_list" and (allowed is not None or name in MODEL_INPUTS):
        return not_in_list(name, str(extra.get("received_value")), allowed or ())
    text = shorten(f"{fault.get('message')}: {fault.get('details')}")
    return WorkflowRejected(f"ComfyUI refused the node {class_type}: {text}", hint="Correct that value and call again.")


def shorten(text: str) -> str:
    """Return the text in one line, cut to what a reader needs."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
