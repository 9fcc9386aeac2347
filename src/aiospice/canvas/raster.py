"""Filling, copying and combining pixels: the sixteen raster operations on regions of a surface.

Every function takes a region whose boxes lie inside of the surface (`region_of` with the
surface's own box sees to that) and touches no pixel twice. Facts: spice-common
``common/sw_canvas.c`` and ``common/pixman_utils.c``; all bits of a pixel take part, those that
no colour uses too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas import rows
from aiospice.canvas.pixels import BYTES, Pixels
from aiospice.canvas.region import bounds, intersect

if TYPE_CHECKING:
    from aiospice.canvas.region import Box, Region

__all__ = [
    "CLEAR",
    "COPY",
    "INVERT",
    "NOOP",
    "SET",
    "blit",
    "copy_region",
    "fill",
    "form_of",
    "rop_of",
    "tile",
]

# A raster operation is its truth table: bit ``2 * source + target`` is the result.
CLEAR, NOOP, INVERT, COPY, SET = 0b0000, 0b1010, 0b0101, 0b1100, 0b1111
_SOURCE, _TARGET = 0b1100, 0b1010

# ``SPICE_ROPD_*``.
_INVERS_SRC, _INVERS_BRUSH, _INVERS_DEST, _PUT, _OR, _AND, _XOR = (1 << bit for bit in range(7))
_BLACKNESS, _WHITENESS, _INVERS, _INVERS_RES = (1 << bit for bit in range(7, 11))


def rop_of(descriptor: int, *, source: str = "src", target: str = "dest") -> int:
    """The operation that a ``SPICE_ROPD_*`` combination means.

    ``source`` and ``target`` say which of ``src``, ``brush`` and ``dest`` play these roles, and so
    which of the three invert bits count. Of several operations the first in the order put, or,
    and, xor, blackness, whiteness, invert rules; without any it is a copy.
    """
    inverts = {"src": _INVERS_SRC, "brush": _INVERS_BRUSH, "dest": _INVERS_DEST}
    one = _SOURCE ^ (0b1111 if descriptor & inverts[source] else 0)
    other = _TARGET ^ (0b1111 if descriptor & inverts[target] else 0)
    flip = 0b1111 if descriptor & _INVERS_RES else 0
    if descriptor & _PUT:
        return one ^ flip
    if descriptor & _OR:
        return (one | other) ^ flip
    if descriptor & _AND:
        return (one & other) ^ flip
    if descriptor & _XOR:
        return (one ^ other) ^ flip
    if descriptor & _BLACKNESS:
        return CLEAR
    if descriptor & _WHITENESS:
        return SET
    return INVERT if descriptor & _INVERS else COPY


def form_of(rop: int) -> tuple[int, int, int, int]:
    """The algebraic form of a truth table, as `rows.mix` has it."""
    neither, target, source, both = (255 if rop >> bit & 1 else 0 for bit in range(4))
    return neither, neither ^ source, neither ^ target, neither ^ target ^ source ^ both


_FORMS = tuple(form_of(rop) for rop in range(16))
#: Bytes of a repeated image that are laid out at a time, to be combined then.
_STRIP = 1 << 18


def _area(region: Region) -> int:
    return sum([(right - left) * (bottom - top) for left, top, right, bottom in region])


def fill(surface: Pixels, region: Region, colour: int, rop: int = COPY) -> int:
    """Combine the region with one colour (of the surface's format); return how many pixels."""
    size = BYTES[surface.format]
    pixel = (colour & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    data, stride = surface.data, surface.stride
    row = b""
    for left, top, right, bottom in region:
        length = (right - left) * size
        if len(row) < length:
            row = pixel * (right - left)
        at = surface.place(left, top)
        if rop == COPY:
            rows.copy(data, at, stride, length, bottom - top, row, 0, 0)
        else:
            rows.mix(data, at, stride, length, bottom - top, row, 0, 0, _FORMS[rop])
    return _area(region)


def tile(surface: Pixels, region: Region, image: Pixels, ox: int, oy: int, rop: int = COPY) -> int:
    """Combine the region with an image repeated without end from ``(ox, oy)``."""
    if image.data is surface.data:
        image = image.copy()
    size = BYTES[surface.format]
    for left, top, right, bottom in region:
        length = (right - left) * size
        skip = (left - ox) % image.width * size
        step = bottom - top if rop == COPY else max(1, _STRIP // length)
        for y in range(top, bottom, step):
            count = min(step, bottom - y)
            at = surface.place(left, y)
            into, to, stride = surface.data, at, surface.stride
            if rop != COPY:
                into, to, stride = bytearray(length * count), 0, length
            rows.repeat(
                into, to, stride, length, count, image.data, image.offset, image.stride,
                image.row_bytes, image.height, skip, (y - oy) % image.height,
            )  # fmt: skip
            if rop != COPY:
                rows.mix(
                    surface.data, at, surface.stride, length, count, into, 0, length, _FORMS[rop]
                )
    return _area(region)


def blit(surface: Pixels, region: Region, image: Pixels, dx: int, dy: int, rop: int = COPY) -> int:
    """Combine the region with an image whose pixel (0, 0) lies at ``(dx, dy)`` of the surface.

    Where the image doesn't reach nothing happens. Both must have the same number of bytes a
    pixel. The image may be the surface itself, and overlap the region in any way: the result is as
    if all had been read before anything was written. Returns how many pixels were drawn.
    """
    area = (dx, dy, dx + image.width, dy + image.height)
    boxes = [box for box in [intersect(one, area) for one in region] if box is not None]
    around = bounds(boxes)
    if around is None:
        return 0
    if image.data is surface.data and (len(boxes) > 1 or rop != COPY):
        left, top, right, bottom = around
        image = image.view((left - dx, top - dy, right - dx, bottom - dy)).copy()
        dx, dy = left, top
    for box in boxes:
        _blit_box(surface, box, image, dx, dy, rop)
    return _area(boxes)


def _blit_box(surface: Pixels, box: Box, image: Pixels, dx: int, dy: int, rop: int) -> None:
    left, top, right, bottom = box
    length = (right - left) * BYTES[surface.format]
    to, at = surface.place(left, top), image.place(left - dx, top - dy)
    step, by = surface.stride, image.stride
    if rop != COPY:
        rows.mix(
            surface.data, to, step, length, bottom - top, image.data, at, by, _FORMS[rop]
        )  # fmt: skip
        return
    if image.data is surface.data and to > at:  # the last rows first
        to, at = to + (bottom - top - 1) * step, at + (bottom - top - 1) * by
        step, by = -step, -by
    rows.copy(surface.data, to, step, length, bottom - top, image.data, at, by)


def copy_region(surface: Pixels, region: Region, dx: int, dy: int) -> int:
    """Copy pixels inside of a surface to the region, from ``(dx, dy)`` before each of them.

    What would come from outside of the surface stays as it is. Source and region may overlap, as
    in `blit`.
    """
    return blit(surface, region, surface, dx, dy) if dx or dy else 0
