"""Images drawn larger or smaller than they are.

The arithmetic is pixman's, to the bit: steps of 16.16 fixed point between the centres of pixels,
weights of 7 bits between neighbours, nothing (0) beyond the edges of the image. Facts:
``__scale_image`` in spice-common ``common/sw_canvas.c``; pixman ``pixman-inlines.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.canvas.pixels import BYTES, XRGB, Pixels
from aiospice.errors import RemoteProtocolError

if TYPE_CHECKING:
    from aiospice.canvas.region import Box

__all__ = ["scaled"]

_ONE, _HALF = 1 << 16, 1 << 15
#: Pixels that are interpolated at a time; each takes about 100 bytes meanwhile.
_STRIP = 1 << 15


def scaled(image: Pixels, area: Box, box: Box, part: Box, *, smooth: bool) -> Pixels:
    """The pixels of ``part`` when ``area`` of the image fills ``box``.

    ``part`` lies inside of ``box`` (both are boxes of the surface) and is as large as the result,
    whose format is the image's. ``smooth`` interpolates, else the nearest pixel is taken. Raises
    `RemoteProtocolError` for an area or box that is turned or empty.
    """
    wide, high = area[2] - area[0], area[3] - area[1]
    if min(wide, high, box[2] - box[0], box[3] - box[1]) <= 0:
        raise RemoteProtocolError(f"an image's part {area} that is to fill {box}")
    columns = _places(area[0], wide, box[2] - box[0], part[0] - box[0], part[2] - box[0])
    rows = _places(area[1], high, box[3] - box[1], part[1] - box[1], part[3] - box[1])
    if not smooth:
        return _nearest(image, columns, rows)
    if BYTES[image.format] == 2:
        return _smooth(image.converted(XRGB), columns, rows).converted(image.format)
    return _smooth(image, columns, rows)


def _places(start: int, size: int, target: int, first: int, last: int) -> list[int]:
    """Where the centres of pixels ``first`` to ``last`` lie in the image, in 16.16."""
    step = size * _ONE // target
    begin = (start << 16) + ((step * _HALF + _HALF) >> 16)
    return [begin + place * step for place in range(first, last)]


def _nearest(image: Pixels, columns: list[int], rows: list[int]) -> Pixels:
    size = BYTES[image.format]
    width, height = image.width, image.height
    nothing = bytes(size)
    places = [place if 0 <= place < width else width for place in _whole(columns)]
    made: dict[int, bytes] = {}
    lines = []
    for y in _whole(rows):
        line = made.get(y)
        if line is None:
            made.clear()  # rows come in order: only the last can come again
            if 0 <= y < height:
                row = image.rows(y, y + 1) + nothing
                pixels = [row[at : at + size] for at in range(0, len(row), size)]
                line = b"".join([pixels[place] for place in places])
            else:
                line = nothing * len(columns)
            made[y] = line
        lines.append(line)
    return Pixels(len(columns), len(rows), image.format, b"".join(lines))


def _whole(places: list[int]) -> list[int]:
    return [(place - 1) >> 16 for place in places]


def _smooth(image: Pixels, columns: list[int], rows: list[int]) -> Pixels:
    import numpy as np

    size = BYTES[image.format]
    at_x = np.array(columns, np.int64) - _HALF
    at_y = np.array(rows, np.int64) - _HALF
    left, right = _neighbours(np, at_x, image.width)
    part_x = ((at_x >> 9) & 127)[None, :, None].astype(np.uint32) << 1
    data = np.frombuffer(image.tight(), np.uint8).reshape(image.height, image.width, size)
    lines = bytearray(len(columns) * len(rows) * size)
    out = np.frombuffer(lines, np.uint8).reshape(len(rows), len(columns), size)
    strip = max(1, _STRIP // len(columns))
    for first in range(0, len(rows), strip):
        some = at_y[first : first + strip]
        top, bottom = _neighbours(np, some, image.height)
        part_y = ((some >> 9) & 127)[:, None, None].astype(np.uint32) << 1
        both = part_x * part_y
        total = _picked(np, data, top, left) * (65536 - (part_y << 8) - (part_x << 8) + both)
        total += _picked(np, data, top, right) * ((part_x << 8) - both)
        total += _picked(np, data, bottom, left) * ((part_y << 8) - both)
        total += _picked(np, data, bottom, right) * both
        out[first : first + strip] = (total >> 16).astype(np.uint8)
    return Pixels(len(columns), len(rows), image.format, lines)


def _neighbours(np: Any, places: Any, size: int) -> tuple[Any, Any]:
    """The pixel at or before each place and the one after it; -1 for those that don't exist."""
    one = places >> 16
    other = one + 1
    return np.where(one < size, np.maximum(one, -1), -1), np.where(
        (other < size) & (other >= 0), other, -1
    )


def _picked(np: Any, data: Any, rows: Any, columns: Any) -> Any:
    """Pixels by row and column as uint32, 0 where either is -1."""
    pixels = data[np.maximum(rows, 0)][:, np.maximum(columns, 0)].astype(np.uint32)
    pixels[rows < 0] = 0
    pixels[:, columns < 0] = 0
    return pixels
