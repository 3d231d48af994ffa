"""PNG files that are small and hold very many pixels, as bombs and upscaled images do."""

import struct
import zlib

SIDE = 14_000  #: pixels; 196 megapixels, four times as many as are decoded


def huge_png(side: int = SIDE) -> bytes:
    """Return a whole black-and-white PNG of side x side px; its pixels alternate by row."""
    rows = (b"\0" + bytes(side // 8) + b"\0" + b"\xff" * (side // 8)) * (side // 2)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", _header(side)) + _chunk(b"IDAT", zlib.compress(rows)) + _end()


def bare_png(side: int) -> bytes:
    """Return a PNG that claims side x side px in its header and holds none."""
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", _header(side)) + _chunk(b"IDAT", zlib.compress(b"")) + _end()


def _header(side: int) -> bytes:
    return struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)


def _end() -> bytes:
    return _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
