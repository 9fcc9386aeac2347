"""Lines: which pixels a path of lines and curves has, solid or dashed.

Lines are one pixel wide and don't have their last pixel. Facts: ``canvas_draw_stroke`` in
spice-common ``common/canvas_base.c``, and ``common/lines.c`` there, whose rules (those of the X
server) say which of two pixels a line takes that passes between them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from aiospice.canvas.region import bounds
from aiospice.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiospice.canvas.region import Box, Region

__all__ = ["MAX_PIECES", "Budget", "Clip", "Place", "line", "polylines"]

#: A pixel, or a point in sixteenths of a pixel.
Place = tuple[int, int]
#: Left, row and right (exclusive) of pixels beside each other.
Span = tuple[int, int, int]

#: The most pieces (points of curves, dashes, spans) of one stroke, whatever its surface is.
MAX_PIECES = 1 << 22

# ``SPICE_PATH_*``.
_BEGIN, _END, _CLOSE, _BEZIER = 1, 2, 8, 16

# Directions (4: to the left, 2: upwards, 1: steep) in which a tie goes to the pixel straight on.
_STRAIGHT = frozenset((3, 7, 6, 4))


class Budget:
    """What a stroke may still cost; `RemoteProtocolError` when it is used up."""

    __slots__ = ("left",)

    def __init__(self, pieces: int) -> None:
        self.left = min(pieces, MAX_PIECES)

    def spend(self, pieces: int) -> None:
        """Take some away."""
        self.left -= pieces
        if self.left < 0:
            raise RemoteProtocolError("a stroke with more pieces than its surface has room for")


# Paths


def polylines(
    segments: Iterable[tuple[int, Iterable[Place]]], budget: Budget
) -> Iterator[list[Place]]:
    """Turn a path into lists of pixels to be joined by lines.

    ``segments`` are flags (``SPICE_PATH_*``) and points, x and y in sixteenths of a pixel. Raises
    `RemoteProtocolError` for a curve without beginning or with points missing, and when there are
    more points than the budget allows.
    """
    pixels: list[Place] = []
    for flags, some in segments:
        points = list(some)
        if flags & _BEGIN:
            if pixels:
                yield pixels
            pixels = [_pixel(point) for point in points[:1]]
            del points[:1]
        if flags & _BEZIER:
            _curves(pixels, points, budget)
        else:
            budget.spend(len(points))
            pixels += [_pixel(point) for point in points]
        if flags & _END:
            if flags & _CLOSE:
                pixels += pixels[:1]
            if pixels:
                yield pixels
            pixels = []
    if pixels:
        yield pixels


def _pixel(point: Place) -> Place:
    """The pixel that a point is in; from nine sixteenths on it is the next one."""
    return (point[0] + 7) >> 4, (point[1] + 7) >> 4


def _curves(pixels: list[Place], points: list[Place], budget: Budget) -> None:
    """Add what stands for curves, of three points each, that go on where ``pixels`` end."""
    if len(points) % 3 or (points and not pixels):
        raise RemoteProtocolError(f"curves of {len(points)} points after {len(pixels)} others")
    for at in range(0, len(points), 3):
        x, y = pixels[-1]
        waiting = [((x << 4, y << 4), points[at], points[at + 1], points[at + 2])]
        while waiting:
            budget.spend(1)
            curve = waiting.pop()
            halves = _halves(*curve)
            # A few tiny curves are their own halves by rounding; upstream never ends with those.
            if _is_flat(*curve) or curve in halves:
                pixels.append(_pixel(curve[3]))
            else:
                waiting += [halves[1], halves[0]]


def _is_flat(start: Place, one: Place, two: Place, end: Place) -> bool:
    """Tell whether the curve is nowhere half a pixel away from the line between its ends."""
    along = (end[0] - start[0], end[1] - start[1])
    out = (one[0] - start[0], one[1] - start[1])
    back = (two[0] - end[0], two[1] - end[1])
    length = _dot(along, along)
    if start == end:
        return not (any(out) or any(back))
    far = _dot(out, out) * length - _dot(out, along) ** 2
    farther = _dot(back, back) * length - _dot(back, (-along[0], -along[1])) ** 2
    return far >> 3 < length and farther >> 3 < length


def _dot(one: Place, other: Place) -> int:
    return (one[0] * other[0] + one[1] * other[1]) >> 4


def _middle(one: Place, other: Place) -> Place:
    x, y = one[0] + other[0], one[1] + other[1]
    return (x + (x < 0)) >> 1, (y + (y < 0)) >> 1  # towards 0


def _halves(
    start: Place, one: Place, two: Place, end: Place
) -> tuple[tuple[Place, Place, Place, Place], tuple[Place, Place, Place, Place]]:
    first, second, third = _middle(start, one), _middle(one, two), _middle(two, end)
    left, right = _middle(first, second), _middle(second, third)
    middle = _middle(left, right)
    return (start, first, left, middle), (middle, right, third, end)


# Lines


def line(start: Place, end: Place, box: Box) -> list[Span]:
    """The pixels inside of a box of the line from ``start`` up to ``end``, which isn't drawn.

    Takes time for the rows of the box alone, however long the line is.
    """
    dx, dy = end[0] - start[0], end[1] - start[1]
    octant = (4 if dx < 0 else 0) | (2 if dy < 0 else 0) | (abs(dx) <= abs(dy))
    bias = octant in _STRAIGHT
    if abs(dx) > abs(dy):
        return _flat_line(start, dx, dy, bias, box)
    return _steep_line(start, dx, dy, bias, box)


def _steps(start: int, forward: bool, count: int, first: int, last: int) -> tuple[int, int]:
    """The first and last (exclusive) of ``count`` steps that lie from ``first`` to ``last``."""
    if forward:
        return max(0, first - start), min(count, last - start)
    return max(0, start - last + 1), min(count, start - first + 1)


def _flat_line(start: Place, dx: int, dy: int, bias: bool, box: Box) -> list[Span]:
    x, y = start
    wide, high = abs(dx), abs(dy)
    begin, stop = _steps(x, dx > 0, wide, box[0], box[2])
    if begin >= stop:
        return []
    add = wide - bias
    begun = (2 * high * begin + add) // (2 * wide)
    last = (2 * high * (stop - 1) + add) // (2 * wide)
    top, under = _steps(y, dy >= 0, last + 1, box[1], box[3])
    spans: list[Span] = []
    for row in range(max(begun, top), min(last + 1, under)):
        # The first step on this row, and on the next.
        one = max(begin, -((add - 2 * wide * row) // (2 * high)) if high else begin)
        two = min(stop, -((add - 2 * wide * (row + 1)) // (2 * high)) if high else stop)
        if one < two:
            at = y + row if dy >= 0 else y - row
            spans.append((x + one, at, x + two) if dx > 0 else (x - two + 1, at, x - one + 1))
    return spans


def _steep_line(start: Place, dx: int, dy: int, bias: bool, box: Box) -> list[Span]:
    x, y = start
    wide, high = abs(dx), abs(dy)
    begin, stop = _steps(y, dy >= 0, high, box[1], box[3])
    if begin >= stop:
        return []
    add = high - bias
    left, right = _steps(x, dx >= 0, wide + 1, box[0], box[2])
    if left >= right:
        return []
    if wide:
        begin = max(begin, -((add - 2 * high * left) // (2 * wide)))
        stop = min(stop, -((add - 2 * high * right) // (2 * wide)))
    over, down = (1 if dx >= 0 else -1), (1 if dy >= 0 else -1)
    spans: list[Span] = []
    for step in range(begin, stop):
        at = x + over * ((2 * wide * step + add) // (2 * high))
        spans.append((at, y + down * step, at + 1))
    return spans


class Clip:
    """A region, arranged for cutting spans."""

    def __init__(self, region: Region) -> None:
        self.box: Box = bounds(region) or (0, 0, 0, 0)
        self._tops: list[int] = []
        self._bands: list[tuple[int, list[int], list[int]]] = []
        for left, top, right, bottom in region:
            if not self._tops or self._tops[-1] != top:
                self._tops.append(top)
                self._bands.append((bottom, [], []))
            self._bands[-1][1].append(left)
            self._bands[-1][2].append(right)

    def cut(self, spans: Iterable[Span], budget: Budget) -> Region:
        """What the region lets through, as boxes of one row each, in the order of the spans."""
        region: Region = []
        for left, y, right in spans:
            budget.spend(1)
            place = bisect_right(self._tops, y) - 1
            if place < 0 or y >= self._bands[place][0]:
                continue
            _, lefts, rights = self._bands[place]
            at = bisect_right(rights, left)
            first = len(region)
            while at < len(lefts) and lefts[at] < right:
                region.append((max(left, lefts[at]), y, min(right, rights[at]), y + 1))
                at += 1
            budget.spend(max(0, len(region) - first - 1))
        return region
