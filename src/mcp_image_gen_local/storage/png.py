"""PNG chunks: add and strip texts without touching the pixels. Pure.

Source: PNG specification (third edition), sections 5.3 and 11.3.3.
"""

import zlib
from collections.abc import Iterator

from mcp_image_gen_local.imaging.formats import PNG_SIGNATURE as SIGNATURE
from mcp_image_gen_local.imaging.formats import is_sound, png_chunks

#: The chunks that decide how the image looks; all others are notes.
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"iCCP", b"cHRM"})
MAX_PROFILE = 2**20  #: bytes; Pillow, which others use as well, refuses an image with a longer one
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
    """Return the same image without prompts, workflows and other notes, and without a profile that others refuse."""
    view, found = memoryview(data), png_chunks(data)
    return SIGNATURE + b"".join(view[start:end] for kind, start, end in found if _is_kept(data, kind, start, end))


def _is_kept(data: bytes, kind: bytes, start: int, end: int) -> bool:
    if kind not in PIXEL_CHUNKS or (kind == b"IHDR" and start != len(SIGNATURE)):  # a second could tell another size
        return False
    return kind != b"iCCP" or (is_sound(data, start, end) and _is_usual_profile(data[start + 8 : end - 4]))


def _is_usual_profile(body: bytes) -> bool:
    """Return True for the body of an iCCP chunk that unpacks to at most `MAX_PROFILE` bytes."""
    packed = body.partition(b"\0")[2][1:]
    try:
        return len(zlib.decompressobj().decompress(packed, MAX_PROFILE + 1)) <= MAX_PROFILE
    except zlib.error:
        return False


def with_text(data: bytes, keyword: str, text: str) -> bytes:
    """Return the same image with one more text (iTXt, UTF-8) after its header."""
    body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return data[:HEADER_END] + chunk + data[HEADER_END:]
