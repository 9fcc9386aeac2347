"""The draws of a display channel, one method each, on the surfaces of a `Screen`.

A method takes the parsed message and returns what it touched: a region of the surface and how many
pixels that were. Everything that can fail (images, masks, palettes) is read before the first pixel
is written. Facts: spice-common ``common/canvas_base.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aiospice.canvas import raster
from aiospice.canvas.mask import Area
from aiospice.canvas.pixels import A1, XRGB, Pixels
from aiospice.canvas.region import Box, Region, bounds, intersect, region_of
from aiospice.canvas.scale import scaled
from aiospice.client.images import CannotDraw
from aiospice.wire import display, draw
from aiospice.wire.images import (
    Brush,
    Image,
    ImageType,
    MaskFlags,
    Pattern,
    QMask,
    SolidColor,
    SurfaceImage,
)
from aiospice.wire.shapes import ClipType

if TYPE_CHECKING:
    from aiospice.client.images import ImageReader
    from aiospice.wire.shapes import DisplayBase, Rect

__all__ = ["Drawn", "Draws", "box_of"]

#: What was touched, and how many pixels.
Drawn = tuple[Region, int]
_NOTHING: Drawn = ([], 0)


def box_of(rect: Rect) -> Box:
    """A rectangle of the wire as left, top, right, bottom."""
    return (rect.left, rect.top, rect.right, rect.bottom)


class Draws:
    """Carries out draws. ``surfaces`` belongs to the screen, ``reader`` makes images of messages.

    Methods raise `CannotDraw` for what isn't done (yet), and `RemoteProtocolError`.
    """

    handlers: ClassVar[dict[int, str]] = {
        display.CopyBits.number: "copy_bits",
        draw.DrawFill.number: "fill",
        draw.DrawOpaque.number: "opaque",
        draw.DrawCopy.number: "copy",
        draw.DrawBlend.number: "copy",
        draw.DrawBlackness.number: "blackness",
        draw.DrawWhiteness.number: "whiteness",
        draw.DrawInvers.number: "invers",
        draw.DrawRop3.number: "not_yet",
        draw.DrawStroke.number: "not_yet",
        draw.DrawText.number: "not_yet",
        draw.DrawTransparent.number: "not_yet",
        draw.DrawAlphaBlend.number: "not_yet",
        draw.DrawComposite.number: "not_yet",
    }

    def __init__(self, surfaces: dict[int, Pixels], reader: ImageReader) -> None:
        self.surfaces = surfaces
        self.reader = reader

    # What draws are made of

    def surface(self, surface_id: int) -> Pixels:
        """A surface that can be drawn on and from."""
        surface = self.surfaces.get(surface_id)
        if surface is None:
            raise CannotDraw("there is no such surface")
        if surface.format == A1:
            raise CannotDraw("surfaces of 1 bit can't be drawn on or from")
        return surface

    def area(self, message: Any, mask: QMask | None = None) -> Area:
        """The surface of a draw, and the part of it that box, clip and mask let through."""
        base: DisplayBase = message.base
        surface = self.surface(base.surface_id)
        region: Region = []
        box = intersect(box_of(base.box), (0, 0, surface.width, surface.height))
        if box is not None:
            clip = None if base.clip.type == ClipType.NONE else map(box_of, base.clip.rects)
            region = region_of(box, clip)
        if mask is None or mask.bitmap is None:
            return Area(surface, region)
        try:
            pixels = self._mask(mask.bitmap)
        except CannotDraw:
            self.touch(message)
            raise
        origin = (base.box.left - mask.pos.x, base.box.top - mask.pos.y)
        return Area(surface, region, pixels, origin, bool(mask.flags & MaskFlags.INVERS))

    def _mask(self, image: Image) -> Pixels:
        if image.descriptor.type != ImageType.SURFACE:
            return self.reader.mask(image)
        body = image.body
        surface = self.surfaces.get(body.surface_id) if isinstance(body, SurfaceImage) else None
        if surface is None or surface.format != A1:
            raise CannotDraw("the mask is not of 1 bit")
        return surface

    def source(self, image: Image | None, surface: Pixels) -> Pixels:
        """The pixels of an image or of a surface, in a format that fits the surface drawn on."""
        if image is None:
            raise CannotDraw("there is no image")
        body = image.body
        if isinstance(body, SurfaceImage):
            return self.surface(body.surface_id).converted(surface.format)
        pixels = self.reader.pixels(image, surface.format)
        if pixels.format == A1:
            raise CannotDraw("the image is a mask")
        return pixels.converted(surface.format)

    def touch(self, message: Any) -> None:
        """Keep the images and palettes of a message that isn't drawn, for those that follow."""
        surface = self.surfaces.get(message.base.surface_id)
        format = surface.format if surface is not None else XRGB
        brushes = [getattr(message, name, None) for name in ("brush", "fore_brush", "back_brush")]
        images = [getattr(message, "src_bitmap", None), getattr(message, "mask_bitmap", None)]
        images += [brush.body.pat for brush in brushes if brush and isinstance(brush.body, Pattern)]
        for image in images:
            self.reader.touch(image, format)

    def pattern(self, brush: Brush, surface: Pixels) -> Pixels | None:
        """The image that a brush paints with, None for one that doesn't."""
        return self.source(brush.body.pat, surface) if isinstance(brush.body, Pattern) else None

    def paint(self, area: Area, brush: Brush, pattern: Pixels | None, rop: int) -> int:
        """Lay a brush over an area; a brush of type NONE counts as colour 0."""
        if pattern is not None and isinstance(brush.body, Pattern):
            pos = brush.body.pos
            return raster.tile(area.surface, area.region, pattern, pos.x, pos.y, rop)
        colour = brush.body.color if isinstance(brush.body, SolidColor) else 0
        return raster.fill(area.surface, area.region, colour, rop)

    def fitting(
        self, message: draw.DrawCopy | draw.DrawOpaque, area: Area
    ) -> tuple[Pixels, int, int]:
        """The image of a copy or opaque draw, scaled if need be, and where its corner goes."""
        image = self.source(message.src_bitmap, area.surface)
        box, part = box_of(message.base.box), box_of(message.src_area)
        size = (part[2] - part[0], part[3] - part[1])
        if size == (box[2] - box[0], box[3] - box[1]):
            return image, box[0] - part[0], box[1] - part[1]
        if min(size) <= 0:
            raise CannotDraw("images are not mirrored")
        seen = bounds(area.region)
        assert seen is not None  # nobody asks for an image when nothing is to be drawn
        smooth = message.scale_mode != draw.ScaleMode.NEAREST
        return scaled(image, part, box, seen, smooth=smooth), seen[0], seen[1]

    # The draws

    def not_yet(self, message: Any) -> Drawn:
        """An operation that isn't carried out; its images are kept all the same."""
        self.touch(message)
        raise CannotDraw("this operation is not carried out yet")

    def fill(self, message: draw.DrawFill) -> Drawn:
        """DRAW_FILL: a brush."""
        area = self.area(message, message.mask)
        rop = raster.rop_of(message.rop_descriptor, source="brush")
        if not area.region or rop == raster.NOOP:
            self.touch(message)
            return _NOTHING
        pattern = self.pattern(message.brush, area.surface)
        with area:
            return area.region, self.paint(area, message.brush, pattern, rop)

    def copy(self, message: draw.DrawCopy) -> Drawn:
        """DRAW_COPY and DRAW_BLEND, which are one: an image."""
        area = self.area(message, message.mask)
        rop = raster.rop_of(message.rop_descriptor)
        if not area.region or rop == raster.NOOP:
            self.touch(message)
            return _NOTHING
        image, x, y = self.fitting(message, area)
        with area:
            return area.region, raster.blit(area.surface, area.region, image, x, y, rop)

    def opaque(self, message: draw.DrawOpaque) -> Drawn:
        """DRAW_OPAQUE: the image goes to the surface first, then the brush is laid over it."""
        area = self.area(message, message.mask)
        rop = raster.rop_of(message.rop_descriptor, source="brush", target="src")
        if not area.region or rop == raster.NOOP:
            self.touch(message)
            return _NOTHING
        image, x, y = self.fitting(message, area)
        pattern = self.pattern(message.brush, area.surface)
        with area:
            raster.blit(area.surface, area.region, image, x, y)
            return area.region, self.paint(area, message.brush, pattern, rop)

    def _plain(self, message: Any, colour: int, rop: int) -> Drawn:
        with self.area(message, message.mask) as area:
            return area.region, raster.fill(area.surface, area.region, colour, rop)

    def blackness(self, message: draw.DrawBlackness) -> Drawn:
        """DRAW_BLACKNESS."""
        return self._plain(message, 0, raster.COPY)

    def whiteness(self, message: draw.DrawWhiteness) -> Drawn:
        """DRAW_WHITENESS."""
        return self._plain(message, 0xFFFFFFFF, raster.COPY)

    def invers(self, message: draw.DrawInvers) -> Drawn:
        """DRAW_INVERS."""
        return self._plain(message, 0, raster.INVERT)

    def copy_bits(self, message: display.CopyBits) -> Drawn:
        """COPY_BITS: pixels of the surface itself."""
        area = self.area(message)
        box, start = message.base.box, message.src_pos
        dx, dy = box.left - start.x, box.top - start.y
        return area.region, raster.copy_region(area.surface, area.region, dx, dy)
