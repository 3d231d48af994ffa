"""Generates docs/images/tool-call.png from a real tool call, so that the README shows what a client gets.

    python docs/images/tool_call.py

It starts the server over stdio as a client does, with the built-in engine, calls generate_image once, and puts what
came back on a card: the text block as text, the inline image pixel for pixel, the link's name. IMAGE_OUTPUT_DIR
decides the path that it shows.
"""

import asyncio
import base64
import io
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from PIL import Image, ImageDraw, ImageFont

ARGUMENTS = {"prompt": "a red apple", "width": 256, "height": 256, "seed": 2}
WIDTH, MARGIN, LINE, COLUMNS = 1000, 36, 26, 92
PAPER, CARD, INK, FAINT, ACCENT = "#e9ecf1", "#ffffff", "#1d2530", "#667085", "#0b6bcb"


async def call() -> tuple[Any, list[str]]:
    """Return the result of one generate_image and the progress messages that came before it."""
    told: list[str] = []

    async def note(_: float, __: float | None, message: str | None) -> None:
        told.append(message or "")

    environment = {**os.environ, "IMAGE_GEN_ENGINE": "builtin"}
    server = StdioTransport(sys.executable, ["-m", "mcp_image_gen_local"], env=environment)
    async with Client(server, progress_handler=note) as client:
        return await client.call_tool_mcp("generate_image", ARGUMENTS), told


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return DejaVu where it is installed, else Pillow's own font."""
    try:
        return ImageFont.truetype("DejaVuSansMono.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def card(result: Any, told: list[str]) -> Image.Image:
    """Return the call and its answer as an image."""
    text, inline, link = result.content
    rows = [("generate_image", ACCENT), *((line, INK) for line in wrap(json.dumps(ARGUMENTS)))]
    rows += [("", INK), ("progress", ACCENT), *((line, FAINT) for line in wrap(" · ".join(told)))]
    rows += [("", INK), ("answer: text", ACCENT)]
    rows += [(line, INK) for block in text.text.splitlines() for line in wrap(block)]
    rows += [("", INK), (f"answer: {inline.mime_type}, inline", ACCENT)]
    image = Image.open(io.BytesIO(base64.b64decode(inline.data)))
    top = 2 * MARGIN + LINE * len(rows) - 10
    page = Image.new("RGB", (WIDTH, top + image.height + LINE + 2 * MARGIN - 6), PAPER)
    brush = ImageDraw.Draw(page)
    brush.rounded_rectangle((18, 18, WIDTH - 18, page.height - 18), 14, CARD)
    for number, (line, ink) in enumerate(rows):
        brush.text((MARGIN + 8, 2 * MARGIN - 20 + LINE * number), line, ink, font(16))
    page.paste(image, (MARGIN + 8, top))
    brush.text((MARGIN + 8, top + image.height + 14), f"answer: link to {link.name}", ACCENT, font(16))
    return page


def wrap(text: str) -> list[str]:
    """Return the text in lines of the card's width."""
    return textwrap.wrap(text, COLUMNS, break_on_hyphens=False)


if __name__ == "__main__":
    card(*asyncio.run(call())).save(Path(__file__).with_name("tool-call.png"), optimize=True)
