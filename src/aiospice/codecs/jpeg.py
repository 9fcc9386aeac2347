"""JPEG images, and JPEG images whose alpha follows as LZ.

The library, simplejpeg (libjpeg-turbo), and NumPy are loaded when the first such image comes.
Facts: spice-common ``canvas_base.c`` (``canvas_get_jpeg``, ``canvas_get_jpeg_alpha``), spice-gtk
``src/decode-jpeg.c``, spice-server ``image-encoders.cpp``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.codecs.image import ARGB, XRGB, Decoded, check_size
from aiospice.errors import DecodeError, MissingProgram

if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

__all__ = ["decode", "decode_alpha", "encode", "encode_alpha"]


def _library() -> Any:
    try:
        import simplejpeg
    except ImportError:
        raise MissingProgram(
            "JPEG images need the package simplejpeg (pip install simplejpeg)"
        ) from None
    return simplejpeg


def decode(data: Buffer, width: int, height: int) -> Decoded:
    """Decode to `XRGB`, the fourth byte 0; the size must be that of the descriptor.

    Raises `DecodeError` for anything else, and `MissingProgram` where simplejpeg isn't installed.
    """
    return Decoded(width, height, XRGB, _pixels(data, width, height, 1), 0, 4 * width)


def _pixels(data: Buffer, width: int, height: int, step: int) -> bytearray:
    """The rows of B G R 0, from the top (``step`` 1) or from the bottom (-1)."""
    library = _library()
    check_size(width, height, 0)
    source = bytes(data)
    try:
        found = library.decode_jpeg_header(source)[:2]
    except ValueError as error:
        raise DecodeError(f"not a JPEG image: {error}", offset=0) from None
    if found != (height, width):
        raise DecodeError(
            f"a JPEG image of {found[1]}x{found[0]} pixels, not {width}x{height}", offset=0
        )
    try:
        rows = library.decode_jpeg(source, "BGRX", fastdct=False, fastupsample=False)
    except ValueError as error:
        raise DecodeError(f"a damaged JPEG image: {error}", offset=0) from None
    rows[:, :, 3] = 0
    return bytearray(rows[::step].tobytes())


def decode_alpha(
    data: Buffer, jpeg_size: int, width: int, height: int, *, top_down: bool
) -> Decoded:
    """Decode to `ARGB`: ``jpeg_size`` bytes of JPEG, then LZ of type XXXA.

    ``top_down`` is the flag of the message, which tells the order of the rows of alpha (JPEG has
    the top row first always). Raises as `decode`; an offset counts from the start of ``data`` for
    the JPEG part, from the end of that for the alpha part.
    """
    from aiospice.codecs import lz

    view = memoryview(data).cast("B")
    if not 0 < jpeg_size < len(view):
        raise DecodeError(f"{jpeg_size} bytes of JPEG, of {len(view)}", offset=0)
    out = _pixels(view[:jpeg_size], width, height, 1 if top_down else -1)
    if lz.decode_alpha(view[jpeg_size:], out, width, height) != top_down:
        raise DecodeError("alpha whose order of rows isn't the message's", offset=24)
    stride = 4 * width
    if top_down:
        return Decoded(width, height, ARGB, out, 0, stride)
    return Decoded(width, height, ARGB, out, stride * (height - 1), -stride)


def encode(
    pixels: Buffer, width: int, height: int, quality: int = 85, *, subsampling: str = "444"
) -> bytes:
    """Encode rows of B G R and a fourth byte, top row first, nothing between; quality 1 to 100.

    ``subsampling``: of colours, ``444`` (none) or ``420`` (half of them each way).

    Raises `ValueError` for a size that doesn't fit, `MissingProgram` where simplejpeg isn't
    installed.
    """
    library = _library()
    import numpy as np

    rows = np.frombuffer(pixels, np.uint8)
    if width < 1 or height < 1 or rows.size != 4 * width * height:
        raise ValueError(f"{rows.size} bytes for {width}x{height} pixels")
    shaped = rows.reshape(height, width, 4)
    jpeg: bytes = library.encode_jpeg(
        shaped, quality=quality, colorspace="BGRX", colorsubsampling=subsampling
    )
    return jpeg


def encode_alpha(pixels: Buffer, width: int, height: int, quality: int = 85) -> tuple[bytes, int]:
    """Encode rows of B G R A as JPEG and LZ, top row first; gives the data and the JPEG's size."""
    from aiospice.codecs import lz

    jpeg = encode(pixels, width, height, quality)
    return jpeg + lz.encode(pixels, width, height, lz.XXXA), len(jpeg)
