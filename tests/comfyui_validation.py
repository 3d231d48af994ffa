"""How ComfyUI judges a graph before it queues it: the same order, error types and shapes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.comfyui_nodes import NodeInfo, options

Json = dict[str, Any]
_CASTS: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
_MANY = 20  # a longer option list is named by its length only
_TRACEBACK = ['  File "execution.py", line N, in execute (cut)']


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What POST /prompt will answer about a graph."""

    error: Json | None  #: the `error` object of a 400; None if at least one output may run
    outputs: list[str] = field(default_factory=list)  #: node ids that may run
    node_errors: Json = field(default_factory=dict)


def validate(
    graph: Mapping[str, Any],
    node_info: Callable[[str], NodeInfo | None],
    has_upload: Callable[[str], bool],
) -> Verdict:
    """Judge `graph` and cast its plain values in place, as ComfyUI does."""
    outputs = []
    for node_id, node in graph.items():
        if "class_type" not in node:
            message = "Cannot execute because a node is missing the class_type property."
            return Verdict(error=_error("invalid_prompt", message, f"Node ID '#{node_id}'"))
        info = node_info(node["class_type"])
        if info is None:
            message = f"Cannot execute because node {node['class_type']} does not exist."
            return Verdict(error=_error("invalid_prompt", message, f"Node ID '#{node_id}'"))
        if info["output_node"]:
            outputs.append(node_id)
    if not outputs:
        return Verdict(error=_error("prompt_no_outputs", "Prompt has no outputs", ""))
    return _Judge(graph, node_info, has_upload).judge(outputs)


class _Judge:
    """One validation: walks from each output node to the nodes it needs."""

    def __init__(
        self,
        graph: Mapping[str, Any],
        node_info: Callable[[str], NodeInfo | None],
        has_upload: Callable[[str], bool],
    ) -> None:
        self._graph, self._node_info, self._has_upload = graph, node_info, has_upload
        self._verdicts: dict[Any, tuple[bool, list[Json]]] = {}
        self._underway: set[Any] = set()

    def judge(self, outputs: list[str]) -> Verdict:
        """Return the verdict over all output nodes."""
        good: list[str] = []
        complaints: list[Json] = []
        node_errors: Json = {}
        for output in outputs:
            if self._judge_output(output):
                good.append(output)
                continue
            complaints += self._verdicts[output][1]
            self._collect(node_errors, output)
        if good:
            return Verdict(error=None, outputs=good, node_errors=node_errors)
        details = "\n".join(f"{reason['message']}: {reason['details']}" for reason in complaints)
        message = "Prompt outputs failed validation"
        return Verdict(error=_error("prompt_outputs_failed_validation", message, details), node_errors=node_errors)

    def _judge_output(self, output: str) -> bool:
        try:
            return self._judge_node(output)
        except Exception as error:
            extra = {"exception_type": type(error).__name__, "traceback": _TRACEBACK}
            message = "Exception when validating node"
            self._verdicts[output] = False, [_error("exception_during_validation", message, str(error), extra)]
            return False

    def _collect(self, node_errors: Json, output: str) -> None:
        """Add every node that has reasons of its own; nodes that only depend on a bad one have none."""
        for node_id, (valid, reasons) in self._verdicts.items():
            if valid or not reasons:
                continue
            class_type = self._graph[node_id]["class_type"]
            entry = {"errors": reasons, "dependent_outputs": [], "class_type": class_type}
            node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)

    def _judge_node(self, node_id: Any) -> bool:
        if node_id in self._underway:
            return False  # a cycle: ComfyUI answers with empty details and no node_errors
        if node_id not in self._verdicts:
            self._underway.add(node_id)
            try:
                reasons, upstream = self._judge_inputs(node_id)
            finally:
                self._underway.discard(node_id)
            self._verdicts[node_id] = (upstream and not reasons), reasons
        return self._verdicts[node_id][0]

    def _judge_inputs(self, node_id: str) -> tuple[list[Json], bool]:
        """Return the node's own complaints, and whether all nodes it needs are valid."""
        node = self._graph[node_id]
        given = node["inputs"]
        info = self._node_info(node["class_type"])
        assert info is not None
        reasons: list[Json] = []
        upstream = True
        for group in ("required", "optional"):
            for name, config in info["input"].get(group, {}).items():
                if name in given and isinstance(given[name], list):
                    reason, fine = self._judge_link(name, config, given[name])
                    upstream = upstream and fine
                elif name in given:
                    reason = self._judge_value(node["class_type"], name, config, given)
                else:
                    reason = _missing(name) if group == "required" else None
                reasons += [reason] if reason else []
        return reasons, upstream

    def _judge_link(self, name: str, config: list[Any], link: list[Any]) -> tuple[Json | None, bool]:
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return _error("bad_linked_input", message, name, _input(name, config, received_value=link)), True
        source, slot = link
        source_info = self._node_info(self._graph[source]["class_type"])
        assert source_info is not None
        received = tuple(source_info["output"])[slot]
        wanted = config[0] if isinstance(config[0], str) else "COMBO"
        if not _matches(received, wanted):
            details = f"{name}, received_type({received}) mismatch input_type({wanted})"
            extra = _input(name, config, received_type=received, linked_node=link)
            return _error("return_type_mismatch", "Return type mismatch between linked nodes", details, extra), True
        return None, self._judge_source(name, config, link)

    def _judge_source(self, name: str, config: list[Any], link: list[Any]) -> bool:
        """Judge the linked node; what it raises is noted as its own error."""
        try:
            return self._judge_node(link[0])
        except Exception as error:
            failure = {"exception_message": str(error), "exception_type": type(error).__name__}
            extra = _input(name, config, **failure, traceback=_TRACEBACK, linked_node=link)
            message = "Exception when validating inner node"
            reason = _error("exception_during_inner_validation", message, str(error), extra)
            self._verdicts[link[0]] = False, [reason]
            return False

    def _judge_value(self, class_type: str, name: str, config: list[Any], given: Json) -> Json | None:
        kind = config[0] if isinstance(config[0], str) else "COMBO"
        value = given[name]
        if kind in _CASTS:
            try:
                given[name] = value = _CASTS[kind](value)
            except (TypeError, ValueError, OverflowError) as error:
                extra = _input(name, config, received_value=value, exception_message=str(error))
                message = f"Failed to convert an input value to a {kind} value"
                return _error("invalid_input_type", message, f"{name}, {value}, {error}", extra)
        if class_type in ("LoadImage", "LoadImageMask") and name == "image":
            return None if self._has_upload(value) else _no_such_image(value)
        return _out_of_range(name, config, value) or _not_listed(name, config, value)


