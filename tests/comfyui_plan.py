"""Which nodes of a graph the ComfyUI test double runs, in which order, and which it knows already."""

import json
from collections.abc import Container
from hashlib import sha1
from typing import Any

from tests.comfyui_state import Files, Json


class Plan:
    """A graph as links and digests."""

    def __init__(self, graph: Json, files: Files) -> None:
        self._graph, self._files = graph, files
        self._keys: dict[str, str] = {}

    def order(self, outputs: list[str], cached: Container[str]) -> list[str]:
        """Return the nodes to visit for `outputs`; of the cached ones only outputs, for their files are told again."""
        waits: dict[str, set[str]] = {}
        for output in outputs:
            stack = [output]
            while stack:
                node_id = stack.pop()
                if node_id not in waits:
                    known = self.key(node_id) in cached
                    links = [] if known else [link for link in self._links(node_id) if self.key(link) not in cached]
                    waits[node_id] = set(links)
                    stack += links
        return _arrange(waits, set(outputs))

    def keys(self) -> set[str]:
        """Return the digests of all nodes."""
        return {self.key(node_id) for node_id in self._graph}

    def key(self, node_id: str) -> str:
        """Return a digest of a node and of everything upstream of it."""
        if node_id not in self._keys:
            self._keys[node_id] = ""  # what a cycle among unused nodes sees
            node = self._graph[node_id]
            inputs = sorted(node.get("inputs", {}).items())
            parts = [[name, [self.key(v[0]), v[1]] if self.is_link(v) else v] for name, v in inputs]
            if node["class_type"] in ("LoadImage", "LoadImageMask"):
                found = self._files.find(str(node["inputs"].get("image"))) or b""
                parts.append(["", sha1(found, usedforsecurity=False).hexdigest()])
            text = json.dumps([node["class_type"], parts])
            self._keys[node_id] = sha1(text.encode(), usedforsecurity=False).hexdigest()
        return self._keys[node_id]

    def is_link(self, given: Any) -> bool:
        """Say whether an input is [node id, slot] of a node in this graph."""
        return isinstance(given, list) and len(given) == 2 and isinstance(given[0], str) and given[0] in self._graph

    def _links(self, node_id: str) -> list[str]:
        return [given[0] for given in self._graph[node_id]["inputs"].values() if self.is_link(given)]


def _arrange(waits: dict[str, set[str]], outputs: set[str]) -> list[str]:
    """Return nodes so that each comes after those it waits for, outputs and their neighbours first."""
    left = {node_id: set(needs) for node_id, needs in waits.items()}
    feeds_output = {need for node_id in outputs for need in waits[node_id]}
    near_output = {need for node_id in feeds_output for need in waits.get(node_id, ())}
    order: list[str] = []
    while left:
        ready = [node_id for node_id, needs in left.items() if not needs]
        chosen = next(
            (node_id for group in (outputs, feeds_output, near_output) for node_id in ready if node_id in group),
            ready[0],
        )
        del left[chosen]
        for needs in left.values():
            needs.discard(chosen)
        order.append(chosen)
    return order
