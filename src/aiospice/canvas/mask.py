"""Drawing through a mask: what a draw did is taken back where the mask has no bit.

A mask is `Pixels` of format A1, one byte a pixel, 0 or 255. Facts: ``canvas_mask_pixman`` in
spice-common ``common/canvas_base.c``; beyond the mask's edges nothing is drawn.
"""

from __future__ import annotations

from typing import Self

from aiospice.canvas.pixels import BYTES, Pixels
from aiospice.canvas.region import Box, Region, bounds, intersect

__all__ = ["Area"]

_FLIPPED = bytes(255 - v for v in range(256))


class Area:
    """The part of a surface that a draw may touch; a context in which the draw is done.

    ``region`` lies inside of the surface. ``origin`` is where the mask's pixel (0, 0) lies on the
    surface; ``inverted`` draws where the mask is 0. Costs a copy of the region's box if there is
    a mask and nothing if there is none.
    """

    __slots__ = ("_corner", "_saved", "inverted", "mask", "origin", "region", "surface")

    def __init__(
        self,
        surface: Pixels,
        region: Region,
        mask: Pixels | None = None,
        origin: tuple[int, int] = (0, 0),
        inverted: bool = False,
    ) -> None:
        self.surface = surface
        self.mask = mask
        self.origin = origin
        self.inverted = inverted
        self.region = region
        if mask is not None:
            reach = (*origin, origin[0] + mask.width, origin[1] + mask.height)
            cut = [intersect(box, reach) for box in region]
            self.region = [box for box in cut if box is not None]
        self._saved: Pixels | None = None
        self._corner = (0, 0)

    def __enter__(self) -> Self:
        box = bounds(self.region) if self.mask is not None else None
        if box is not None:
            self._saved = self._part(box).copy()
            self._corner = (box[0], box[1])
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            for box in self.region:
                self._take_back(box)
            self._saved = None

    def _part(self, box: Box) -> Pixels:
        """A view of a box of the surface."""
        whole = self.surface
        left, top, right, bottom = box
        offset = whole.offset + top * whole.stride + left * BYTES[whole.format]
        return Pixels(right - left, bottom - top, whole.format, whole.data, offset, whole.stride)

    def _take_back(self, box: Box) -> None:
        left, top, right, bottom = box
        assert self._saved is not None
        size = BYTES[self.surface.format]
        length = (right - left) * size
        now, old = memoryview(self.surface.data), memoryview(self._saved.data)
        for y in range(top, bottom):
            to = self.surface.offset + y * self.surface.stride + left * size
            at = (y - self._corner[1]) * self._saved.stride + (left - self._corner[0]) * size
            bits = self._bits(left, y, right - left, size)
            kept = int.from_bytes(old[at : at + length], "little")
            made = int.from_bytes(now[to : to + length], "little")
            mixed = kept ^ ((kept ^ made) & bits)
            now[to : to + length] = mixed.to_bytes(length, "little")

    def _bits(self, x: int, y: int, count: int, size: int) -> int:
        """Ones for all bits of the pixels that are drawn, of ``count`` in a row from (x, y)."""
        mask = self.mask
        assert mask is not None
        at = mask.offset + (y - self.origin[1]) * mask.stride + x - self.origin[0]
        row = bytes(mask.data[at : at + count])
        if self.inverted:
            row = row.translate(_FLIPPED)
        wide = bytearray(count * size)
        for plane in range(size):
            wide[plane::size] = row
        return int.from_bytes(wide, "little")
