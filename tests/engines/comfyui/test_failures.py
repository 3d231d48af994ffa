"""Every recorded refusal and failure, as an error that says what to do."""

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
from mcp_image_gen_local.engines.comfyui.events import parse_history
from mcp_image_gen_local.engines.comfyui.failures import KNOWN_FAULTS, LESS_MEMORY, execution_error, rejection, shorten
from tests.comfyui_memory import OUT_OF_MEMORY
from tests.comfyui_nodes import RECORDINGS, recording

REFUSALS = sorted(path.stem for path in (RECORDINGS / "prompt_fail").glob("*.json"))


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
        ("raw_form", WorkflowRejected, "ComfyUI refused the workflow (HTTP 500): no reason given"),
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


@pytest.mark.parametrize("body", [None, "", "text", [], {}, {"error": "old style"}, {"error": None, "node_errors": []},
                                  {"node_errors": {"1": {"errors": None}}}])  # fmt: skip
def test_a_refusal_without_a_reason(body):
    """A body without a reason is a refusal all the same."""
    error = rejection(400, body)
    assert str(error) == "ComfyUI refused the workflow (HTTP 400): no reason given ComfyUI's log says more."


@pytest.mark.parametrize("kind", sorted(OUT_OF_MEMORY))
def test_out_of_memory_is_known_on_every_device(kind):
    exception_type, message = OUT_OF_MEMORY[kind]
    detail = {"node_type": "KSampler", "exception_type": exception_type, "exception_message": message}
    error = execution_error(detail)
    assert isinstance(error, OutOfMemory)
    assert error.message.startswith("ComfyUI ran out of memory in node KSampler: ")
    assert "\n" not in error.message
    assert error.hint == LESS_MEMORY


def test_the_recorded_huge_allocation_is_out_of_memory():
    (entry,) = recording("history_error_huge_alloc.json").values()
    assert isinstance(execution_error(parse_history(entry).error), OutOfMemory)


def test_a_model_of_unknown_kind_is_told_with_its_cure():
    (entry,) = recording("history_error_unknown_arch.json").values()
    error = execution_error(parse_history(entry).error)
    assert isinstance(error, GenerationFailed)
    assert "CheckpointLoaderSimple" in error.message
    assert error.hint == KNOWN_FAULTS["could not detect model type"]


def test_a_failure_has_no_traceback():
    """Any other failure is reported without its traceback."""
    (entry,) = recording("history_error_vae_mismatch.json").values()
    error = execution_error(parse_history(entry).error)
    assert str(error) == (
        "ComfyUI failed in node VAEDecode: Given groups=1, weight of size [512, 16, 3, 3], expected input[1, 4, 8, 8] "
        "to have 16 channels, but got 4 channels instead ComfyUI's log says more."
    )


@pytest.mark.parametrize("sign", sorted(KNOWN_FAULTS))
def test_a_known_fault_is_told_with_its_cure(sign):
    error = execution_error({"node_type": "UNETLoader", "exception_message": f"RuntimeError: {sign.upper()} (7)"})
    assert error.hint == KNOWN_FAULTS[sign]


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ({}, "ComfyUI failed in node unknown: no reason given"),
        ({"exception_type": "KeyError", "exception_message": None}, "ComfyUI failed in node unknown: KeyError"),
    ],
)
def test_a_failure_without_a_message(detail, message):
    """A failure without a message says what is known."""
    assert execution_error(detail).message == message


def test_a_long_message_is_cut():
    assert shorten("x" * 300) == "x" * 300
    assert shorten("x" * 301) == "x" * 299 + "…"
