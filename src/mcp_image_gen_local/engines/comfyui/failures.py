"""ComfyUI's refusals and failures, turned into errors that say what to do. Pure."""

from mcp_image_gen_local.domain.errors import (
    GenerationCancelled,
    GenerationFailed,
    GenerationLost,
    ImageGenError,
    OutOfMemory,
    WorkflowRejected,
)
from mcp_image_gen_local.domain.text import clean
from mcp_image_gen_local.engines.comfyui.faults import fault_of
from mcp_image_gen_local.engines.comfyui.object_info import MODEL_INPUTS, missing_node, not_in_list
from mcp_image_gen_local.engines.comfyui.prompt_reply import NodeFault, PromptReply
from mcp_image_gen_local.engines.comfyui.replies import Failure, Outcome

NOT_IN_LIST = "value_not_in_list"
SEE_LOG = "ComfyUI's log says more."
INTERRUPTED = "The image was interrupted at ComfyUI, by its Cancel button or another program."


def failure_of(outcome: Outcome) -> ImageGenError | None:
    """Return why a prompt ended before its time; None if it succeeded."""
    if outcome.kind == "error":
        return execution_error(outcome.error)
    if outcome.kind == "interrupted":
        return GenerationCancelled(INTERRUPTED, hint="Call again to generate it.")
    if outcome.kind == "lost":
        return GenerationLost("ComfyUI was restarted before it had finished all images.", hint="Call again.")
    return None


def execution_error(failure: Failure) -> ImageGenError:
    """Return the error for an execution_error message."""
    where, text = f"node {failure.node_type or 'unknown'}", clean(failure.text)
    fault = fault_of(f"{failure.exception_type} {failure.text}")
    if fault is None:
        reason = text or failure.exception_type or "no reason given"
        return GenerationFailed(f"ComfyUI failed in {where}: {reason}", hint=SEE_LOG)
    if fault.kind is GenerationCancelled:
        return GenerationCancelled(INTERRUPTED, hint=fault.advice)
    what = "ran out of memory" if fault.kind is OutOfMemory else "failed"
    return fault.kind(f"ComfyUI {what} in {where}: {text or failure.exception_type}", hint=fault.advice)


def rejection(reply: PromptReply) -> ImageGenError:
    """Return the error for a refused `POST /prompt`."""
    if reply.faults:
        return _node_fault(reply.faults[0])
    if reply.missing_class:
        return missing_node(reply.missing_class)
    if reply.status == 413:
        return WorkflowRejected("ComfyUI refused the request as too large (HTTP 413).", hint="Send smaller images.")
    hint = "Wait a moment, then call again." if reply.status == 429 else SEE_LOG
    reason = reply.reason or "no reason given"
    return WorkflowRejected(f"ComfyUI refused the workflow (HTTP {reply.status}): {reason}", hint=hint)


def _node_fault(fault: NodeFault) -> ImageGenError:
    name, allowed = fault.input_name, fault.options
    # Of more than 20 choices ComfyUI tells none.
    if fault.kind == NOT_IN_LIST and (allowed is not None or name in MODEL_INPUTS):
        if _is_listed(fault.received, allowed or ()):
            return _refused_though_listed(fault)
        return not_in_list(name, fault.received, allowed or ())
    return WorkflowRejected(
        f"ComfyUI refused the node {fault.class_type}: {fault.text}", hint="Correct that value and call again."
    )


def _is_listed(value: str, allowed: tuple[str, ...]) -> bool:
    return _plain(value) in map(_plain, allowed)


def _plain(name: str) -> str:
    return " ".join(name.replace("\\", "/").split())


def _refused_though_listed(fault: NodeFault) -> ImageGenError:
    return WorkflowRejected(
        f"ComfyUI refused {fault.received!r} as {fault.input_name} of the node {fault.class_type}, though its own list "
        "holds it.",
        hint="Custom nodes that replace a loader or its list are the usual cause, or the list has just changed: call "
        "again; if it repeats, restart ComfyUI and update or disable custom nodes.",
    )
