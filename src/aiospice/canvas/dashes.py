"""Dashed lines: each dash is a polygon one pixel wide, cut across where it ends.

Facts: spice-common ``common/lines.c`` (the wide dashed lines of the X server, at width 1, with
ends that are not drawn and pointed corners). The arithmetic is that one's, in the same order, as
rounding decides which pixels a dash has.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil, hypot
from typing import TYPE_CHECKING

from aiospice.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiospice.canvas.lines import Budget, Place, Span
    from aiospice.canvas.region import Box

__all__ = ["dash_list", "dashed", "united"]

# 1 / sin(11 / 2 degrees) squared: corners that are more pointed are cut off.
_MITER = 108.856472512142

_Vertex = tuple[float, float]
#: Steps of x and y, and the constant of the line's equation.
_Slope = tuple[int, int, float]


class _Edge:
    """A side of a polygon, walked down row by row; ``height`` is how many rows it has."""

    __slots__ = ("dx", "dy", "error", "height", "sign", "step", "top", "x")

    def __init__(self, y0: float, slope: _Slope, corner: Place, left: int) -> None:
        dx, dy, k = slope
        if dy < 0:
            dx, dy, k = -dx, -dy, -k
        y = ceil(y0)
        over = ceil(k) + y * dx
        x = -(-over // dy) - 1 if over <= 0 else (over - 1) // dy
        error = over - x * dy
        self.sign = 1 if dx >= 0 else -1
        self.step, self.dx = self.sign * (abs(dx) // dy), abs(dx) % dy
        if dx < 0:
            error = dy - error + 1
        self.dy = dy
        self.x = x + left + corner[0]
        self.error = error - dy
        self.top = y + corner[1]
        self.height = 0


class _Side:
    """The edges of one side, one after the other."""

    __slots__ = ("edge", "edges", "error", "height", "x")

    def __init__(self, edges: list[_Edge]) -> None:
        self.edges = edges[::-1]
        self.height = self.x = self.error = 0

    def more(self) -> bool:
        return bool(self.edges or self.height)

    def load(self) -> None:
        if not self.height and self.edges:
            self.edge = edge = self.edges.pop()
            self.height, self.x, self.error = edge.height, edge.x, edge.error

    def step(self) -> None:
        edge = self.edge
        self.x += edge.step
        self.error += edge.dx
        if self.error > 0:
            self.x += edge.sign
            self.error -= edge.dy


def _polygon(vertices: Sequence[_Vertex], slopes: Sequence[_Slope], corner: Place) -> list[Span]:
    """The pixels of a convex polygon whose side ``i`` goes from vertex ``i`` to the next."""
    count = len(vertices)
    heights = [y for _, y in vertices]
    top = heights.index(min(heights))
    bottom = max(place for place in range(count) if heights[place] == max(heights))
    before = (top - 1) % count
    turned = slopes[before][1] * slopes[top][0] > slopes[top][1] * slopes[before][0]
    way, side = (-1, -1) if turned else (1, 0)
    last = ceil(heights[bottom]) + corner[1]
    right = _edges(vertices, slopes, corner, (top, bottom, way, side), 0)
    left = _edges(vertices, slopes, corner, (top, bottom, -way, -1 - side), 1)
    for edges in (left, right):
        for edge, under in pairwise(edges):
            edge.height = under.top - edge.top
        if edges:
            edges[-1].height = last - edges[-1].top
    return _filled(right[0].top, _Side(left), _Side(right)) if right else []


def _edges(
    vertices: Sequence[_Vertex],
    slopes: Sequence[_Slope],
    corner: Place,
    walk: tuple[int, int, int, int],
    left: int,
) -> list[_Edge]:
    at, bottom, way, side = walk
    edges = []
    place = (at + side) % len(vertices)
    while at != bottom:
        if slopes[place][1]:
            edges.append(_Edge(vertices[at][1], slopes[place], corner, left))
        at = (at + way) % len(vertices)
        place = (place + way) % len(vertices)
    return edges


def _filled(y: int, left: _Side, right: _Side) -> list[Span]:
    spans: list[Span] = []
    while left.more() and right.more():
        left.load()
        right.load()
        rows = min(left.height, right.height)
        left.height -= rows
        right.height -= rows
        for _ in range(rows):
            if right.x >= left.x:
                spans.append((left.x, y, right.x + 1))
            y += 1
            left.step()
            right.step()
    return spans


def dash_list(style: Sequence[int], *, gap_first: bool) -> tuple[list[int], int]:
    """Lengths of dashes and gaps in pixels, and how far into them a line begins.

    ``style`` has the lengths in sixteenths; what is beyond 255 pixels wraps around, as upstream.
    Raises `RemoteProtocolError` for a style in which nothing has a length.
    """
    dashes = [((length + 7) >> 4) & 255 for length in style]
    if not any(dashes):
        raise RemoteProtocolError("dashes and gaps without any length")
    if gap_first:
        dashes = dashes[1:] + dashes[:1]
    return dashes, dashes[0] if gap_first else 0


class _Pen:
    """Where in the dashes a line is: which one, and how many pixels into it."""

    __slots__ = ("budget", "dashes", "into", "place")

    def __init__(self, dashes: list[int], offset: int, budget: Budget) -> None:
        self.dashes = dashes
        self.budget = budget
        self.place = self.into = 0
        self._go(offset)

    def _go(self, distance: int) -> None:
        rest = self.dashes[self.place] - self.into
        if distance < rest:
            self.into += distance
            return
        distance = (distance - rest) % sum(self.dashes)
        self._next()
        while distance >= self.dashes[self.place]:
            distance -= self.dashes[self.place]
            self._next()
        self.into = distance

    def _next(self) -> None:
        self.budget.spend(1)
        self.place = (self.place + 1) % len(self.dashes)

    @property
    def down(self) -> bool:
        return not self.place & 1

    def segment(self, start: Place, end: Place) -> list[Span]:
        """Draw the dashes of one line."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length, (rx, ry) = _measures(dx, dy)
        spans: list[Span] = []
        one, other = (ry, -rx), (-ry, rx)  # the two sides, as far as has been drawn
        # Constants: both sides, and the end of the dash before.
        along, across = 0.5 * length, 0.0
        rest = length
        remain = self.dashes[self.place] - self.into
        while rest > remain:
            step_x, step_y = (remain * dx) / length, (remain * dy) / length
            ahead = (one[0] + step_x, one[1] + step_y)
            behind = (other[0] + step_x, other[1] + step_y)
            new = ahead[0] * dx + ahead[1] * dy
            if self.down:
                slopes = [(dx, dy, along), (-dy, dx, new), (-dx, -dy, along), (dy, -dx, across)]
                spans += _polygon((one, ahead, behind, other), slopes, start)
            rest -= remain
            self._next()
            remain = self.dashes[self.place]
            one, other, across = ahead, behind, -new
        if self.down:
            back = (one[0] - dx, one[1] - dy), (other[0] - dx, other[1] - dy)
            final = across + (dx * dx + dy * dy)
            slopes = [(dx, dy, along), (-dy, dx, 0.0), (-dx, -dy, along), (dy, -dx, final)]
            spans += _polygon((back[0], (ry, -rx), (-ry, rx), back[1]), slopes, end)
        remain = int(remain - rest)
        if remain == 0:
            self._next()
            remain = self.dashes[self.place]
        self.into = self.dashes[self.place] - remain
        return spans


