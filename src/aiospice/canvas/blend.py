"""Laying pixels over others by their alpha, glyphs, colour keys, and operations on three inputs.

Every function takes a region whose boxes lie inside of the surface. Facts: spice-common
``common/canvas_base.c``, ``common/sw_canvas.c`` and ``common/rop3.c``; the arithmetic of alpha is
pixman's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas import kernel, layers, raster, rows
from aiospice.canvas.pixels import A8, ARGB, BYTES, RGB555, RGB565, XRGB, Pixels
from aiospice.canvas.region import bounds, intersect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.canvas.layers import Layer
    from aiospice.canvas.region import Box, Region

__all__ = [
    "Glyph",
    "key",
    "key_colour",
    "lay",
    "lay_colour",
    "layer_of",
    "rop3",
    "solid",
    "string_mask",
]

#: Left, top, width, height, and rows of whole bytes.
Glyph = tuple[int, int, int, int, bytes]

# Bytes of a surface that ROP3 works on at a time.
_STRIP = 1 << 18


def layer_of(image: Pixels, x: int = 0, y: int = 0, *, alpha: bool | None = None) -> Layer:
    """Pixels of 8 or 32 bit from (x, y) on, for `layers.lay`; ``alpha`` rules their format."""
    has_alpha = image.format in (ARGB, A8) if alpha is None else alpha
    size = BYTES[image.format]
    return (image.data, image.place(x, y), image.stride, size, has_alpha, False)


def solid(pixel: bytes, *, alpha: bool = True) -> Layer:
    """One pixel of 8 or 32 bit for all, for `layers.lay`."""
    return (pixel * layers.PIECE, 0, 0, len(pixel), alpha, True)


def lay(
    surface: Pixels,
    region: Region,
    image: Pixels,
    dx: int,
    dy: int,
    *,
    mask: tuple[Pixels, int, int] | None = None,
    part: int = 255,
    alpha: bool | None = None,
) -> int:
    """Lay an image, whose pixel (0, 0) goes to ``(dx, dy)``, over the region; return how many.

    ``mask`` is pixels of one byte and where they go, ``part`` (0 to 255) how much is laid.
    The image's format says whether it has alpha; ``alpha`` says it of a surface of 32 bit, if it
    isn't as the format has it. Where image or mask don't reach nothing happens.

    The fourth byte of a surface without alpha changes as pixman changes it: later draws may take it
    for alpha. It is copied from an opaque image that covers the region, and else changed as alpha.
    """
    inside = _within(region, (dx, dy, dx + image.width, dy + image.height))
    covered = _count(inside) == _count(region)
    image, dx, dy = _apart(surface, inside, image, dx, dy)
    if BYTES[image.format] == 2:
        image = image.converted(XRGB)
    opaque = surface.format == image.format == XRGB and not alpha
    if opaque and covered and mask is None and part == 255:
        return raster.blit(surface, inside, image, dx, dy)
    return _lay(surface, inside, (image, dx, dy), mask, part)


def lay_colour(surface: Pixels, region: Region, colour: int, mask: tuple[Pixels, int, int]) -> int:
    """Lay one colour (0x00RRGGBB, whatever the surface is) over the region, through a mask."""
    return _lay(surface, region, solid(colour.to_bytes(4, "little"), alpha=False), mask, 255)


def _within(region: Region, box: Box) -> Region:
    return [part for part in [intersect(one, box) for one in region] if part is not None]


def _apart(
    surface: Pixels, region: Region, image: Pixels, dx: int, dy: int
) -> tuple[Pixels, int, int]:
    """An image, and where it goes, that isn't the surface itself; the part of it that is used."""
    around = bounds(region)
    if image.data is not surface.data or around is None:
        return image, dx, dy
    left, top, right, bottom = around
    part = image.view((left - dx, top - dy, right - dx, bottom - dy))
    return part.copy(), left, top


def _layer_at(placed: tuple[Pixels, int, int], left: int, top: int) -> Layer:
    image, dx, dy = placed
    return layer_of(image, left - dx, top - dy)


def _lay(
    surface: Pixels,
    region: Region,
    source: Layer | tuple[Pixels, int, int],
    mask: tuple[Pixels, int, int] | None,
    part: int,
) -> int:
    if mask is not None:
        region = _within(
            region, (mask[1], mask[2], mask[1] + mask[0].width, mask[2] + mask[0].height)
        )
    parts = solid(bytes((part,))) if part != 255 else None
    for box in region:
        left, top, right, bottom = box
        place = surface.view(box)
        wide = place.converted(XRGB) if BYTES[surface.format] == 2 else place
        if mask is not None:
            parts = layer_of(mask[0], left - mask[1], top - mask[2])
        one = _layer_at(source, left, top) if len(source) == 3 else source
        layers.lay(
            layers.OVER, right - left, bottom - top, layer_of(wide, alpha=True), one, parts, False
        )
        if wide is not place:
            raster.blit(surface, [box], wide.converted(surface.format), left, top)
    return _count(region)


