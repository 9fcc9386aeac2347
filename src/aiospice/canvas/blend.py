"""Laying pixels over others by their alpha, glyphs, colour keys, and operations on three inputs.

Every function takes a region whose boxes lie inside of the surface. Facts: spice-common
``common/canvas_base.c``, ``common/sw_canvas.c`` and ``common/rop3.c``; the arithmetic of alpha is
pixman's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas import kernel, raster
from aiospice.canvas.pixels import A8, ARGB, BYTES, RGB555, RGB565, XRGB, Pixels
from aiospice.canvas.region import bounds, intersect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.canvas.region import Box, Region

__all__ = ["Glyph", "key", "key_colour", "lay", "lay_colour", "rop3", "string_mask", "view_of"]

#: Left, top, width, height, and rows of whole bytes.
Glyph = tuple[int, int, int, int, bytes]

# Bytes of a surface that ROP3 works on at a time.
_STRIP = 1 << 18


def view_of(whole: Pixels, box: Box) -> Pixels:
    """A box of pixels, not copied."""
    left, top, right, bottom = box
    offset = whole.offset + top * whole.stride + left * BYTES[whole.format]
    return Pixels(right - left, bottom - top, whole.format, whole.data, offset, whole.stride)


def _place(image: Pixels, x: int, y: int) -> int:
    return image.offset + y * image.stride + x * BYTES[image.format]


def _wide(surface: Pixels, box: Box) -> Pixels:
    """A box of a surface as pixels of 32 bit to draw on: its own, or a copy."""
    part = view_of(surface, box)
    if BYTES[surface.format] == 4:
        return part
    wide = part.converted(XRGB)
    return Pixels(part.width, part.height, ARGB if part.format == A8 else XRGB, wide.data)


def _put_back(surface: Pixels, box: Box, wide: Pixels) -> None:
    if wide.data is not surface.data:
        narrow = wide.converted(surface.format)
        raster.blit(surface, [box], narrow, box[0], box[1])


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
    """
    region = _within(region, (dx, dy, dx + image.width, dy + image.height))
    if image.data is surface.data:
        image = image.copy()
    opaque = image.format not in (ARGB, A8)
    if BYTES[image.format] != 4:
        opaque = image.format != A8
        image = image.converted(XRGB)
    return _lay(surface, region, (image, dx, dy), opaque, mask, part, alpha)


def lay_colour(surface: Pixels, region: Region, colour: int, mask: tuple[Pixels, int, int]) -> int:
    """Lay one colour (0x00RRGGBB, whatever the surface is) over the region, through a mask."""
    pixel = Pixels(1, 1, XRGB, colour.to_bytes(4, "little"))
    return _lay(surface, region, (pixel, None, None), True, mask, 255, None)


def _within(region: Region, box: Box) -> Region:
    return [part for part in [intersect(one, box) for one in region] if part is not None]


def _lay(
    surface: Pixels,
    region: Region,
    source: tuple[Pixels, int | None, int | None],
    opaque: bool,
    mask: tuple[Pixels, int, int] | None,
    part: int,
    alpha: bool | None,
) -> int:
    if mask is not None:
        region = _within(
            region, (mask[1], mask[2], mask[1] + mask[0].width, mask[2] + mask[0].height)
        )
    image, dx, dy = source
    has_alpha = surface.format in (ARGB, A8)
    if alpha is not None and BYTES[surface.format] == 4:
        has_alpha = alpha
    for box in region:
        left, top, right, bottom = box
        wide = _wide(surface, box)
        begin = image.offset
        if dx is not None and dy is not None:
            begin = _place(image, left - dx, top - dy)
        parts = None
        if mask is not None:
            parts = (mask[0].data, _place(mask[0], left - mask[1], top - mask[2]), mask[0].stride)
        kernel.over(
            wide.data, wide.offset, wide.stride, right - left, bottom - top,
            image.data, begin, image.stride,
            solid=dx is None, mask=parts, part=part, opaque=opaque, alpha=has_alpha,
        )  # fmt: skip
        _put_back(surface, box, wide)
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
            mask.data, _place(mask, part[0] - around[0], part[1] - around[1]), mask.stride,
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
    if image.data is surface.data:
        image = image.copy()
    for left, top, right, bottom in region:
        kernel.key(
            surface.data, _place(surface, left, top), surface.stride, right - left, bottom - top,
            image.data, _place(image, left - dx, top - dy), image.stride,
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
    if image.data is surface.data:
        image = image.copy()
    if not isinstance(brush, int) and brush[0].data is surface.data:
        brush = (brush[0].copy(), brush[1], brush[2])
    for left, top, right, bottom in region:
        rows = max(1, _STRIP // ((right - left) * BYTES[surface.format]))
        for y in range(top, bottom, rows):
            box = (left, y, right, min(bottom, y + rows))
            _rop3_box(surface, box, code, (image, dx, dy), brush)
    return _count(region)


def _rop3_box(
    surface: Pixels,
    box: Box,
    code: int,
    source: tuple[Pixels, int, int],
    brush: int | tuple[Pixels, int, int],
) -> None:
    """Where the brush's bits are 1 the upper half of the table holds, elsewhere the lower."""
    left, top, right, bottom = box
    size, format = (right - left, bottom - top), surface.format
    whole = [(0, 0, *size)]
    old = view_of(surface, box).copy()
    image, dx, dy = source
    one, other = Pixels(*size, format), Pixels(*size, format)
    for pixels, table in ((one, code >> 4), (other, code & 15)):
        raster.blit(pixels, whole, old, 0, 0)
        raster.blit(pixels, whole, image, dx - left, dy - top, table)
    ink = Pixels(*size, format)
    if isinstance(brush, int):
        raster.fill(ink, whole, brush)
    else:
        raster.tile(ink, whole, brush[0], brush[1] - left, brush[2] - top)
    raster.blit(one, whole, ink, 0, 0, 0b1000)  # one AND ink
    raster.blit(other, whole, ink, 0, 0, 0b0010)  # other AND NOT ink
    raster.blit(one, whole, other, 0, 0, 0b1110)
    raster.blit(surface, [box], one, left, top)
