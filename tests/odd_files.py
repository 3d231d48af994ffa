"""Files that may be named as an image, or come from an engine, and are not what one expects; made on the spot."""

import io
import struct
import zlib
from functools import lru_cache
from typing import Any

from PIL import Image

from tests.huge_images import bare_png, chunk, claiming_gif, claiming_jpeg, huge_png, huge_webp

SIGNATURE = b"\x89PNG\r\n\x1a\n"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n%%EOF\n"


def picture(mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    """Return a small image with some shades in it."""
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").resize(size)
    (image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def with_chunks(*chunks: bytes, data: bytes | None = None) -> bytes:
    """Return a PNG with the chunks after its header."""
    data = data or picture()
    return data[:33] + b"".join(chunks) + data[33:]


def long_text(kind: bytes = b"zTXt", size: int = 3_000_000) -> bytes:
    """Return a PNG with a text that is short as it lies there and long when it is unpacked."""
    packed = zlib.compress(b"x" * size)
    head = b"workflow\0\0" if kind == b"zTXt" else b"workflow\0\1\0\0\0"
    return with_chunks(chunk(kind, head + packed))


def wrong_checksum(kind: bytes, body: bytes) -> bytes:
    """Return a chunk whose checksum is wrong."""
    return chunk(kind, body)[:-4] + b"\0\0\0\0"


def animated(kind: str) -> bytes:
    """Return an animation of two frames."""
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def lying_length() -> bytes:
    """Return a PNG whose first pixel chunk claims more bytes than there are."""
    data = bytearray(picture())
    at = data.index(b"IDAT")
    data[at - 4 : at] = struct.pack(">I", 2**31 - 1)
    return bytes(data)


@lru_cache(maxsize=1)
def odd_files() -> dict[str, tuple[bytes, bool]]:
    """Return name -> (file, whether it is an image that is read)."""
    png, jpeg, webp, gif = (picture(kind=kind) for kind in ("PNG", "JPEG", "WEBP", "GIF"))
    read = {
        "16 bit grey": picture("I;16"),
        "palette": picture("P"),
        "one bit": picture("1"),
        "grey with alpha": picture("LA"),
        "alpha": picture("RGBA"),
        "CMYK JPEG": picture("CMYK", "JPEG"),
        "grey JPEG": picture("L", "JPEG"),
        "progressive JPEG": picture(kind="JPEG", progressive=True),
        "WebP": webp,
        "GIF": gif,
        "animated PNG": animated("PNG"),
        "animated GIF": animated("GIF"),
        "animated WebP": animated("WEBP"),
        "MPO": animated("MPO"),
        "PNG with a tail": png + b"something else" * 100,
        "PNG with a ZIP behind it": png + b"PK\3\4" + bytes(2000),
        "JPEG with a tail": jpeg + bytes(1000),
        "long zTXt": long_text(),
        "long iTXt": long_text(b"iTXt"),
        "many long texts": with_chunks(*[chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 900_000))] * 90),
        "large profile": with_chunks(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(3_000_000)))),
        "profile that is none": with_chunks(chunk(b"iCCP", b"icc\0\0not packed")),
        "text that is not packed": with_chunks(chunk(b"zTXt", b"k\0\0not packed")),
        "text with a wrong checksum": with_chunks(wrong_checksum(b"tEXt", b"k\0v")),
        "EXIF with a wrong checksum": with_chunks(wrong_checksum(b"eXIf", b"MM\0*")),
        "EXIF that is none": with_chunks(chunk(b"eXIf", b"x" * 5000)),
        "short physical size": with_chunks(chunk(b"pHYs", b"1")),
        "JPEG named PNG": jpeg,
        "two sizes": with_chunks(bare_png(60_000)[8:33]),
    }
    refused = {
        "empty": b"",
        "text": b"no image",
        "signature alone": SIGNATURE,
        "cut PNG": png[: len(png) // 2],
        "cut JPEG": jpeg[: len(jpeg) // 3],
        "cut WebP": webp[: len(webp) // 2],
        "cut GIF": gif[: len(gif) // 2],
        "length that lies": lying_length(),
        "no pixels": bare_png(64),
        "no size": bare_png(0),
        "no header": SIGNATURE + png[33:],
        "wrong header checksum": png[:29] + b"\0\0\0\0" + png[33:],
        "EPS": EPS,
        "PDF": b"%PDF-1.4\n%%EOF",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "XPM": b'/* XPM */ static char *x[] = {"1 1 1 1", "a c red", "a"};',
        "QOI": b"qoif" + struct.pack(">II", 1, 1) + b"\3\0" + bytes(20),
        "PPM": b"P6 99999 99999 255\n",
        "TIFF": picture(kind="TIFF"),
        "BMP": picture(kind="BMP"),
        "ICO": picture(kind="ICO"),
        "AVIF": picture(kind="AVIF"),
        "HTML": b"<!DOCTYPE html><html></html>",
        "PNG bomb": huge_png(),
        "PNG claim": bare_png(2**31 - 1),
        "JPEG claim": claiming_jpeg(16_000, 11_000),
        "JPEG that claims the most": claiming_jpeg(65_535, 65_535),
        "GIF claim": claiming_gif(65_535, 65_535),
        "WebP bomb": huge_webp(16_383, 10_900),
        "very many chunks": with_chunks(chunk(b"tEXt", b"") * 200_000),
    }
    return {name: (data, True) for name, data in read.items()} | {name: (data, False) for name, data in refused.items()}
