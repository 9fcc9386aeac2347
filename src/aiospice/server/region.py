"""Regions as short lists of boxes: what a client doesn't have, or has only roughly.

A box is ``(left, top, right, bottom)`` in pixels, the last two exclusive. A list never grows beyond
`MAX_BOXES`: boxes are joined then, so that a region may cover more than was added to it, and boxes
may overlap. It never covers less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas.region import Box, bounds, intersect

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["MAX_BOXES", "Box", "add", "area", "bounds", "cut", "intersect", "meet", "shift", "size"]

#: The most boxes of a region.
MAX_BOXES = 32


def size(box: Box) -> int:
    """Pixels of a box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def area(region: Iterable[Box]) -> int:
    """Pixels of all boxes; those of several count as often."""
    return sum(size(box) for box in region)


def cut(region: Sequence[Box], hole: Box) -> list[Box]:
    """The region without a box."""
    left, top, right, bottom = hole
    kept: list[Box] = []
    for box in region:
        a, b, c, d = box
        if a >= right or c <= left or b >= bottom or d <= top:
            kept.append(box)
            continue
        if b < top:
            kept.append((a, b, c, top))
        upper, lower = max(b, top), min(d, bottom)
        if a < left:
            kept.append((a, upper, left, lower))
        if c > right:
            kept.append((right, upper, c, lower))
        if d > bottom:
            kept.append((a, bottom, c, d))
    return _few(kept)


def add(region: Sequence[Box], box: Box) -> list[Box]:
    """The region and a box."""
    if box[0] >= box[2] or box[1] >= box[3]:
        return list(region)
    for known in region:
        if known[0] <= box[0] and known[1] <= box[1] and box[2] <= known[2] and box[3] <= known[3]:
            return list(region)
    return _few([*cut(region, box), box])


def meet(region: Sequence[Box], box: Box) -> list[Box]:
    """What the region and a box share."""
    return [part for part in (intersect(known, box) for known in region) if part is not None]


def shift(region: Sequence[Box], dx: int, dy: int) -> list[Box]:
    """The region, moved."""
    return [(a + dx, b + dy, c + dx, d + dy) for a, b, c, d in region]


def _few(region: list[Box]) -> list[Box]:
    """Join neighbours, those that waste least first, until there are few enough."""
    while len(region) > MAX_BOXES:
        region.sort(key=lambda box: (box[1], box[0]))
        pairs = list(zip(region[::2], region[1::2], strict=False))
        rest = region[2 * len(pairs) :]
        region = [_around(one, other) for one, other in pairs] + rest
    return region


def _around(one: Box, other: Box) -> Box:
    return (
        min(one[0], other[0]),
        min(one[1], other[1]),
        max(one[2], other[2]),
        max(one[3], other[3]),
    )
