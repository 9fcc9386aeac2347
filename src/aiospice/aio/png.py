"""Writes pictures with the standard library alone: PNG and PPM from rows of RGB.

For one screenshot: NumPy or Pillow would take longer to load than this takes to write. Rows are
filtered with the cheapest of three filters, chosen for each strip of rows by compressing a few of
them; differences of all bytes at once are those of two long integers.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from aiospice.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Buffer = bytes | bytearray | memoryview

__all__ = ["bgrx_to_rgb", "png", "ppm"]

_NONE, _SUB, _UP = 0, 1, 2
#: Rows that are filtered together, and how many of them are tried.
_STRIP, _TRIED = 64, 4
_PIXEL = 3
_SIDE_LIMIT = (1 << 31) - 1


def bgrx_to_rgb(pixels: Buffer, width: int, height: int, stride: int = 0) -> bytearray:
    """Turn rows of 4-byte pixels (blue, green, red, unused) into rows of 3-byte RGB.

    ``stride`` is the distance of rows in bytes, 0: ``4 * width``. `LocalError` when ``pixels``
    has fewer bytes than that.
    """
    stride = stride or 4 * width
    if width < 0 or height < 0 or stride < 4 * width:
        raise LocalError(f"no picture of {width} x {height} with {stride} bytes a row")
    if height and len(pixels) < stride * (height - 1) + 4 * width:
        raise LocalError(f"{len(pixels)} bytes aren't {height} rows of {stride}")
    if stride != 4 * width:
        view = memoryview(pixels)
        pixels = b"".join(view[y * stride : y * stride + 4 * width] for y in range(height))
    size = 4 * width * height
    rgb = bytearray(3 * width * height)
    rgb[0::3] = pixels[2:size:4]
    rgb[1::3] = pixels[1:size:4]
    rgb[2::3] = pixels[0:size:4]
    return rgb


def png(width: int, height: int, rgb: Buffer, *, level: int = 1) -> bytes:
    """Return a PNG file (8 bits, RGB) of ``3 * width * height`` bytes of pixels.

    ``level`` is zlib's, 0 to 9; above 1 it is slower than most screens are worth.
    """
    _check(width, height, rgb)
    compressor = zlib.compressobj(level, zlib.DEFLATED, 15, 9)
    parts = [compressor.compress(strip) for strip in _strips(width, height, memoryview(rgb))]
    data = b"".join([*parts, compressor.flush()])
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", head),
            *(_chunk(b"IDAT", data[at : at + (1 << 30)]) for at in range(0, len(data), 1 << 30)),
            _chunk(b"IEND", b""),
        )
    )


def ppm(width: int, height: int, rgb: Buffer) -> bytes:
    """Return a binary PPM file (P6) of ``3 * width * height`` bytes of pixels."""
    _check(width, height, rgb)
    return b"P6\n%d %d\n255\n" % (width, height) + bytes(rgb)


def _check(width: int, height: int, rgb: Buffer) -> None:
    if not (0 < width <= _SIDE_LIMIT and 0 < height <= _SIDE_LIMIT):
        raise LocalError(f"a picture of {width} x {height} can't be written")
    if len(rgb) != _PIXEL * width * height:
        raise LocalError(f"{len(rgb)} bytes aren't {width} x {height} pixels of {_PIXEL} bytes")


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(kind))
    return len(data).to_bytes(4, "big") + kind + data + check.to_bytes(4, "big")


def _strips(width: int, height: int, rgb: memoryview) -> Iterator[bytes]:
    """Yield the filtered rows, each behind the number of its filter."""
    row = _PIXEL * width
    above = bytes(row + 1)
    for top in range(0, height, _STRIP):
        count = min(_STRIP, height - top)
        plain = bytearray((row + 1) * count)
        for y in range(count):
            start = (top + y) * row
            plain[y * (row + 1) + 1 : (y + 1) * (row + 1)] = rgb[start : start + row]
        yield _filter(_choose(plain, above, row), plain, above, row)
        above = bytes(plain[-row - 1 :])


def _choose(plain: bytearray, above: bytes, row: int) -> int:
    """Find the filter that makes the middle rows of a strip smallest; none, if as good."""
    count = len(plain) // (row + 1)
    first = max(0, (count - _TRIED) // 2)
    if first:
        above = bytes(plain[(first - 1) * (row + 1) : first * (row + 1)])
    some = plain[first * (row + 1) : (first + _TRIED) * (row + 1)]
    sizes = [len(zlib.compress(_filter(kind, some, above, row), 1)) for kind in (_NONE, _SUB, _UP)]
    return sizes.index(min(sizes))


def _filter(kind: int, plain: bytearray, above: bytes, row: int) -> bytes:
    """Apply a filter (PNG specification, section 9) to rows that each begin with a spare byte."""
    if kind == _NONE:
        return bytes(plain)
    if kind == _UP:
        before = bytearray(above + plain)[: len(plain)]
    else:
        before = bytearray(_PIXEL) + plain[:-_PIXEL]
        for column in range(min(_PIXEL + 1, row + 1)):
            before[column :: row + 1] = bytes(len(plain) // (row + 1))
    filtered = _subtract(plain, before)
    filtered[:: row + 1] = bytes((kind,)) * (len(plain) // (row + 1))
    return bytes(filtered)


def _subtract(minuends: Buffer, subtrahends: Buffer) -> bytearray:
    """Subtract byte by byte, modulo 256, without a loop: the top bits are kept out of borrows."""
    size = len(minuends)
    x, y = int.from_bytes(minuends, "little"), int.from_bytes(subtrahends, "little")
    high = int.from_bytes(b"\x80" * size, "little")
    difference = ((x | high) - (y & ~high)) ^ ((x ^ ~y) & high)
    return bytearray(difference.to_bytes(size, "little"))
