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
        """The text of an error."""
        assert self.is_error, self.text
        return self.text

    def image(self, index: int = 0) -> Image.Image:
        """The inline image, decoded."""
        image = Image.open(io.BytesIO(base64.b64decode(self.images[index].data)))
        image.load()
        return image
