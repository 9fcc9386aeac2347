"""Filling, copying and combining pixels: the sixteen raster operations on regions of a surface.

Every function takes a region whose boxes lie inside of the surface (`region_of` with the
surface's own box sees to that) and touches no pixel twice. Facts: spice-common
``common/sw_canvas.c`` and ``common/pixman_utils.c``; all bits of a pixel take part, those that
no colour uses too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas.pixels import BYTES, Pixels
from aiospice.canvas.region import Box, Region, intersect

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CLEAR",
    "COPY",
    "INVERT",
    "NOOP",
    "SET",
    "blit",
    "copy_region",
    "fill",
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


#: By truth table: source, target and a number of all ones -> result.
_OPERATIONS: tuple[Callable[[int, int, int], int], ...] = (
    lambda s, d, ones: 0,
    lambda s, d, ones: (s | d) ^ ones,
    lambda s, d, ones: (s ^ ones) & d,
    lambda s, d, ones: s ^ ones,
    lambda s, d, ones: s & (d ^ ones),
    lambda s, d, ones: d ^ ones,
    lambda s, d, ones: s ^ d,
    lambda s, d, ones: (s & d) ^ ones,
    lambda s, d, ones: s & d,
    lambda s, d, ones: s ^ d ^ ones,
    lambda s, d, ones: d,
    lambda s, d, ones: (s ^ ones) | d,
    lambda s, d, ones: s,
    lambda s, d, ones: s | (d ^ ones),
    lambda s, d, ones: s | d,
    lambda s, d, ones: ones,
)


def _combined(
    source: bytes | bytearray | memoryview, target: bytes | bytearray | memoryview, rop: int
) -> bytes:
    """Two strings of bytes of the same length, bit by bit."""
    size = len(target)
    ones = (1 << 8 * size) - 1
    value = _OPERATIONS[rop](
        int.from_bytes(source, "little"), int.from_bytes(target, "little"), ones
    )
    return value.to_bytes(size, "little")


def fill(surface: Pixels, region: Region, colour: int, rop: int = COPY) -> int:
    """Combine the region with one colour (of the surface's format); return how many pixels."""
    size = BYTES[surface.format]
    pixel = (colour & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    data = memoryview(surface.data)
    stride = surface.stride
    done = 0
    for left, top, right, bottom in region:
        length = (right - left) * size
        start = surface.offset + top * stride + left * size
        row = pixel * (right - left)
        done += (right - left) * (bottom - top)
        if rop == COPY and length == stride:
            _fill_rows(data, start, row, bottom - top)
            continue
        for _ in range(bottom - top):
            end = start + length
            data[start:end] = row if rop == COPY else _combined(row, data[start:end], rop)
            start += stride
    return done


def _fill_rows(data: memoryview, start: int, row: bytes, count: int) -> None:
    """Write a row ``count`` times, many at a time but never more than a MiB of them."""
    at_once = min(count, max(1, (1 << 20) // len(row)))
    rows = row * at_once
    while count:
        at_once = min(count, at_once)
        size = at_once * len(row)
        data[start : start + size] = rows[:size]
        start += size
        count -= at_once


def tile(surface: Pixels, region: Region, image: Pixels, ox: int, oy: int, rop: int = COPY) -> int:
    """Combine the region with an image repeated without end from ``(ox, oy)``."""
    if image.data is surface.data:
        image = image.copy()
    size = BYTES[surface.format]
    data, source = memoryview(surface.data), memoryview(image.data)
    done = 0
    for left, top, right, bottom in region:
        length = (right - left) * size
        skip = (left - ox) % image.width * size
        copies = (skip + length) // image.row_bytes + 1
        done += (right - left) * (bottom - top)
        for y in range(top, bottom):
            at = image.offset + (y - oy) % image.height * image.stride
            row = (bytes(source[at : at + image.row_bytes]) * copies)[skip : skip + length]
            to = surface.offset + y * surface.stride + left * size
            end = to + length
            data[to:end] = row if rop == COPY else _combined(row, data[to:end], rop)
    return done


def blit(surface: Pixels, region: Region, image: Pixels, dx: int, dy: int, rop: int = COPY) -> int:
    """Combine the region with an image whose pixel (0, 0) lies at ``(dx, dy)`` of the surface.

    Where the image doesn't reach nothing happens. Both must have the same number of bytes a
    pixel; the image may be the surface itself. Returns how many pixels were drawn.
    """
    area = (dx, dy, dx + image.width, dy + image.height)
    boxes = [box for box in [intersect(one, area) for one in region] if box is not None]
    if image.data is surface.data:
        image = image.copy()
    for box in boxes:
        _blit_box(surface, box, image, dx, dy, rop)
    return sum([(right - left) * (bottom - top) for left, top, right, bottom in boxes])


def _blit_box(surface: Pixels, box: Box, image: Pixels, dx: int, dy: int, rop: int) -> None:
    left, top, right, bottom = box
    size = BYTES[surface.format]
    length = (right - left) * size
    target, source = memoryview(surface.data), memoryview(image.data)
    to = surface.offset + top * surface.stride + left * size
    at = image.offset + (top - dy) * image.stride + (left - dx) * size
    if rop == COPY and length == surface.stride == image.stride:
        whole = length * (bottom - top)
        target[to : to + whole] = source[at : at + whole]
        return
    for _ in range(bottom - top):
        row = source[at : at + length]
        if rop != COPY:
            target[to : to + length] = _combined(row, target[to : to + length], rop)
        else:
            target[to : to + length] = row
        to += surface.stride
        at += image.stride


def copy_region(surface: Pixels, region: Region, dx: int, dy: int) -> int:
    """Copy pixels inside of a surface to the region, from ``(dx, dy)`` before each of them.

    What would come from outside of the surface stays as it is. Source and region may overlap in
    any way: the result is as if all had been read before anything was written.
    """
    reach = (dx, dy, dx + surface.width, dy + surface.height)
    boxes = [box for box in [intersect(one, reach) for one in region] if box is not None]
    if not (dx or dy):
        return 0
    if len(boxes) == 1:
        _move_box(surface, boxes[0], dx, dy)
    elif boxes:
        _move_boxes(surface, boxes, dx, dy)
    return sum([(right - left) * (bottom - top) for left, top, right, bottom in boxes])


def _move_box(surface: Pixels, box: Box, dx: int, dy: int) -> None:
    """Rows in the order that reads each before it is written over; slices overlap safely."""
    left, top, right, bottom = box
    size = BYTES[surface.format]
    stride = surface.stride
    length = (right - left) * size
    back = dy * stride + dx * size
    data = memoryview(surface.data)
    rows = range(bottom - 1, top - 1, -1) if dy > 0 else range(top, bottom)
    for y in rows:
        to = surface.offset + y * stride + left * size
        data[to : to + length] = data[to - back : to - back + length]


def _move_boxes(surface: Pixels, boxes: Region, dx: int, dy: int) -> None:
    """Several boxes may lie in each other's way in a circle: read all, then write."""
    size = BYTES[surface.format]
    stride = surface.stride
    data = memoryview(surface.data)
    held: list[tuple[int, bytes]] = []
    for left, top, right, bottom in boxes:
        length = (right - left) * size
        for y in range(top, bottom):
            to = surface.offset + y * stride + left * size
            at = to - dy * stride - dx * size
            held.append((to, bytes(data[at : at + length])))
    for to, row in held:
        data[to : to + len(row)] = row
