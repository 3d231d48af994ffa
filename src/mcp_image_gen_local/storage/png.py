"""PNG chunks: add and strip texts without touching the pixels. Pure.

Source: PNG specification (third edition), sections 5.3 and 11.3.3.
"""

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: The chunks that decide how the image looks; all others are notes.
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"iCCP", b"cHRM"})
HEADER_END = len(SIGNATURE) + 25  # IHDR is always the first chunk and always 25 bytes long


def is_png(data: bytes) -> bool:
    """Return True for a whole PNG file: it begins and ends as one."""
    return data.startswith(SIGNATURE) and data.endswith(b"IEND\xaeB`\x82")


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (type, whole chunk with length and checksum) for each chunk of a whole PNG."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        yield bytes(view[at + 4 : at + 8]), view[at:end]
        at = end


def without_texts(data: bytes) -> bytes:
    """Return the same image without prompts, workflows and other notes."""
    return SIGNATURE + b"".join(chunk for kind, chunk in chunks(data) if kind in PIXEL_CHUNKS)


def with_text(data: bytes, keyword: str, text: str) -> bytes:
    """Return the same image with one more text (iTXt, UTF-8) after its header."""
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return data[:HEADER_END] + chunk + data[HEADER_END:]
