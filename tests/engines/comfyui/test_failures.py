"""Every recorded refusal and failure, as an error that says what to do."""

import json

import pytest

from mcp_image_gen_local.domain.errors import (
    GenerationFailed,
    ImageGenError,
    InvalidRequest,
    ModelNotFound,
    NodeMissing,
    OutOfMemory,
    WorkflowRejected,
)
from mcp_image_gen_local.engines.comfyui.failures import execution_error
from mcp_image_gen_local.engines.comfyui.failures import rejection as rejection_of
from mcp_image_gen_local.engines.comfyui.faults import FAULTS, LESS_MEMORY, OTHER_FAMILY, fault_of
from mcp_image_gen_local.engines.comfyui.prompt_reply import parse_prompt_reply
from mcp_image_gen_local.engines.comfyui.replies import Failure, parse_history
from tests.comfyui_memory import OUT_OF_MEMORY
from tests.comfyui_nodes import RECORDINGS, recording

REFUSALS = sorted(path.stem for path in (RECORDINGS / "prompt_fail").glob("*.json"))


def rejection(status: int, body: object) -> ImageGenError:
    """Return the error for a refusal with this body: a text as it is, all else as JSON."""
    sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return rejection_of(parse_prompt_reply(status, sent))


def failed(message: str, *, kind: str = "RuntimeError", node: str = "KSampler") -> ImageGenError:
    """Return the error for a failure with this text."""
    return execution_error(Failure(node_type=node, exception_type=kind, text=message))


def refusal(name: str) -> ImageGenError:
    recorded = recording(f"prompt_fail/{name}.json")
    return rejection(recorded["status"], recorded["body"])


