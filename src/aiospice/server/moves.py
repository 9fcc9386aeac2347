# cython: language_level=3, annotation_typing=False
# mypy: ignore-errors
"""Where the screen has changed, and what of it was there before at another place.

`rectangles` makes few boxes of many marked tiles; `find_move` tells that most of a box's pixels
were somewhere else on the same surface (a scrolled page, a window that was dragged).
"""

from __future__ import annotations

from typing import NamedTuple

from aiospice.server import compare
from aiospice.server.boxes import largest, rectangles
from aiospice.server.compare import TILE
from aiospice.server.region import Box, cut, intersect, size

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

__all__ = ["Move", "changed", "find_move", "moves_on", "vote"]

#: Pieces of rows that are looked for, and places where they are found.
_ANCHORS = 64
_HITS = 1024
#: Pixels across of the columns in which moves are looked for first.
_BAND = 96
#: The smallest target (pixels) that is moved while it is compared, and of how many parts of rows
#: that are looked at before at most one may differ then.
_LARGE = 1 << 16
_SURE = 20
#: The smallest box (pixels) in which something is looked for.
LEAST_PIXELS = 1 << 13


class Move(NamedTuple):
    """Pixels that were ``dx`` further left and ``dy`` further up, now fill the box."""

    box: Box
    dx: int
    dy: int
    #: Where else something is different in what was looked at, or may be.
    rest: list[Box]
    #: The old pixels have been moved so.
    done: bool = False


