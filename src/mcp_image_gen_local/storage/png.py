"""PNG chunks: add and strip texts without touching the pixels. Pure.

Source: PNG specification (third edition), sections 5.3 and 11.3.3.
"""

import zlib
from collections.abc import Iterator

from mcp_image_gen_local.imaging.formats import PNG_SIGNATURE as SIGNATURE
from mcp_image_gen_local.imaging.formats import png_chunks

#: The chunks that decide how the image looks; all others are notes.
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"iCCP", b"cHRM"})
HEADER_END = len(SIGNATURE) + 25  # IHDR is always the first chunk and always 25 bytes long


def is_png(data: bytes) -> bool:
    """Return True for a whole PNG file: chunks from its header to its end. What follows that does not count."""
    if not data.startswith(SIGNATURE):
        return False
    first = last = (b"", 0, 0)
    for last in png_chunks(data):
        first = first if first[0] else last
    return first[0] == b"IHDR" and first[2] == HEADER_END and last[0] == b"IEND"


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (type, whole chunk with length and checksum) for each chunk of a whole PNG."""
    view = memoryview(data)
    for kind, start, end in png_chunks(data):
        yield kind, view[start:end]


def without_texts(data: bytes) -> bytes:
    """Return the same image without prompts, workflows and other notes."""
    return SIGNATURE + b"".join(chunk for kind, chunk in chunks(data) if kind in PIXEL_CHUNKS)


def with_text(data: bytes, keyword: str, text: str) -> bytes:
    """Return the same image with one more text (iTXt, UTF-8) after its header."""
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return data[:HEADER_END] + chunk + data[HEADER_END:]
