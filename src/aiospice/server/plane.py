# cython: language_level=3, annotation_typing=False
"""One surface as a client has it: where it shows something else, and where it is only rough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.server.region import Box, add, cut, intersect, meet, shift

if TYPE_CHECKING:
    from aiospice.server.operations import Copy

__all__ = ["Plane"]


class Plane:
    """One surface as the client has it."""

    __slots__ = ("alpha", "created", "dirty", "fading", "height", "lossy", "width")

    def __init__(self, width: int, height: int, alpha: bool, created: bool = False) -> None:
        self.width = width
        self.height = height
        self.alpha = alpha
        #: The client has been told of it, or will be by what is queued.
        self.created = created
        #: Where it shows something else.
        self.dirty: list[Box] = [(0, 0, width, height)]
        #: Where it was roughly right some time ago, and where since not long ago.
        self.lossy: list[Box] = []
        self.fading: list[Box] = []

    def clip(self, box: Box) -> Box | None:
        """What of a box is on the surface."""
        return intersect(box, (0, 0, self.width, self.height))

    def spoil(self, box: Box) -> None:
        """The client shows something else there."""
        inside = self.clip(box)
        if inside is not None:
            self.dirty = add(self.dirty, inside)

    def forget(self, box: Box) -> None:
        """Something else sees to what is there."""
        self.dirty = cut(self.dirty, box)
        self.sharpen(box)

    def sharpen(self, box: Box) -> None:
        """What is there is exact now."""
        if self.lossy:
            self.lossy = cut(self.lossy, box)
        if self.fading:
            self.fading = cut(self.fading, box)

    def blur(self, box: Box) -> None:
        """What is there is only roughly right now."""
        inside = self.clip(box)
        if inside is not None:
            self.lossy = cut(self.lossy, inside)
            self.fading = add(self.fading, inside)

    def drag(self, copy: Copy) -> None:
        """What is rough comes along with what is copied."""
        for name in ("lossy", "fading"):
            region = getattr(self, name)
            if region:
                moved = shift(meet(region, copy.source), copy.dx, copy.dy)
                region = cut(region, copy.box)
                for box in moved:
                    region = add(region, box)
                setattr(self, name, region)