def _count(region: Region) -> int:
    return sum([(right - left) * (bottom - top) for left, top, right, bottom in region])


def string_mask(
    glyphs: Iterable[Glyph], depth: int, box: Box, *, top_down: bool = False
) -> tuple[Pixels, int, int] | None:
    """The glyphs inside of a box as one mask, and where it goes; None when nothing is.

    ``depth`` is 1, 4 or 8 bits a pixel. The first row is the lowest unless ``top_down``. Takes
    memory for the box at most, and time for the bytes of the glyphs.
    """
    shown = []
    for glyph in glyphs:
        left, top, width, height, _ = glyph
        part = intersect((left, top, left + width, top + height), box)
        if part is not None:
            shown.append((part, glyph))
    around = bounds(part for part, _ in shown)
    if around is None:
        return None
    mask = Pixels(around[2] - around[0], around[3] - around[1], A8)
    for part, (left, top, width, height, data) in shown:
        step = (width * depth + 7) // 8
        skipped = part[1] - top
        row = skipped if top_down else height - 1 - skipped
        kernel.stamp(
            mask.data, mask.place(part[0] - around[0], part[1] - around[1]), mask.stride,
            part[2] - part[0], part[3] - part[1],
            data, row * step, step if top_down else -step, part[0] - left, depth,
        )  # fmt: skip
    return mask, around[0], around[1]


def key_colour(colour: int, format: int) -> int:
    """A colour 0x00RRGGBB as a pixel of a surface; 0 for formats without colours."""
    if format == RGB555:
        return colour >> 3 & 0x1F | colour >> 6 & 0x3E0 | colour >> 9 & 0x7C00
    if format == RGB565:
        return colour >> 3 & 0x1F | colour >> 5 & 0x7E0 | colour >> 8 & 0xF800
    return colour & 0xFFFFFF if BYTES[format] == 4 else 0


def key(surface: Pixels, region: Region, image: Pixels, dx: int, dy: int, colour: int) -> int:
    """Copy an image of the surface's format, but for the pixels of one colour; return how many."""
    region = _within(region, (dx, dy, dx + image.width, dy + image.height))
    image, dx, dy = _apart(surface, region, image, dx, dy)
    for left, top, right, bottom in region:
        kernel.key(
            surface.data, surface.place(left, top), surface.stride, right - left, bottom - top,
            image.data, image.place(left - dx, top - dy), image.stride,
            BYTES[surface.format], colour,
        )  # fmt: skip
    return _count(region)


def rop3(
    surface: Pixels,
    region: Region,
    code: int,
    source: tuple[Pixels, int, int],
    brush: int | tuple[Pixels, int, int],
) -> int:
    """Combine the region with an image and a brush; return how many pixels.

    ``code`` is the truth table: bit ``4 * brush + 2 * source + target`` is the result. ``source``
    is an image of the surface's format and where it goes, ``brush`` a colour or an image to be
    repeated and where it begins. Where the source doesn't reach nothing happens.
    """
    image, dx, dy = source
    region = _within(region, (dx, dy, dx + image.width, dy + image.height))
    image, dx, dy = _apart(surface, region, image, dx, dy)
    if not isinstance(brush, int) and brush[0].data is surface.data:
        brush = (brush[0].copy(), brush[1], brush[2])
    form = bytes(raster.form_of(code & 15))
    form += bytes(one ^ other for one, other in zip(form, raster.form_of(code >> 4), strict=True))
    size = BYTES[surface.format]
    for left, top, right, bottom in region:
        length = (right - left) * size
        step = max(1, _STRIP // length)
        for y in range(top, bottom, step):
            count = min(step, bottom - y)
            ink = Pixels(right - left, count, surface.format)
            if isinstance(brush, int):
                raster.fill(ink, [(0, 0, ink.width, count)], brush)
            else:
                place = (brush[1] - left, brush[2] - y)
                raster.tile(ink, [(0, 0, ink.width, count)], brush[0], *place)
            rows.mix3(
                surface.data, surface.place(left, y), surface.stride, length, count,
                image.data, image.place(left - dx, y - dy), image.stride,
                ink.data, 0, ink.stride, form,
            )  # fmt: skip
    return _count(region)