def _error(kind: str, message: str, details: str, extra: Json | None = None) -> Json:
    """Return the shape that all of ComfyUI's complaints have."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra or {}}


def _input(name: str, config: list[Any] | None, **more: Any) -> Json:
    """Return an extra_info; an input without settings is reported with empty ones."""
    shown = [config[0], config[1] if len(config) > 1 else {}] if config else None
    return {"input_name": name, "input_config": shown, **more}


def _missing(name: str) -> Json:
    return _error("required_input_missing", "Required input is missing", name, {"input_name": name})


def _no_such_image(value: str) -> Json:
    details = f"image - Invalid image file: {value}"
    message = "Custom validation failed for node"
    return _error("custom_validation_failed", message, details, {"input_name": "image"})


def _matches(received: str, wanted: str) -> bool:
    """Say whether an output of type `received` may feed an input of type `wanted`; "*" fits all."""
    if "*" in (received, wanted):
        return True
    return bool(set(received.split(",")) & set(wanted.split(",")))


def _out_of_range(name: str, config: list[Any], value: Any) -> Json | None:
    settings = config[1] if len(config) > 1 else {}
    for bound, kind, word in (("min", "value_smaller_than_min", "smaller"), ("max", "value_bigger_than_max", "bigger")):
        # NaN is on neither side, so that it passes here as it does in ComfyUI.
        if bound in settings and (value < settings[bound] if bound == "min" else value > settings[bound]):
            message = f"Value {value} {word} than {bound} of {settings[bound]}"
            return _error(kind, message, name, _input(name, config, received_value=value))
    return None


def _not_listed(name: str, config: list[Any], value: Any) -> Json | None:
    allowed = options(config)
    if allowed is None or value in allowed:
        return None
    few = len(allowed) <= _MANY
    listed = str(allowed) if few else f"(list of length {len(allowed)})"
    extra = _input(name, config if few else None, received_value=value)
    return _error("value_not_in_list", "Value not in list", f"{name}: '{value}' not in {listed}", extra)
