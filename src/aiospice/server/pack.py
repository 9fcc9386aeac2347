# cython: language_level=3, annotation_typing=False
"""Bodies of the draws that a server sends most, put together without the declarations.

What is declared in `aiospice.wire` takes an object of Python a structure; a server that sends
thousands of small draws a second has no time for that. Tests hold the two ways equal.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from aiospice.wire.images import BitmapFlags, BitmapFormat, ImageType
from aiospice.wire.shapes import ClipType

if TYPE_CHECKING:
    from aiospice.server.region import Box

__all__ = ["copy_bits", "draw_cached", "draw_copy", "draw_fill", "draw_surface"]

_PUT = 8
_NONE = int(ClipType.NONE)
_BITMAP_TYPE, _ZLIB_TYPE = int(ImageType.BITMAP), int(ImageType.ZLIB_GLZ_RGB)
_CACHED, _SURFACE = int(ImageType.FROM_CACHE), int(ImageType.SURFACE)
_BIT32, _RGBA, _TOP_DOWN = (
    int(BitmapFormat.BIT32),
    int(BitmapFormat.RGBA),
    int(BitmapFlags.TOP_DOWN),
)
#: Surface, box (top, left, bottom, right) and clip of every draw.
_BASE = "I4iB"
_COPY_BITS = Struct("<" + _BASE + "2i")
#: Brush (solid), operation and mask.
_FILL = Struct("<" + _BASE + "BIHB2iI")
#: Where the image is, its area, operation, scale mode and mask; then the image's descriptor.
_COPY = Struct("<" + _BASE + "I4iHBB2iI" + "QBBII")
_IMAGE_AT = _COPY.size - Struct("<QBBII").size
_U32 = Struct("<I")
_ZLIB = Struct("<II")
#: Format, flags, width, height, stride and palette (none).
_BITMAP = Struct("<BBIIII")


def copy_bits(surface: int, box: Box, x: int, y: int) -> bytes:
    """The body of a `CopyBits` from ``x``, ``y`` to the box."""
    left, top, right, bottom = box
    return _COPY_BITS.pack(surface, top, left, bottom, right, _NONE, x, y)


def draw_fill(surface: int, box: Box, colour: int) -> bytes:
    """The body of a `DrawFill` with a colour."""
    left, top, right, bottom = box
    return _FILL.pack(surface, top, left, bottom, right, _NONE, 1, colour, _PUT, 0, 0, 0, 0)


def _head(
    surface: int, box: Box, x: int, y: int, id: int, type: int, flags: int, size: tuple[int, int]
) -> bytes:
    left, top, right, bottom = box
    return _COPY.pack(
        surface, top, left, bottom, right, _NONE, _IMAGE_AT, y, x, y + bottom - top,
        x + right - left, _PUT, 0, 0, 0, 0, 0, id, type, flags, size[0], size[1],
    )  # fmt: skip


def draw_copy(
    surface: int,
    box: Box,
    id: int,
    type: int,
    flags: int,
    data: bytes | bytearray,
    *,
    alpha: bool = False,
    inflated: int = 0,
) -> bytes:
    """The body of a `DrawCopy` of an image that fills the box, but for ``data``, its end.

    ``data`` is what the image's type says: for BITMAP rows of four bytes a pixel (``alpha``: the
    fourth counts), for ZLIB_GLZ_RGB the deflated stream of ``inflated`` bytes.
    """  # fmt: skip
    width, height = box[2] - box[0], box[3] - box[1]
    head = _head(surface, box, 0, 0, id, type, flags, (width, height))
    if type == _BITMAP_TYPE:
        format = _RGBA if alpha else _BIT32
        return head + _BITMAP.pack(format, _TOP_DOWN, width, height, 4 * width, 0)
    if type == _ZLIB_TYPE:
        return head + _ZLIB.pack(inflated, len(data))
    return head + _U32.pack(len(data))


def draw_cached(surface: int, box: Box, id: int) -> bytes:
    """The body of a `DrawCopy` of an image that the client keeps and that fills the box."""
    size = (box[2] - box[0], box[3] - box[1])
    return _head(surface, box, 0, 0, id, _CACHED, 0, size)


def draw_surface(
    surface: int, box: Box, source: int, x: int, y: int, size: tuple[int, int]
) -> bytes:
    """The body of a `DrawCopy` from ``x``, ``y`` of another surface, which has that size."""
    return _head(surface, box, x, y, source, _SURFACE, 0, size) + _U32.pack(source)