@pytest.mark.parametrize("name", REFUSALS)
def test_every_recorded_refusal_has_a_cure(name):
    """Every recorded refusal becomes an error with a reason and a cure."""
    error = refusal(name)
    assert isinstance(error, WorkflowRejected | ModelNotFound | NodeMissing | InvalidRequest)
    assert error.hint
    assert 0 < len(error.message) < 500
    assert 'File "' not in str(error)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("unknown_class", NodeMissing, "ComfyUI has no node 'NoSuchSampler'."),
        ("missing_model_name", ModelNotFound, "ComfyUI has no file 'nope.safetensors'."),
        ("value_too_big", WorkflowRejected,
         "ComfyUI refused the node KSampler: Value 10001 bigger than max of 10000: steps"),
        ("bad_sampler", WorkflowRejected, "ComfyUI refused the node KSampler: "
         "Value not in list: sampler_name: 'nope' not in (list of length 42)"),
        ("missing_required_two_nodes", WorkflowRejected,
         "ComfyUI refused the node CLIPTextEncode: Required input is missing: text"),
        ("missing_image_file", WorkflowRejected, "ComfyUI refused the node LoadImage: "
         "Custom validation failed for node: image - Invalid image file: nosuch.png"),
        ("no_outputs", WorkflowRejected, "ComfyUI refused the workflow (HTTP 400): Prompt has no outputs"),
        ("raw_form", WorkflowRejected,
         "ComfyUI refused the workflow (HTTP 500): 500 Internal Server Error Server got itself in trouble"),
        ("cycle", WorkflowRejected, "ComfyUI refused the workflow (HTTP 400): Prompt outputs failed validation"),
        ("missing_class_type", WorkflowRejected, "ComfyUI refused the workflow (HTTP 400): "
         "Cannot execute because a node is missing the class_type property. Node ID '#7'"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_in_its_own_words(name, kind, message):
    error = refusal(name)
    assert (type(error), error.message) == (kind, message)


def test_a_missing_node_of_comfyui_0_33():
    """A missing node of ComfyUI 0.33 is reported by its class.

    Since 0.33 the type is missing_node_type, and extra_info names the class.
    """
    error = {
        "type": "missing_node_type",
        "message": "Node 'Load GGUF' not found. The custom node may not be installed.",
        "details": "Node ID '#1'",
        "extra_info": {"node_id": "1", "class_type": "UnetLoaderGGUF", "node_title": "Load GGUF"},
    }
    told = rejection(400, {"error": error, "node_errors": {}})
    assert isinstance(told, NodeMissing)
    assert told.message == "ComfyUI has no node 'UnetLoaderGGUF'."
    assert "ComfyUI-GGUF" in told.hint


def test_a_missing_file_without_named_choices():
    """A missing file among many is reported though ComfyUI names no choice.

    Of more than 20 choices it sends none, and no input_config.
    """
    extra = {"input_name": "ckpt_name", "input_config": None, "received_value": "x.safetensors"}
    fault = {"type": "value_not_in_list", "message": "Value not in list", "details": "...", "extra_info": extra}
    errors = {"1": {"class_type": "CheckpointLoaderSimple", "errors": [fault]}}
    told = rejection(400, {"error": {}, "node_errors": errors})
    assert str(told) == "ComfyUI has no file 'x.safetensors'. Put it into models/checkpoints."


def test_a_request_that_is_too_large_is_told():
    assert "too large (HTTP 413)" in rejection(413, "Maximum request body size 104857600 exceeded.").message


@pytest.mark.parametrize("body", [None, "", [], {}, {"error": None, "node_errors": []}, {"error": {"message": None}},
                                  {"node_errors": {"1": {"errors": []}}}])  # fmt: skip
def test_a_refusal_without_a_reason(body):
    """A body without a reason is a refusal all the same."""
    error = rejection(400, body)
    assert str(error) == "ComfyUI refused the workflow (HTTP 400): no reason given ComfyUI's log says more."


@pytest.mark.parametrize("kind", sorted(OUT_OF_MEMORY))
def test_out_of_memory_is_known_on_every_device(kind):
    exception_type, message = OUT_OF_MEMORY[kind]
    error = failed(message, kind=exception_type)
    assert isinstance(error, OutOfMemory)
    assert error.message.startswith("ComfyUI ran out of memory in node KSampler: ")
    assert "\n" not in error.message
    assert error.hint == LESS_MEMORY


def test_the_recorded_huge_allocation_is_out_of_memory():
    (entry,) = recording("history_error_huge_alloc.json").values()
    assert isinstance(execution_error(parse_history(entry).outcome.error), OutOfMemory)


def test_a_model_of_unknown_kind_is_told_with_its_cure():
    (entry,) = recording("history_error_unknown_arch.json").values()
    error = execution_error(parse_history(entry).outcome.error)
    assert isinstance(error, GenerationFailed)
    assert "CheckpointLoaderSimple" in error.message
    assert error.hint == fault_of("could not detect model type").advice


def test_a_failure_has_no_traceback():
    """Any other failure is reported without its traceback."""
    (entry,) = recording("history_error_vae_mismatch.json").values()
    error = execution_error(parse_history(entry).outcome.error)
    assert str(error) == (
        "ComfyUI failed in node VAEDecode: Given groups=1, weight of size [512, 16, 3, 3], expected input[1, 4, 8, 8] "
        f"to have 16 channels, but got 4 channels instead {OTHER_FAMILY}"
    )


@pytest.mark.parametrize("sign", [sign for fault in FAULTS for sign in fault.signs])
def test_a_known_sign_is_told_with_its_cure(sign):
    error, fault = failed(f"x {sign.upper()} (7)", node="UNETLoader"), fault_of(sign)
    assert (type(error), error.hint) == (fault.kind, fault.advice)
    assert sign == sign.lower()


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (Failure(), "ComfyUI failed in node unknown: no reason given"),
        (Failure(exception_type="KeyError"), "ComfyUI failed in node unknown: KeyError"),
    ],
)
def test_a_failure_without_a_message(failure, message):
    """A failure without a message says what is known."""
    assert execution_error(failure).message == message


def test_a_long_message_is_cut():
    assert len(failed("x" * 5000).message) < 350
