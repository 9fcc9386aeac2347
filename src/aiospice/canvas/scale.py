"""Images drawn larger or smaller than they are.

The arithmetic is pixman's, to the bit: steps of 16.16 fixed point between the centres of pixels,
weights of 7 bits between neighbours, nothing (0) beyond the edges of the image. Facts:
``__scale_image`` in spice-common ``common/sw_canvas.c``; pixman ``pixman-inlines.h``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas import kernel
from aiospice.canvas.pixels import BYTES, XRGB, Pixels
from aiospice.errors import RemoteProtocolError

if TYPE_CHECKING:
    from aiospice.canvas.region import Box

__all__ = ["scaled", "scaled_alike"]

_ONE, _HALF = 1 << 16, 1 << 15

#: Where the first pixel's centre lies in the image, and how far it is to the next, in 16.16.
_Steps = tuple[int, int]


def scaled(image: Pixels, area: Box, box: Box, part: Box, *, smooth: bool) -> Pixels:
    """The pixels of ``part`` when ``area`` of the image fills ``box``.

    ``part`` lies inside of ``box`` (both are boxes of the surface) and is as large as the result,
    whose format is the image's. An area whose sides are turned gives a mirrored picture.
    ``smooth`` interpolates, else the nearest pixel is taken. Raises `RemoteProtocolError` for a
    box that is turned or empty.
    """
    if box[0] >= box[2] or box[1] >= box[3]:
        raise RemoteProtocolError(f"an image's part {area} that is to fill {box}")
    columns = _steps(area[0], area[2] - area[0], box[2] - box[0], part[0] - box[0])
    rows = _steps(area[1], area[3] - area[1], box[3] - box[1], part[1] - box[1])
    return _picked(image, columns, rows, part, smooth)


def scaled_alike(image: Pixels, area: Box, box: Box, part: Box, *, smooth: bool) -> Pixels:
    """The same, with the rounding that ROP3 has (``canvas_scale_surface``)."""
    if box[0] >= box[2] or box[1] >= box[3]:
        raise RemoteProtocolError(f"an image's part {area} that is to fill {box}")
    columns = _rounded(area[0], area[2] - area[0], box[2] - box[0], part[0] - box[0])
    rows = _rounded(area[1], area[3] - area[1], box[3] - box[1], part[1] - box[1])
    return _picked(image, columns, rows, part, smooth)


def _steps(start: int, size: int, target: int, first: int) -> _Steps:
    step = abs(size) * _ONE // target * (1 if size >= 0 else -1)
    begin = (start << 16) + ((step * _HALF + _HALF) >> 16)
    return begin + first * step, step


def _rounded(start: int, size: int, target: int, first: int) -> _Steps:
    """The start is rounded to a pixel of the result."""
    if size == 0:
        raise RemoteProtocolError("an image's part without any width or height")
    factor = size / target
    step = int(factor * 65536)
    skipped = (start / factor + 0.5) // 1
    begin = ((2 * int(skipped) + 1) * step * _HALF + _HALF) >> 16
    return begin + first * step, step


def _picked(image: Pixels, columns: _Steps, rows: _Steps, part: Box, smooth: bool) -> Pixels:
    width, height = part[2] - part[0], part[3] - part[1]
    if not smooth:
        return _nearest(image, columns, rows, width, height)
    if BYTES[image.format] == 2:
        return _smooth(image.converted(XRGB), columns, rows, width, height).converted(image.format)
    return _smooth(image, columns, rows, width, height)


def _nearest(image: Pixels, columns: _Steps, rows: _Steps, width: int, height: int) -> Pixels:
    size = BYTES[image.format]
    data = bytearray(width * height * size)
    made = Pixels(width, height, image.format, data)
    done: tuple[int, int] | None = None  # a row of the image, and where it went
    for place in range(height):
        y = (rows[0] - 1 + place * rows[1]) >> 16
        at = place * made.stride
        if not 0 <= y < image.height:
            continue
        if done is not None and done[0] == y:
            data[at : at + made.stride] = data[done[1] : done[1] + made.stride]
        else:
            begin = image.offset + y * image.stride
            start = columns[0] - 1
            kernel.nearest(
                made.data, at, width, image.data, begin, size, image.width, start, columns[1]
            )
        done = (y, at)
    return made


def _smooth(image: Pixels, columns: _Steps, rows: _Steps, width: int, height: int) -> Pixels:
    made = Pixels(width, height, image.format)
    size = BYTES[image.format]
    for place in range(height):
        y = rows[0] - _HALF + place * rows[1]
        one, other = y >> 16, (y >> 16) + 1
        pair = tuple(
            image.offset + row * image.stride if 0 <= row < image.height else -1
            for row in (one, other)
        )
        down = (y >> 9 & 127) << 1
        start = columns[0] - _HALF
        kernel.smooth(
            made.data, place * made.stride, width,
            image.data, (pair[0], pair[1]), size, image.width, start, columns[1], down,
        )  # fmt: skip
    return made
