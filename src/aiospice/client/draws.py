"""The draws of a display channel, one method each, on the surfaces of a `Screen`.

A method takes the parsed message and returns what it touched: a region of the surface and how many
pixels that were. Everything that can fail (images, masks, palettes) is read before the first pixel
is written. Facts: spice-common ``common/canvas_base.c``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from aiospice.canvas import blend, raster
from aiospice.canvas.bitmap import INDEXED
from aiospice.canvas.lines import Budget, Clip, line, polylines
from aiospice.canvas.mask import Area
from aiospice.canvas.pixels import A1, A8, ARGB, BYTES, XRGB, Pixels
from aiospice.canvas.region import Box, Region, bounds, intersect, region_of
from aiospice.canvas.scale import scaled, scaled_alike
from aiospice.client.images import CannotDraw
from aiospice.wire import display, draw
from aiospice.wire.images import (
    BitmapData,
    Brush,
    Image,
    ImageFlags,
    ImageType,
    MaskFlags,
    Pattern,
    QMask,
    SolidColor,
    SurfaceImage,
)
from aiospice.wire.shapes import ClipType

if TYPE_CHECKING:
    from aiospice.canvas.composite import Matrix, Source
    from aiospice.client.images import ImageReader
    from aiospice.wire.shapes import DisplayBase, Point16, Rect, Transform

__all__ = ["Drawn", "Draws", "box_of", "images_of"]

#: What was touched, and how many pixels.
Drawn = tuple[Region, int]
_NOTHING: Drawn = ([], 0)
_KEEP = ImageFlags.CACHE_ME | ImageFlags.CACHE_REPLACE_ME


def box_of(rect: Rect) -> Box:
    """A rectangle of the wire as left, top, right, bottom."""
    return (rect.left, rect.top, rect.right, rect.bottom)


def _same_size(one: Box, other: Box) -> bool:
    return one[2] - one[0] == other[2] - other[0] and one[3] - one[1] == other[3] - other[1]


def _as(pixels: Pixels, format: int) -> Pixels:
    """The same bytes as another format with pixels as large."""
    return Pixels(pixels.width, pixels.height, format, pixels.data, pixels.offset, pixels.stride)


def _with_alpha(
    image: Pixels, part: Box, box: Box, seen: Box, *, smooth: bool = False, bare: bool = False
) -> Pixels:
    """A scaled image, with an alpha that is 0 where the image doesn't reach.

    ``bare``: one of 32 bit without alpha that reaches everywhere stays so.
    """
    made = scaled(image, part, box, seen, smooth=smooth)
    if image.format in (ARGB, A8):
        return made
    full = scaled(
        Pixels(image.width, image.height, A8, b"\xff" * (image.width * image.height)),
        part,
        box,
        seen,
        smooth=smooth,
    )
    if bare and made.format == XRGB and bytes(full.data).count(255) == len(full.data):
        return made
    data = bytearray(made.converted(XRGB).tight())
    data[3::4] = full.data
    return Pixels(made.width, made.height, ARGB, data)


def _without_alpha(surface: Pixels, box: Box | None) -> None:
    """Clear the fourth bytes of a box if the first is full, on a surface of 32 bit without alpha.

    They are what was drawn there as alpha; upstream clears them so (``clear_dest_alpha``).
    """
    if surface.format != XRGB or box is None:
        return
    seen = intersect(box, (0, 0, surface.width, surface.height))
    if seen is not None and surface.data[surface.place(seen[0], seen[1]) + 3] == 255:
        raster.fill(surface, [seen], 0x00FFFFFF, raster.rop_of(draw.Ropd.OP_AND))


def _matrix(transform: Transform | None) -> Matrix | None:
    if transform is None:
        return None
    rows = [
        [value - (value >> 31 << 32) for value in row]
        for row in (
            (transform.t00, transform.t01, transform.t02),
            (transform.t10, transform.t11, transform.t12),
        )
    ]
    return (rows[0][0], rows[0][1], rows[0][2]), (rows[1][0], rows[1][1], rows[1][2])


def _sampled(image: Pixels, origin: Point16, filter: int, repeat: int) -> Source:
    from aiospice.canvas.composite import Source

    return Source(image, (origin.x, origin.y), filter=filter & 7, repeat=repeat & 3)


def _depth(flags: int) -> int:
    for flag, depth in (
        (draw.StringFlags.RASTER_A1, 1),
        (draw.StringFlags.RASTER_A4, 4),
        (draw.StringFlags.RASTER_A8, 8),
    ):
        if flags & flag:
            return depth
    raise CannotDraw("glyphs that are no rasters")


def _glyph(glyph: Any) -> blend.Glyph:
    left = glyph.render_pos.x + glyph.glyph_origin.x
    top = glyph.render_pos.y + glyph.glyph_origin.y
    return left, top, glyph.width, glyph.height, glyph.data


def _corner(glyphs: list[blend.Glyph]) -> tuple[int, int]:
    """The upper left corner of all glyphs together."""
    lefts, tops = [glyph[0] for glyph in glyphs], [glyph[1] for glyph in glyphs]
    return min(lefts, default=0), min(tops, default=0)


def _dashes(
    points: list[tuple[int, int]],
    style: tuple[int, ...],
    gap_first: bool,
    rop: int,
    clip: Clip,
    budget: Budget,
) -> Region:
    """The dashes of joined lines, as boxes of one row each."""
    from aiospice.canvas.dashes import dash_list, dashed, united

    dashes, offset = dash_list(style, gap_first=gap_first)
    # An operation that changes pixels back when they come twice must not meet them twice.
    careful = rop & 3 == 1 or rop >> 2 == 1
    spans = dashed(points, dashes, offset, budget, careful=careful)
    if careful and len(points) >= 3:
        spans = united(spans, clip.box)
    return clip.cut(spans, budget)


def images_of(message: Any) -> list[Image]:
    """The images that a message draws with, but for masks of one bit."""
    brushes = [getattr(message, name, None) for name in ("brush", "fore_brush", "back_brush")]
    images = [getattr(message, "src_bitmap", None), getattr(message, "mask_bitmap", None)]
    images += [brush.body.pat for brush in brushes if brush and isinstance(brush.body, Pattern)]
    return [image for image in images if image is not None]


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
        draw.DrawRop3.number: "rop3",
        draw.DrawStroke.number: "stroke",
        draw.DrawText.number: "text",
        draw.DrawTransparent.number: "transparent",
        draw.DrawAlphaBlend.number: "alpha_blend",
        draw.DrawComposite.number: "composite",
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
        if pixels.format == ARGB and isinstance(body, BitmapData) and body.format in INDEXED:
            # Colours of a palette have no alpha, except where upstream takes them as they are.
            return pixels if image.descriptor.flags & _KEEP else _as(pixels, XRGB)
        if pixels.format == A8 and BYTES[surface.format] == 4:
            return _as(pixels.converted(ARGB), XRGB)  # upstream's are black and opaque
        return pixels.converted(surface.format)

    def touch(self, message: Any) -> None:
        """Keep the images and palettes of a message that isn't drawn, for those that follow."""
        surface = self.surfaces.get(message.base.surface_id)
        format = surface.format if surface is not None else XRGB
        for image in images_of(message):
            self.reader.touch(image, format)

    def pattern(self, brush: Brush, surface: Pixels, *, used: bool = True) -> Pixels | None:
        """The image that a brush paints with, None for one that doesn't.

        The image of one that isn't ``used`` is kept for draws that follow.
        """
        if not isinstance(brush.body, Pattern):
            return None
        if used:
            return self.source(brush.body.pat, surface)
        self.reader.touch(brush.body.pat, surface.format)
        return None

    def paint(self, area: Area, brush: Brush, pattern: Pixels | None, rop: int) -> int:
        """Lay a brush over an area; a brush of type NONE counts as colour 0."""
        if pattern is not None and isinstance(brush.body, Pattern):
            pos = brush.body.pos
            return raster.tile(area.surface, area.region, pattern, pos.x, pos.y, rop)
        colour = brush.body.color if isinstance(brush.body, SolidColor) else 0
        return raster.fill(area.surface, area.region, colour, rop)

    def fitting(
        self, message: draw.DrawCopy | draw.DrawOpaque, area: Area, rop: int = raster.COPY
    ) -> tuple[Pixels, int, int]:
        """The image of a copy or opaque draw, scaled if need be, and where its corner goes.

        An image without alpha that is scaled becomes opaque, unless it is combined bit by bit.
        """
        image = self.source(message.src_bitmap, area.surface)
        box, part = box_of(message.base.box), box_of(message.src_area)
        if _same_size(part, box):
            return image, box[0] - part[0], box[1] - part[1]
        seen = bounds(area.region)
        assert seen is not None  # nobody asks for an image when nothing is to be drawn
        smooth = message.scale_mode != draw.ScaleMode.NEAREST
        if image.format == XRGB and area.surface.format == ARGB and rop == raster.COPY:
            return _with_alpha(image, part, box, seen, smooth=smooth), seen[0], seen[1]
        return scaled(image, part, box, seen, smooth=smooth), seen[0], seen[1]

    def original(self, image: Image | None, surface: Pixels, *, with_alpha: bool = True) -> Pixels:
        """The pixels as they are; those of a surface of 32 bit have alpha if it is said so."""
        if image is None:
            raise CannotDraw("there is no image")
        if not isinstance(image.body, SurfaceImage):
            pixels = self.reader.pixels(image, surface.format)
            if pixels.format == A1:
                raise CannotDraw("the image is a mask")
            return pixels
        pixels = self.surface(image.body.surface_id)
        return _as(pixels, ARGB) if pixels.format == XRGB and with_alpha else pixels

    # The draws

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
        image, x, y = self.fitting(message, area, rop)
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

    def rop3(self, message: draw.DrawRop3) -> Drawn:
        """DRAW_ROP3: image, brush and surface by a truth table."""
        area = self.area(message, message.mask)
        if not area.region:
            self.touch(message)
            return _NOTHING
        image = self.source(message.src_bitmap, area.surface)
        pattern = self.pattern(message.brush, area.surface)
        box, part = box_of(message.base.box), box_of(message.src_area)
        x, y = box[0] - part[0], box[1] - part[1]
        if not _same_size(part, box):
            seen = bounds(area.region)
            assert seen is not None
            smooth = message.scale_mode != draw.ScaleMode.NEAREST
            image = scaled_alike(image, part, box, seen, smooth=smooth)
            x, y = seen[0], seen[1]
        body = message.brush.body
        brush: int | tuple[Pixels, int, int] = 0
        if pattern is not None and isinstance(body, Pattern):
            brush = (pattern, body.pos.x, body.pos.y)
        elif isinstance(body, SolidColor):
            brush = body.color
        with area:
            done = blend.rop3(area.surface, area.region, message.rop3, (image, x, y), brush)
            return area.region, done

    def transparent(self, message: draw.DrawTransparent) -> Drawn:
        """DRAW_TRANSPARENT: an image but for one colour."""
        area = self.area(message)
        if not area.region:
            self.touch(message)
            return _NOTHING
        surface = area.surface
        image = self.source(message.src_bitmap, surface)
        box, part = box_of(message.base.box), box_of(message.src_area)
        x, y = box[0] - part[0], box[1] - part[1]
        if not _same_size(part, box):
            seen = bounds(area.region)
            assert seen is not None
            image, x, y = scaled(image, part, box, seen, smooth=False), seen[0], seen[1]
        colour = blend.key_colour(message.true_color, surface.format)
        return area.region, blend.key(surface, area.region, image, x, y, colour)

    def alpha_blend(self, message: draw.DrawAlphaBlend) -> Drawn:
        """DRAW_ALPHA_BLEND: an image by its alpha, and by one for all of it."""
        area = self.area(message)
        if not area.region or not message.alpha:
            self.touch(message)
            return _NOTHING
        surface, flags = area.surface, message.alpha_flags
        has_alpha = bool(flags & draw.AlphaFlags.SRC_SURFACE_HAS_ALPHA)
        image = self.original(message.src_bitmap, surface, with_alpha=has_alpha)
        box, part = box_of(message.base.box), box_of(message.src_area)
        x, y = box[0] - part[0], box[1] - part[1]
        if not _same_size(part, box):
            seen = bounds(area.region)
            assert seen is not None
            image, x, y = _with_alpha(image, part, box, seen, bare=True), seen[0], seen[1]
        target = bool(flags & draw.AlphaFlags.DEST_HAS_ALPHA)
        done = blend.lay(surface, area.region, image, x, y, part=message.alpha, alpha=target)
        if not target:
            _without_alpha(surface, box)
        return area.region, done

    def text(self, message: draw.DrawText) -> Drawn:
        """DRAW_TEXT: glyphs, perhaps on a background; their mode is always to lay them over it."""
        area = self.area(message)
        surface, string = area.surface, message.string
        around, back = bounds(area.region), box_of(message.back_area)
        has_back = back[0] != back[2] and back[1] != back[3]
        if around is None or (has_back and message.fore_mode != draw.Ropd.OP_PUT):
            self.touch(message)
            return _NOTHING
        depth = _depth(string.flags)
        ground = [box for box in [intersect(box, back) for box in area.region] if box is not None]
        body = message.fore_brush.body
        glyphs = [_glyph(glyph) for glyph in string.glyphs]
        # In the order of the message: what the first brush brings, the second may take from caches.
        fore = self.ink(message.fore_brush, surface, around, _corner(glyphs))
        back_pattern = self.pattern(message.back_brush, surface, used=has_back and bool(ground))
        done = 0
        if has_back and ground:
            done = self.paint(Area(surface, ground), message.back_brush, back_pattern, raster.COPY)
        # The flag RASTER_TOP_DOWN is passed over, as spice-server and spice-gtk do.
        mask = blend.string_mask(glyphs, depth, around)
        touched = ground if has_back else []
        if mask is not None and body is not None:
            touched = area.region
            if isinstance(fore, int):
                done += blend.lay_colour(surface, area.region, fore, mask)
            else:
                done += blend.lay(surface, area.region, fore, around[0], around[1], mask=mask)
        if body is not None:
            _without_alpha(surface, bounds((x, y, x + w, y + h) for x, y, w, h, _ in glyphs))
        return touched, done

    def ink(self, brush: Brush, surface: Pixels, box: Box, corner: tuple[int, int]) -> int | Pixels:
        """What glyphs are drawn with: a colour of 32 bit, or an image as large as the box.

        Upstream's patterns begin at their place counted from the corner of the glyphs.
        """
        body = brush.body
        if isinstance(body, SolidColor):
            colour = body.color
            if BYTES[surface.format] != 2:
                return colour & 0xFFFFFF
            parts = [(colour >> shift & 31) * 0xFFFF // 31 >> 8 for shift in (0, 5, 10)]
            return parts[0] | parts[1] << 8 | parts[2] << 16
        if not isinstance(body, Pattern):
            return 0
        if isinstance(body.pat.body, SurfaceImage):
            image = self.original(body.pat, surface, with_alpha=False)
        else:
            image = self.source(body.pat, surface)
        left, top, right, bottom = box
        tiled = Pixels(right - left, bottom - top, image.format)
        whole = [(0, 0, tiled.width, tiled.height)]
        x, y = corner[0] + body.pos.x - left, corner[1] + body.pos.y - top
        raster.tile(tiled, whole, image, x, y)
        return tiled

    def stroke(self, message: draw.DrawStroke) -> Drawn:
        """DRAW_STROKE: lines and curves, one pixel wide; dashes leave their gaps as they are."""
        area = self.area(message)
        if not area.region:
            self.touch(message)
            return _NOTHING
        surface, attr = area.surface, message.attr
        rop = raster.rop_of(message.fore_mode, source="brush")
        budget = Budget(surface.width * surface.height + (1 << 18))
        clip = Clip(area.region)
        path = [
            (segment.flags, [(point.x, point.y) for point in segment.points])
            for segment in message.path.segments
        ]
        pattern = self.pattern(message.brush, surface)
        parts: list[Region] = []
        styled = attr.flags & draw.LineFlags.STYLED and attr.style
        for points in polylines(path, budget):
            if styled:
                gap_first = bool(attr.flags & draw.LineFlags.START_WITH_GAP)
                parts.append(_dashes(points, attr.style, gap_first, rop, clip, budget))
            else:
                for start, end in pairwise(points):
                    budget.spend(1)
                    parts.append(clip.cut(line(start, end, clip.box), budget))
        region = [box for part in parts for box in part]
        done = self.paint(Area(surface, region), message.brush, pattern, rop)
        return region, done

    def composite(self, message: draw.DrawComposite) -> Drawn:
        """DRAW_COMPOSITE: image, mask and surface as pixman puts them together."""
        from aiospice.canvas.composite import composite

        area = self.area(message)
        if not area.region:
            self.touch(message)
            self.reader.touch(message.mask_bitmap, area.surface.format)
            return _NOTHING
        flags, surface = message.flags, area.surface
        image = self._composed(message.src_bitmap, surface)
        if flags & draw.CompositeFlags.SOURCE_OPAQUE and isinstance(
            message.src_bitmap and message.src_bitmap.body, SurfaceImage
        ):
            image = _as(image, XRGB) if image.format == ARGB else image
        source = _sampled(image, message.src_origin, flags >> 8, flags >> 14)
        source.matrix = _matrix(message.src_transform) or source.matrix
        mask = None
        if flags & draw.CompositeFlags.HAS_MASK:
            through = self._composed(message.mask_bitmap, surface)
            mask = _sampled(through, message.mask_origin, flags >> 11, flags >> 16)
            mask.matrix = _matrix(message.mask_transform) or mask.matrix
        ca = bool(flags & draw.CompositeFlags.COMPONENT_ALPHA)
        whole = box_of(message.base.box)
        corner, done = whole[:2], 0
        for box in area.region:
            composite(
                surface, box, corner, flags & 255, source, mask, component_alpha=ca, whole=whole
            )
            done += (box[2] - box[0]) * (box[3] - box[1])
        return area.region, done

    def _composed(self, image: Image | None, surface: Pixels) -> Pixels:
        """An image for a composite draw; it isn't the surface itself."""
        if image is not None and isinstance(image.body, SurfaceImage):
            bits = self.surfaces.get(image.body.surface_id)
            if bits is not None and bits.format == A1:
                return _as(bits, A8)
            pixels = self.original(image, surface, with_alpha=False)
            return pixels.copy() if pixels.data is surface.data else pixels
        return self.source(image, surface)

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