def _measures(dx: int, dy: int) -> tuple[float, _Vertex]:
    """The length of a line, and half a pixel along it as x and y."""
    if dx == 0:
        return float(abs(dy)), (0.0, 0.5 if dy > 0 else -0.5)
    if dy == 0:
        return float(abs(dx)), (0.5 if dx > 0 else -0.5, 0.0)
    length = hypot(dx, dy)
    ratio = 0.5 / length
    return length, (ratio * dx, ratio * dy)


def dashed(
    points: list[Place], dashes: list[int], offset: int, budget: Budget, *, careful: bool
) -> list[Span]:
    """The pixels of lines between points, drawn in dashes (from `dash_list`).

    ``careful`` joins lines as is done where no pixel may be drawn twice (see `united`).
    """
    careful = careful and len(points) >= 3
    pen = _Pen(dashes, offset, budget)
    loop = points[0] == points[-1]
    spans: list[Span] = []
    first: tuple[Place, Place, Place] | None = None
    first_down = was_down = False
    last: tuple[Place, Place, Place] | None = None
    for start, end in pairwise(points):
        if start == end:
            continue
        starts, dx, dy = pen.down, end[0] - start[0], end[1] - start[1]
        spans += pen.segment(start, end)
        ends = bool(pen.place & 1) != bool(pen.into)
        face = (start, (dx, dy), start)
        if starts:
            if last is None:
                first, first_down = face, True
            elif was_down:
                spans += _join(face, last, careful=careful)
        last, was_down = (end, (-dx, -dy), end), ends
    # The last point of a loop that comes twice isn't a line, and nothing is joined there.
    if loop and first_down and was_down and first and last:
        spans += _join(first, last, careful=careful)
    return spans


