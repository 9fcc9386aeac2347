"""Regions: lists of rectangles that don't overlap, in bands from top to bottom.

A box here is ``(left, top, right, bottom)``, the last two exclusive.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from aiospice.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_WORK", "Box", "Region", "bounds", "intersect", "region_of", "shifted"]

Box = tuple[int, int, int, int]
Region = list[Box]

#: Rectangles looked at while a region is put in order, summed over its bands. A list from a
#: real server is in order already and costs nothing.
MAX_WORK = 1 << 18


def intersect(one: Box, other: Box) -> Box | None:
    """What two boxes share, None when that is nothing."""
    left = max(one[0], other[0])
    top = max(one[1], other[1])
    right = min(one[2], other[2])
    bottom = min(one[3], other[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def region_of(box: Box, clip: Iterable[Box] | None) -> Region:
    """The part of ``box`` that the clip rectangles (None: everything) let through.

    The rectangles may overlap and come in any order, the region's don't and don't; it has each
    pixel once. Raises `RemoteProtocolError` when putting them in order takes more than `MAX_WORK`.
    """
    if clip is None:
        return [box] if box[0] < box[2] and box[1] < box[3] else []
    parts = [part for part in [intersect(box, rect) for rect in clip] if part is not None]
    return parts if _in_order(parts) else _bands(parts)


def _in_order(parts: Region) -> bool:
    """Tell whether the boxes are in bands from top to bottom, each from left to right."""
    last: Box | None = None
    for part in parts:
        if last is not None and part[1] < last[3]:
            same_band = part[1] == last[1] and part[3] == last[3]
            if not same_band or part[0] < last[2]:
                return False
        last = part
    return True


def _bands(parts: Region) -> Region:
    """Unite boxes: cut them at every top and bottom, then join what touches in each band."""
    edges = sorted({edge for part in parts for edge in (part[1], part[3])})
    waiting = sorted(parts, key=lambda part: part[1], reverse=True)
    active: Region = []
    region: Region = []
    work = 0
    for top, bottom in pairwise(edges):
        active = [part for part in active if part[3] > top]
        while waiting and waiting[-1][1] <= top:
            active.append(waiting.pop())
        work += len(active)
        if work > MAX_WORK:
            raise RemoteProtocolError(f"a clip of {len(parts)} rectangles that overlap too much")
        for left, right in _joined([(part[0], part[2]) for part in active]):
            region.append((left, top, right, bottom))
    return region


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for left, right in sorted(spans):
        if joined and left <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(right, joined[-1][1]))
        else:
            joined.append((left, right))
    return joined


def shifted(region: Region, dx: int, dy: int, within: Box) -> Region:
    """The region moved and cut to a box, its order kept."""
    moved = [
        intersect((left + dx, top + dy, right + dx, bottom + dy), within)
        for left, top, right, bottom in region
    ]
    return [box for box in moved if box is not None]


def bounds(region: Iterable[Box]) -> Box | None:
    """The smallest box around the region, None when it is empty."""
    boxes = list(region)
    if not boxes:
        return None
    return (
        min(box[0] for box in boxes),
        min(box[1] for box in boxes),
        max(box[2] for box in boxes),
        max(box[3] for box in boxes),
    )
