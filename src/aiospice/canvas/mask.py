"""Drawing through a mask: what a draw did is taken back where the mask has no bit.

A mask is `Pixels` of format A1, one byte a pixel, 0 or 255. Facts: ``canvas_mask_pixman`` in
spice-common ``common/canvas_base.c``; beyond the mask's edges nothing is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from aiospice.canvas import kernel
from aiospice.canvas.pixels import BYTES, Pixels
from aiospice.canvas.region import bounds, intersect

if TYPE_CHECKING:
    from aiospice.canvas.region import Box, Region

__all__ = ["Area"]


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
            self._saved = self.surface.view(box).copy()
            self._corner = (box[0], box[1])
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None and self.mask is not None:
            for box in self.region:
                self._take_back(self._saved, self.mask, box)
            self._saved = None

    def _take_back(self, saved: Pixels, mask: Pixels, box: Box) -> None:
        left, top, right, bottom = box
        surface = self.surface
        kernel.blend(
            surface.data, surface.place(left, top), surface.stride, right - left, bottom - top,
            saved.data, saved.place(left - self._corner[0], top - self._corner[1]), saved.stride,
            mask.data, mask.place(left - self.origin[0], top - self.origin[1]), mask.stride,
            BYTES[surface.format], 0 if self.inverted else 255,
        )  # fmt: skip