def _side(way: Place) -> tuple[_Vertex, float]:
    """A face's corner and the constant of its side."""
    length, (rx, ry) = _measures(*way)
    return (ry, -rx), 0.5 * length


def _join(
    left: tuple[Place, Place, Place], right: tuple[Place, Place, Place], *, careful: bool
) -> list[Span]:
    """What fills the corner between a line that begins and one that ends at the same pixel."""
    corner, (ldx, ldy), _ = left
    rdx, rdy = right[1]
    if not careful and (ldx > 0 or (ldx == 0 and ldy > 0) or rdx > 0 or (rdx == 0 and rdy > 0)):
        return []
    bend = -ldx * float(rdy) + rdx * float(ldy)
    if bend == 0:
        return []
    (lx, ly), left_k = _side((ldx, ldy))
    (x, y), right_k = _side((-rdx, -rdy))
    x, y = -x, -y
    swap = bend <= 0
    if swap:
        x, y, rdx, rdy = -x, -y, -rdx, -rdy
    else:
        lx, ly, ldx, ldy = -lx, -ly, -ldx, -ldy
    my = (ldy * (x * rdy - y * rdx) - rdy * (lx * ldy - ly * ldx)) / bend
    from_x, from_y, way_x, way_y = (lx, ly, ldx, ldy) if ldy else (x, y, rdx, rdy)
    mx = from_x + (my - from_y) * float(way_x) / float(way_y)
    vertices = [(x, y), (0.0, 0.0), (lx, ly)]
    slopes: list[_Slope] = [(-rdy, rdx, 0.0), (ldy, -ldx, 0.0)]
    if (mx * mx + my * my) * 4 > _MITER:
        wide, high = x - lx, y - ly
        scale = max(abs(wide), abs(high))
        sx, sy = int((wide * 65536) / scale), int((high * 65536) / scale)
        slopes.append((sx, sy, ((lx + x) * sy - (ly + y) * sx) / 2.0))
        return _polygon(vertices, slopes, corner)
    vertices.append((mx, my))
    sign = -1 if swap else 1
    slopes.append((sign * ldx, sign * ldy, sign * left_k))
    slopes.append((sign * rdx, sign * rdy, sign * right_k))
    return _polygon(vertices, slopes, corner)


def united(spans: list[Span], box: Box) -> list[Span]:
    """The same pixels inside of a box, each once."""
    left, top, right, bottom = box
    made: list[Span] = []
    for one, y, two in sorted(spans, key=lambda span: (span[1], span[0])):
        one, two = max(one, left), min(two, right)
        if not (top <= y < bottom and one < two):
            continue
        if made and made[-1][1] == y and one <= made[-1][2]:
            made[-1] = (made[-1][0], y, max(two, made[-1][2]))
        else:
            made.append((one, y, two))
    return made
