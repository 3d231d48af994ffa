"""What a file is, by its first bytes; and what little of it is read here rather than by Pillow. Pure."""

import zlib
from collections.abc import Iterator

READ = ("PNG", "JPEG", "WEBP", "GIF")  #: formats whose pixels are decoded
STORED = ("TIFF", "BMP", "AVIF")  #: formats whose header is read: such an image is stored as it is
#: format -> (place, bytes there), any of them. Those that are neither read nor stored are only named in refusals.
SIGNATURES: dict[str, tuple[tuple[int, bytes], ...]] = {
    "PNG": ((0, b"\x89PNG\r\n\x1a\n"),),
    "JPEG": ((0, b"\xff\xd8\xff"),),
    "WEBP": ((8, b"WEBP"),),
    "GIF": ((0, b"GIF87a"), (0, b"GIF89a")),
    "TIFF": ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
    "BMP": ((0, b"BM"),),
    "AVIF": ((4, b"ftypavif"), (4, b"ftypavis")),
    "HEIC": ((4, b"ftyphei"), (4, b"ftyphev"), (4, b"ftypmif1"), (4, b"ftypmsf1")),
    "JPEG XL": ((0, b"\xff\x0a"), (4, b"JXL ")),
    "JPEG 2000": ((4, b"jP  "), (0, b"\xff\x4f\xff\x51")),
    "MP4": ((4, b"ftyp"),),
    "WebM": ((0, b"\x1aE\xdf\xa3"),),
    "EPS": ((0, b"%!PS"), (0, b"\xc5\xd0\xd3\xc6")),
    "PDF": ((0, b"%PDF"),),
    "PSD": ((0, b"8BPS"),),
    "ICO": ((0, b"\0\0\1\0"),),
    "QOI": ((0, b"qoif"),),
    "XPM": ((0, b"/* XPM */"),),
    "PPM": ((0, b"P3"), (0, b"P6")),
    "SVG": ((0, b"<svg"), (0, b"<?xml")),
    "ZIP": ((0, b"PK\3\4"),),
}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: What decides the pixels: all else, texts and profiles of any length among it, never reaches the decoder.
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"})
MAX_CHUNKS = 100_000  #: of a PNG; one of 256 MiB in usual pieces of 8 KiB has 33,000


def format_of(data: bytes) -> str:
    """Return the name of the file's format, as `SIGNATURES` has it; empty if it is none of them."""
    for name, places in SIGNATURES.items():
        if any(data.startswith(mark, at) for at, mark in places):
            return name
    return ""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start, end) of a PNG's chunks, IEND the last; fewer when it is cut short or a length lies."""
    at = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        kind = data[at + 4 : at + 8]
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end


def png_pixels(data: bytes) -> bytes:
    """Return the PNG with nothing but its pixels and, before them, its EXIF.

    Notes with a wrong checksum are left out: they must not cost the image.
    """
    kept, exif_place = bytearray(PNG_SIGNATURE), 0
    for kind, start, end in png_chunks(data):
        is_header = kind == b"IHDR"
        if is_header != (len(kept) == len(PNG_SIGNATURE)):  # it comes first, and once: a second could tell another size
            continue
        if kind == b"eXIf" and exif_place and is_sound(data, start, end):
            kept[exif_place:exif_place] = data[start:end]
            exif_place = 0  # one is enough
        elif kind in PIXEL_CHUNKS and (kind != b"tRNS" or is_sound(data, start, end)):
            kept += memoryview(data)[start:end]
            exif_place = len(kept) if is_header else exif_place
    return bytes(kept)


def png_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels from a PNG's header; None if it has none."""
    kind, start, end = next(png_chunks(data), (b"", 0, 0))
    if kind != b"IHDR" or end - start != 25 or not is_sound(data, start, end):
        return None
    return int.from_bytes(data[start + 8 : start + 12], "big"), int.from_bytes(data[start + 12 : start + 16], "big")


def png_notes(data: bytes) -> bytes:
    """Return the PNG without its pixels."""
    kept = (memoryview(data)[start:end] for kind, start, end in png_chunks(data) if kind != b"IDAT")
    return PNG_SIGNATURE + b"".join(kept)


def is_sound(data: bytes, start: int, end: int) -> bool:
    """Return True for a chunk of a PNG whose checksum is right."""
    return zlib.crc32(memoryview(data)[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height in pixels from a WebP's header; None if it has none.

    Pillow's decoder makes two canvases of that size before it tells it.
    Source: WebP container specification; RFC 6386, section 9.1; WebP lossless bitstream, section 3.
    """
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None