def changed(
    old: memoryview, new: memoryview, width: int, boxes: list[Box], mask: int, limit: Box
) -> list[Box]:
    """Few boxes, each as small as can be, around all that differs in some boxes.

    They may reach beyond these boxes by less than a tile, but not beyond ``limit``. Words, mask and
    rows are as in `find_move`.
    """
    columns = -(-width // TILE)
    grid = bytearray(columns * -(-limit[3] // TILE))
    marks = 0
    for box in boxes:
        marks += compare.mark(old, new, width, *box, mask, grid)
    if not marks:
        return []
    found: list[Box] = []
    for left, top, right, bottom in rectangles(grid, columns):
        left, top = max(TILE * left, limit[0]), max(TILE * top, limit[1])
        right, bottom = min(TILE * right, limit[2]), min(TILE * bottom, limit[3])
        if left < right and top < bottom:
            tight = compare.tighten(old, new, width, left, top, right, bottom, mask)
            if tight is not None:
                found.append(tight)
    return found


def find_move(
    old: memoryview,
    new: memoryview,
    width: int,
    box: Box,
    mask: int,
    *,
    carry: bool = False,
    briefly: bool = False,
) -> Move | None:
    """Where the pixels of a box were before; None when most of them are new.

    ``old`` and ``new`` are words of 32 bits, rows ``width`` apart. With ``carry`` the old pixels
    may be moved meanwhile (`Move.done`). ``briefly``: only a part of the box is searched.
    """
    if size(box) < LEAST_PIXELS or box[2] - box[0] < 2 * TILE:
        return None
    parts = _parts(box)
    for part in parts[1:2] if briefly and len(parts) > 1 else parts:
        offset = _offset(old, new, width, part, mask)
        if offset is not None:
            move = _verified(old, new, width, box, mask, offset, carry)
            if move is not None:
                return move
    return None


def moves_on(
    old: memoryview, new: memoryview, width: int, box: Box, mask: int, offset: tuple[int, int]
) -> Move | None:
    """Move a box as far as another one before, if nearly all of it has moved so, as it mostly has.

    That is asked without looking for what differs, or for where it comes from.
    """
    dx, dy = offset
    left, top, right, bottom = box
    target = intersect(box, (left + dx, top + dy, right + dx, bottom + dy))
    if target is None or size(target) < _LARGE:
        return None
    return _verified(old, new, width, box, mask, offset, True, surely=True)


def _parts(box: Box) -> list[Box]:
    """Where moves are looked for: in a few columns, which is quick, then in all of the box."""
    left, top, right, bottom = box
    if right - left < 2 * _BAND:
        return [box]
    room = right - left - _BAND
    columns = [left + room * eighth // 8 for eighth in (1, 3, 5)]
    return [*((at, top, at + _BAND, bottom) for at in columns), box]


def _verified(
    old: memoryview,
    new: memoryview,
    width: int,
    box: Box,
    mask: int,
    offset: tuple[int, int],
    carry: bool,
    *,
    surely: bool = False,
) -> Move | None:
    """What of a box really comes from so far away, if it is enough; ``surely``: nearly all."""
    dx, dy = offset
    left, top, right, bottom = box
    least = max(LEAST_PIXELS // 2, size(box) // 8)
    target = intersect(box, (left + dx, top + dy, right + dx, bottom + dy))
    if target is None or size(target) < least:
        return None
    columns = -(-(target[2] - target[0]) // TILE)
    grid = bytearray(columns * -(-(target[3] - target[1]) // TILE))
    if carry and size(target) >= _LARGE:
        carry = compare.sample(old, new, width, *target, dx, dy, mask, _SURE)
    else:
        carry = False
    if surely and not carry:
        return None
    if carry:
        compare.drag(old, new, width, *target, dx, dy, mask, grid)
    else:
        compare.moved(old, new, width, *target, dx, dy, mask, grid)
    inside: list[Box] = []
    if carry or 10 * grid.count(1) <= len(grid):
        inside = [_in_pixels(tiles, target) for tiles in rectangles(grid, columns)]
    else:
        target = _in_pixels(largest(grid, columns), target)
        if size(target) < least:
            return None
    return Move(target, dx, dy, cut([box], target) + inside, carry)


def _in_pixels(tiles: Box, within: Box) -> Box:
    """A box of tiles that are counted from another box's corner."""
    left, top, right, bottom = within
    a, b, c, d = tiles
    return (
        left + TILE * a,
        top + TILE * b,
        min(right, left + TILE * c),
        min(bottom, top + TILE * d),
    )


def _offset(
    old: memoryview, new: memoryview, width: int, box: Box, mask: int
) -> tuple[int, int] | None:
    places = memoryview(bytearray(8 * _ANCHORS)).cast("i")
    hits = memoryview(bytearray(12 * _HITS)).cast("i")
    slots = memoryview(bytearray(4096)).cast("i")
    anchors, found = compare.trace(old, new, width, *box, mask, places, hits, slots)
    if anchors < 4:
        return None
    dx, dy, count = vote(places, hits, found)
    return (dx, dy) if count >= max(3, anchors // 5) else None


@cython.locals(
    at="const int[::1]",
    seen="const int[::1]",
    table="int[::1]",
    counts="int[::1]",
    total=cython.Py_ssize_t,
    place=cython.Py_ssize_t,
    other=cython.Py_ssize_t,
    slot=cython.Py_ssize_t,
    best=cython.Py_ssize_t,
    dx=cython.Py_ssize_t,
    dy=cython.Py_ssize_t,
)
def vote(places: memoryview, hits: memoryview, found: int) -> tuple[int, int, int]:
    """How far most of what `compare.trace` has found has moved, and how many hits say so.

    The first of several that are as many; what hasn't moved doesn't count.
    """
    at, seen = places, hits
    total = min(found, _HITS)
    table = memoryview(bytearray(b"\xff" * (8 * _HITS))).cast("i")
    counts = memoryview(bytearray(4 * _HITS)).cast("i")
    for place in range(total):
        dx = at[2 * seen[3 * place]] - seen[3 * place + 1]
        dy = at[2 * seen[3 * place] + 1] - seen[3 * place + 2]
        if dx == 0 and dy == 0:
            continue
        slot = (dx * 1021 + dy * 31) & (2 * _HITS - 1)
        while True:
            other = table[slot]
            if other < 0:
                table[slot] = other = place
            if (
                at[2 * seen[3 * other]] - seen[3 * other + 1] == dx
                and at[2 * seen[3 * other] + 1] - seen[3 * other + 2] == dy
            ):
                counts[other] += 1
                break
            slot = (slot + 1) & (2 * _HITS - 1)
    best = 0
    for place in range(total):
        if counts[place] > counts[best]:
            best = place
    if not total or not counts[best]:
        return 0, 0, 0
    dx = at[2 * seen[3 * best]] - seen[3 * best + 1]
    dy = at[2 * seen[3 * best] + 1] - seen[3 * best + 2]
    return dx, dy, counts[best]
