"""Image files that are small and hold, or claim, very many pixels, as bombs and upscaled images do."""

import io
import struct
import zlib

from PIL import Image

SIDE = 14_000  #: pixels; 196 megapixels, four times as many as are decoded


def huge_png(side: int = SIDE) -> bytes:
    """Return a whole black-and-white PNG of side x side px; its pixels alternate by row."""
    rows = (b"\0" + bytes(side // 8) + b"\0" + b"\xff" * (side // 8)) * (side // 2)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", _header(side)) + chunk(b"IDAT", zlib.compress(rows)) + _end()


def bare_png(side: int) -> bytes:
    """Return a PNG that claims side x side px in its header and holds none."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", _header(side)) + chunk(b"IDAT", zlib.compress(b"")) + _end()


def huge_webp(width: int, height: int) -> bytes:
    """Return a whole WebP of one colour in 36 bytes: lossless, and each of its codes has one symbol only."""
    size = (width - 1) | (height - 1) << 14
    bits = b"\x2f" + size.to_bytes(4, "little") + bytes.fromhex("0710fd8ffe0722a2ff0100")
    return b"RIFF" + (12 + len(bits)).to_bytes(4, "little") + b"WEBPVP8L" + b"\x0f\0\0\0" + bits


def claiming_jpeg(width: int, height: int) -> bytes:
    """Return a JPEG that claims so many pixels and holds 8x8."""
    data = bytearray(_encoded("JPEG"))
    at = data.index(b"\xff\xc0")  # start of frame: length, precision, height, width
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def claiming_gif(width: int, height: int) -> bytes:
    """Return a GIF that claims so many pixels, on its screen and in its frame, and holds 8x8."""
    data = bytearray(_encoded("GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    at = data.index(b",\0\0\0\0\x08\0\x08\0")
    data[at + 5 : at + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def huge_tiff(width: int, height: int) -> bytes:
    """Return a whole white TIFF in the compression of fax machines."""
    buffer = io.BytesIO()
    Image.new("1", (width, height), 1).save(buffer, "TIFF", compression="group4")
    return buffer.getvalue()


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 128).save(buffer, kind)
    return buffer.getvalue()


def _header(side: int) -> bytes:
    return struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)


def _end() -> bytes:
    return chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
