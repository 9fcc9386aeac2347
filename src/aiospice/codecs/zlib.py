"""GLZ images that were deflated once more; the message tells how long the GLZ stream is.

Deflate makes at most 1032 bytes of one. So memory is bounded by the data, by the size that is
announced, and by what the largest GLZ image can take. Facts: spice-common ``canvas_base.c``
(``canvas_get_zlib_glz_rgb``), spice-gtk ``src/decode-zlib.c``, spice-server ``zlib-encoder.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.codecs.image import MAX_PIXELS
from aiospice.errors import DecodeError

if TYPE_CHECKING:
    from aiospice.codecs.glz import GlzWindow, NeedsImage
    from aiospice.codecs.image import Decoded

    Buffer = bytes | bytearray | memoryview

__all__ = ["MAX_SIZE", "decode", "deflate", "head", "inflate"]

#: Bytes of the longest GLZ stream that is inflated.
MAX_SIZE = 5 * MAX_PIXELS
_EXPANSION = 1032


def inflate(data: Buffer, size: int) -> bytes:
    """Inflate to exactly ``size`` bytes; raises `DecodeError` for anything else."""
    import zlib

    if size > MAX_SIZE or size > _EXPANSION * len(data):
        raise DecodeError(f"{len(data)} bytes can't be inflated to {size}", offset=0)
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise DecodeError(f"not deflated: {error}", offset=0) from None
    if len(inflated) != size or not stream.eof or stream.unused_data:
        raise DecodeError(f"not the {size} bytes that were announced", offset=len(data))
    return inflated


def head(data: Buffer, size: int) -> bytes:
    """The first ``size`` bytes, or as many as can be had of data that may be damaged."""
    import zlib

    try:
        return zlib.decompressobj().decompress(data, size)
    except zlib.error:
        return b""


def decode(data: Buffer, size: int, window: GlzWindow) -> Decoded | NeedsImage:
    """Decode an image whose GLZ stream has ``size`` bytes; see `aiospice.codecs.glz.decode`.

    The offset of a `DecodeError` counts from the start of the GLZ stream once that is inflated.
    """
    from aiospice.codecs import glz

    return glz.decode(inflate(data, size), window)


def deflate(stream: Buffer, level: int = 3) -> bytes:
    """Deflate a GLZ stream, whose size the message needs too; level 0 to 9, upstream's is 3."""
    import zlib

    return zlib.compress(stream, level)
