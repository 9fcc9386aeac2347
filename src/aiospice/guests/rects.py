"""Rectangles of pixels: what windows cover and what is left."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Rect", "subtract", "without"]


class Rect(NamedTuple):
    """A rectangle; nothing is in it when width or height isn't positive."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column behind it."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.y + self.height

    @property
    def empty(self) -> bool:
        """Whether there is no pixel in it."""
        return self.width <= 0 or self.height <= 0

    def holds(self, x: int, y: int) -> bool:
        """Tell whether a pixel is in it."""
        return self.x <= x < self.right and self.y <= y < self.bottom

    def covers(self, other: Rect) -> bool:
        """Tell whether all of another rectangle is in it."""
        return (
            self.x <= other.x
            and self.y <= other.y
            and self.right >= other.right
            and self.bottom >= other.bottom
        )

    def moved(self, dx: int, dy: int) -> Rect:
        """Return the same size elsewhere."""
        return Rect(self.x + dx, self.y + dy, self.width, self.height)

    def common(self, other: Rect) -> Rect:
        """Return what is in both; `empty` if nothing is."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        return Rect(x, y, min(self.right, other.right) - x, min(self.bottom, other.bottom) - y)


def subtract(rect: Rect, hole: Rect) -> list[Rect]:
    """Return the up to four rectangles that are left of one when another is cut out."""
    inner = rect.common(hole)
    if rect.empty or inner.empty:
        return [] if rect.empty else [rect]
    parts = (
        Rect(rect.x, rect.y, rect.width, inner.y - rect.y),
        Rect(rect.x, inner.bottom, rect.width, rect.bottom - inner.bottom),
        Rect(rect.x, inner.y, inner.x - rect.x, inner.height),
        Rect(inner.right, inner.y, rect.right - inner.right, inner.height),
    )
    return [part for part in parts if not part.empty]


def without(rects: list[Rect], hole: Rect) -> list[Rect]:
    """Return what is left of several rectangles when one is cut out of each."""
    return [part for rect in rects for part in subtract(rect, hole)]
