"""Where the screen has changed, and what of it was there before at another place.

`rectangles` makes few boxes of many marked tiles; `find_move` tells that most of a box's pixels
were somewhere else on the same surface (a scrolled page, a window that was dragged).
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from aiospice.server import compare
from aiospice.server.compare import TILE
from aiospice.server.region import Box, intersect, size

__all__ = ["MAX_RECTANGLES", "Move", "find_move", "rectangles"]

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


def _join_once(boxes: list[Box], allowed: int) -> list[Box]:
    result: list[Box] = []
    for box in sorted(boxes, key=lambda box: (box[1], box[0])):
        joined = box
        again = True
        while again:
            again = False
            for index, other in enumerate(result):
                around = (
                    min(joined[0], other[0]),
                    min(joined[1], other[1]),
                    max(joined[2], other[2]),
                    max(joined[3], other[3]),
                )
                shared = intersect(joined, other)
                extra = size(around) - size(joined) - size(other)
                if shared is not None or extra <= max(allowed, size(around) // 5):
                    joined = around
                    del result[index]
                    again = True
                    break
        result.append(joined)
    return result


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
    if 10 * grid.count(1) > len(grid):
        found = _largest(grid, columns)
        target = (
            target[0] + TILE * found[0],
            target[1] + TILE * found[1],
            min(target[2], target[0] + TILE * found[2]),
            min(target[3], target[1] + TILE * found[3]),
        )
    if size(target) < max(LEAST_PIXELS // 2, size(box) // 8):
        return None
    return Move(target, dx, dy)


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
    votes: Counter[tuple[int, int]] = Counter()
    seen = hits[: 3 * found].tolist()
    at = places.tolist()
    for place in range(0, 3 * found, 3):
        anchor = 2 * seen[place]
        votes[at[anchor] - seen[place + 1], at[anchor + 1] - seen[place + 2]] += 1
    del votes[0, 0]
    if not votes:
        return None
    offset, count = votes.most_common(1)[0]
    return offset if count >= max(3, anchors // 5) else None


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
