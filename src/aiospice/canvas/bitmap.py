"""Uncompressed images: every bitmap format, in either row order and with any stride.

Facts: spice-common ``common/pixman_utils.c``. The colours of a palette are in the format of the
surface that is drawn on, 16 bit ones in the low half; a missing entry counts as 0 here.
"""

from __future__ import annotations

from aiospice.canvas.pixels import (
    A1,
    A8,
    ARGB,
    BYTES,
    MAX_PIXELS,
    RGB555,
    XRGB,
    Pixels,
    check_size,
    join16,
)
from aiospice.errors import RemoteProtocolError

__all__ = ["BITS", "INDEXED", "bitmap_pixels", "colours", "indices"]

# ``SPICE_BITMAP_FMT_*``.
_1BIT_LE, _1BIT_BE, _4BIT_LE, _4BIT_BE, _8BIT, _16BIT, _24BIT, _32BIT, _RGBA, _8BIT_A = range(1, 11)

#: Bits a pixel of each bitmap format.
BITS = {
    _1BIT_LE: 1,
    _1BIT_BE: 1,
    _4BIT_LE: 4,
    _4BIT_BE: 4,
    _8BIT: 8,
    _16BIT: 16,
    _24BIT: 24,
    _32BIT: 32,
    _RGBA: 32,
    _8BIT_A: 8,
}
#: Formats whose pixels are places in a palette.
INDEXED = frozenset((_1BIT_LE, _1BIT_BE, _4BIT_LE, _4BIT_BE, _8BIT))
_DIRECT = {_16BIT: RGB555, _32BIT: XRGB, _RGBA: ARGB, _8BIT_A: A8}

# A bit as a byte of a mask.
_MASK = bytes(255 * (v & 1) for v in range(256))


def bitmap_pixels(
    format: int,
    width: int,
    height: int,
    stride: int,
    data: bytes | bytearray | memoryview,
    *,
    top_down: bool,
    palette: tuple[int, ...] | None = None,
    target: int = XRGB,
) -> Pixels:
    """Turn a bitmap into pixels; a format without palette and with whole bytes isn't copied.

    ``format`` is a number of ``SPICE_BITMAP_FMT_*``; ``stride`` bytes a row, of which ``data``
    has ``height``; ``palette`` u32 colours; ``target`` the format of the surface drawn on, which
    decides what those colours mean (A1: a bitmap of 1 bit becomes a mask). Raises
    `RemoteProtocolError` for sizes that are too large, rows longer than their stride, too little
    data, or a palette that is needed and missing; allocates at most 4 bytes a pixel and twice
    that while it works.
    """
    bits = BITS.get(format)
    if bits is None:
        raise RemoteProtocolError(f"{format} is not a bitmap format")
    check_size(width, height, "an image")
    size = (width * bits + 7) // 8
    if size > stride:
        raise RemoteProtocolError(f"a row of {width} pixels takes {size} bytes, not {stride}")
    if stride * height > len(data):
        raise RemoteProtocolError(f"{stride * height} bytes of pixels, but {len(data)} are there")
    direct = _DIRECT.get(format)
    offset, step = (0, stride) if top_down else ((height - 1) * stride, -stride)
    if direct is not None:
        return Pixels(width, height, direct, data, offset, step)
    rows = _rows(data, offset, step, size, height)
    if target == A1 and bits == 1:
        return Pixels(width, height, A1, indices(format, rows, width, size).translate(_MASK))
    if format == _24BIT:
        return Pixels(width, height, XRGB, _from24(rows))
    if palette is None:
        raise RemoteProtocolError("an image of indices into a palette, and no palette")
    format_out = target if target in (ARGB, RGB555) else XRGB
    places = indices(format, rows, width, size)
    return Pixels(width, height, format_out, colours(places, palette, format_out))


def _rows(
    data: bytes | bytearray | memoryview, offset: int, step: int, size: int, height: int
) -> bytes:
    """The first ``size`` bytes of every row, one behind the other."""
    if offset == 0 and step == size:
        return bytes(data[: size * height])
    view = memoryview(data)
    return b"".join([view[at : at + size] for at in range(offset, offset + step * height, step)])


def _from24(rows: bytes) -> bytes:
    wide = bytearray(len(rows) // 3 * 4)
    wide[0::4] = rows[0::3]
    wide[1::4] = rows[1::3]
    wide[2::4] = rows[2::3]
    return bytes(wide)


def indices(format: int, rows: bytes, width: int, size: int) -> bytes:
    """Unpack rows of ``size`` bytes into one byte a pixel, ``width`` a row."""
    bits = BITS[format]
    if bits == 8:
        return rows
    count = 8 // bits
    if len(rows) * count > MAX_PIXELS + (MAX_PIXELS >> 2):  # rows are whole bytes: a little more
        raise RemoteProtocolError(f"rows of {size} bytes for {width} pixels")
    unpacked = bytearray(len(rows) * count)
    mask = (1 << bits) - 1
    low_first = format in (_1BIT_LE, _4BIT_LE)
    for place in range(count):
        shift = bits * (place if low_first else count - 1 - place)
        unpacked[place::count] = rows.translate(bytes((v >> shift) & mask for v in range(256)))
    if size * count == width:
        return bytes(unpacked)
    view = memoryview(unpacked)
    step = size * count
    return b"".join([view[at : at + width] for at in range(0, len(unpacked), step)])


def colours(places: bytes, palette: tuple[int, ...], format: int) -> bytes:
    """Look every byte of ``places`` up in a palette of u32 colours of that format."""
    entries = palette[:256] + (0,) * (256 - len(palette))
    planes = [bytes((v >> shift) & 255 for v in entries) for shift in (0, 8, 16, 24)]
    if BYTES[format] == 2:
        return join16(places.translate(planes[0]), places.translate(planes[1]))
    wide = bytearray(4 * len(places))
    for place, plane in enumerate(planes):
        wide[place::4] = places.translate(plane)
    return bytes(wide)
