"""A tool's answer, as a test reads it."""

import base64
import io
import json
from typing import Any

import mcp.types
from PIL import Image


class Answer:
    """The content of one tool result."""

    def __init__(self, result: mcp.types.CallToolResult) -> None:
        self.result = result
        self.is_error = bool(result.is_error)
        self.text = "\n".join(b.text for b in result.content if isinstance(b, mcp.types.TextContent))
        self.images = [b for b in result.content if isinstance(b, mcp.types.ImageContent)]
        self.links = [b for b in result.content if isinstance(b, mcp.types.ResourceLink)]

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON of the first line."""
        assert not self.is_error, self.text
        return dict(json.loads(self.text.splitlines()[0]))

    @property
    def story(self) -> str:
        """What follows the first line."""
        return "\n".join(self.text.splitlines()[1:])

    @property
    def error(self) -> str:
        """What an error says to readers."""
        assert self.is_error, self.text
        return self.story

    @property
    def code(self) -> str:
        """The code of an error, for programs."""
        assert self.is_error, self.text
        facts = json.loads(self.text.splitlines()[0])
        assert facts["status"] == "failed"
        return str(facts["error"]["code"])

    def image(self, index: int = 0) -> Image.Image:
        """The inline image, decoded."""
        image = Image.open(io.BytesIO(base64.b64decode(self.images[index].data)))
        image.load()
        return image
