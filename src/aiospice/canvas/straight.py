"""Composites that need no arrays: SRC, OVER and ADD of images that are neither turned nor scaled.

These are what real screens are made of: windows with alpha, and glyphs, which are one colour
through a small part of a large mask. See `aiospice.canvas.composite` for all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas import layers, raster
from aiospice.canvas.blend import layer_of, solid
from aiospice.canvas.pixels import A8, ARGB, BYTES, Pixels
from aiospice.canvas.region import intersect

if TYPE_CHECKING:
    from aiospice.canvas.composite import Source
    from aiospice.canvas.layers import Layer
    from aiospice.canvas.region import Box

__all__ = ["copied", "straight"]

_ONE = 1 << 16
_OPERATORS = frozenset((layers.SRC, layers.OVER, layers.ADD))
# ``PIXMAN_REPEAT_*``.
_NONE, _NORMAL = 0, 1

#: An image and where on the surface its pixel (0, 0) lies; no place: its only pixel is everywhere.
_Placed = tuple[Pixels, tuple[int, int] | None]


def straight(
    surface: Pixels,
    box: Box,
    corner: tuple[int, int],
    operator: int,
    source: Source,
    mask: Source | None,
    *,
    each: bool,
) -> bool:
    """Draw as `composite.composite` does if that can be done here; tell whether it was.

    ``each``: every channel of the mask counts for itself. Takes memory for an image that repeats:
    as much as it covers of the box.
    """
    if operator not in _OPERATORS or BYTES[surface.format] == 2:
        return False
    one = _placed(source, box, corner)
    other = None if mask is None else _placed(mask, box, corner)
    if one is None or (mask is not None and other is None):
        return False
    seen: Box | None = box
    for image, place in [one] if other is None else [one, other]:
        if place is not None and seen is not None:
            x, y = place
            seen = intersect(seen, (x, y, x + image.width, y + image.height))
    if operator == layers.SRC and seen != box:
        raster.fill(surface, [box], 0)  # beyond its edges an image is transparent
    if seen is not None:
        left, top, right, bottom = seen
        through = None if other is None else _layer(other, left, top)
        layers.lay(
            operator, right - left, bottom - top, layer_of(surface, left, top),
            _layer(one, left, top), through, each,
        )  # fmt: skip
    return True


def copied(surface: Pixels, box: Box, corner: tuple[int, int], source: Source) -> bool:
    """Copy a source that covers the box, with all of its bytes; tell whether that was done."""
    one = _placed(source, box, corner)
    if one is None or one[1] is None:
        return False
    raster.blit(surface, [box], one[0], *one[1])
    return True


def _placed(source: Source, box: Box, corner: tuple[int, int]) -> _Placed | None:
    """Where an image lies; None for one that is turned, scaled, reflected, or has 16 bit.

    An image that repeats is laid out for the box where that is beyond its edges.
    """
    (xx, xy, x0), (yx, yy, y0) = source.matrix
    image = source.image
    if (xx, xy, yx, yy) != (_ONE, 0, 0, _ONE) or (x0 | y0) % _ONE or BYTES[image.format] == 2:
        return None
    x = corner[0] - source.origin[0] - (x0 >> 16)
    y = corner[1] - source.origin[1] - (y0 >> 16)
    left, top, right, bottom = box
    if source.repeat == _NONE:
        return image, (x, y)
    if image.width == image.height == 1:
        return image, None
    if left >= x and top >= y and right <= x + image.width and bottom <= y + image.height:
        return image, (x, y)
    if source.repeat != _NORMAL:
        return None
    tiled = Pixels(right - left, bottom - top, image.format)
    raster.tile(tiled, [(0, 0, tiled.width, tiled.height)], image, x - left, y - top)
    return tiled, (left, top)


def _layer(placed: _Placed, left: int, top: int) -> Layer:
    """The pixels from (left, top) of the surface on."""
    image, place = placed
    if place is None:
        pixel = bytes(image.data[image.offset : image.offset + BYTES[image.format]])
        return solid(pixel, alpha=image.format in (ARGB, A8))
    return layer_of(image, left - place[0], top - place[1])
