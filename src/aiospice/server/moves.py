# cython: language_level=3, annotation_typing=False
# mypy: ignore-errors
"""Where the screen has changed, and what of it was there before at another place.

`rectangles` makes few boxes of many marked tiles; `find_move` tells that most of a box's pixels
were somewhere else on the same surface (a scrolled page, a window that was dragged).
"""

from __future__ import annotations

from typing import NamedTuple

from aiospice.server import compare
from aiospice.server.compare import TILE
from aiospice.server.region import Box, cut, intersect, size

try:
    import cython
except ImportError:
    from aiospice import _cython as cython

__all__ = ["MAX_RECTANGLES", "Move", "changed", "find_move", "rectangles", "vote"]

#: Boxes that the changes of one surface are made into at most.
MAX_RECTANGLES = 48
#: Tiles that a box may take in for nothing: sending them costs less than one more message.
_WASTE = 2
#: Pieces of rows that are looked for, and places where they are found.
_ANCHORS = 64
_HITS = 2048
#: Pixels across of the columns in which moves up and down are looked for.
_BAND = 96
#: The smallest box (pixels) in which something is looked for.
LEAST_PIXELS = 1 << 13


class Move(NamedTuple):
    """Pixels that were ``dx`` further left and ``dy`` further up, now fill the box."""

    box: Box
    dx: int
    dy: int
    #: Where else something is different in what was looked at, or may be.
    rest: list[Box]


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


def rectangles(grid: bytes | bytearray, columns: int) -> list[Box]:
    """Boxes (in tiles) around all tiles that are marked by 1; few, and none overlaps another."""
    done: list[Box] = []
    open_: dict[tuple[int, int], int] = {}
    rows = len(grid) // columns
    above: bytes | bytearray = b""
    for y in range(rows):
        line = grid[y * columns : (y + 1) * columns]
        if line == above:
            continue
        above = line
        runs = _runs(line)
        still = {run: open_[run] for run in runs if run in open_}
        done += [(a, top, b, y) for (a, b), top in open_.items() if (a, b) not in still]
        open_ = {run: still.get(run, y) for run in runs}
    done += [(a, top, b, rows) for (a, b), top in open_.items()]
    return _joined(done)


def _runs(line: bytes | bytearray) -> list[tuple[int, int]]:
    """Where tiles in a row are marked; gaps of one tile count as marked."""
    found: list[tuple[int, int]] = []
    at = line.find(1)
    while at >= 0:
        end = line.find(0, at)
        end = len(line) if end < 0 else end
        if found and at - found[-1][1] <= 1:
            found[-1] = (found[-1][0], end)
        else:
            found.append((at, end))
        at = line.find(1, end)
    return found


def _joined(boxes: list[Box]) -> list[Box]:
    """Join boxes where that wastes little, and until there are few enough."""
    allowed = _WASTE
    while True:
        boxes = _join_once(boxes, allowed)
        if len(boxes) <= MAX_RECTANGLES:
            return boxes
        allowed = 2 * allowed + 2


@cython.locals(
    wanted=cython.Py_ssize_t,
    left=cython.Py_ssize_t,
    top=cython.Py_ssize_t,
    right=cython.Py_ssize_t,
    bottom=cython.Py_ssize_t,
    a=cython.Py_ssize_t,
    b=cython.Py_ssize_t,
    c=cython.Py_ssize_t,
    d=cython.Py_ssize_t,
    x=cython.Py_ssize_t,
    y=cython.Py_ssize_t,
    z=cython.Py_ssize_t,
    w=cython.Py_ssize_t,
    around=cython.Py_ssize_t,
    extra=cython.Py_ssize_t,
    index=cython.Py_ssize_t,
)
def _join_once(boxes: list[Box], allowed: int) -> list[Box]:
    result: list[Box] = []
    wanted = allowed
    for left, top, right, bottom in sorted(boxes, key=_reading_order):
        index = 0
        while index < len(result):
            a, b, c, d = result[index]
            x, y, z, w = min(left, a), min(top, b), max(right, c), max(bottom, d)
            around = (z - x) * (w - y)
            extra = around - (right - left) * (bottom - top) - (c - a) * (d - b)
            shared = max(left, a) < min(right, c) and max(top, b) < min(bottom, d)
            if shared or extra <= wanted or 5 * extra <= around:
                left, top, right, bottom = x, y, z, w
                del result[index]
                index = 0
            else:
                index += 1
        result.append((left, top, right, bottom))
    return result


def _reading_order(box: Box) -> tuple[int, int]:
    return box[1], box[0]


def find_move(old: memoryview, new: memoryview, width: int, box: Box, mask: int) -> Move | None:
    """Where the pixels of a box were before; None when most of them are new.

    ``old`` and ``new`` are words of 32 bits, rows ``width`` apart.
    """
    if size(box) < LEAST_PIXELS or box[2] - box[0] < 2 * TILE:
        return None
    offset = _upwards(old, new, width, box, mask) or _offset(old, new, width, box, mask)
    if offset is None:
        return None
    dx, dy = offset
    left, top, right, bottom = box
    target = intersect(box, (left + dx, top + dy, right + dx, bottom + dy))
    if target is None:
        return None
    columns = -(-(target[2] - target[0]) // TILE)
    grid = bytearray(columns * -(-(target[3] - target[1]) // TILE))
    compare.moved(old, new, width, *target, dx, dy, mask, grid)
    inside: list[Box] = []
    if 10 * grid.count(1) <= len(grid):
        for a, b, c, d in rectangles(grid, columns):
            inside.append(
                (
                    target[0] + TILE * a,
                    target[1] + TILE * b,
                    min(target[2], target[0] + TILE * c),
                    min(target[3], target[1] + TILE * d),
                )
            )
    else:
        found = _largest(grid, columns)
        target = (
            target[0] + TILE * found[0],
            target[1] + TILE * found[1],
            min(target[2], target[0] + TILE * found[2]),
            min(target[3], target[1] + TILE * found[3]),
        )
    if size(target) < max(LEAST_PIXELS // 2, size(box) // 8):
        return None
    return Move(target, dx, dy, cut([box], target) + inside)


def _upwards(
    old: memoryview, new: memoryview, width: int, box: Box, mask: int
) -> tuple[int, int] | None:
    """How far the box has moved up or down, looked for in a few columns of it: that is quick."""
    left, top, right, bottom = box
    if right - left < 2 * _BAND:
        return None
    for eighth in (1, 3, 5):
        at = left + (right - left - _BAND) * eighth // 8
        offset = _offset(old, new, width, (at, top, at + _BAND, bottom), mask)
        if offset is not None and offset[0] == 0:
            return offset
    return None


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


def _largest(grid: bytearray, columns: int) -> Box:
    """The largest box of tiles that are 0."""
    best: Box = (0, 0, 0, 0)
    heights = [0] * (columns + 1)
    for y in range(len(grid) // columns):
        line = grid[y * columns : (y + 1) * columns]
        stack: list[tuple[int, int]] = []
        for x in range(columns + 1):
            height = heights[x] = 0 if x == columns or line[x] else heights[x] + 1
            first = x
            while stack and stack[-1][1] >= height:
                first, tall = stack.pop()
                if (x - first) * tall > size(best):
                    best = (first, y + 1 - tall, x, y + 1)
            stack.append((first, height))
    return best
