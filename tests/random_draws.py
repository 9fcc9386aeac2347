"""Draws of every kind with random arguments, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from aiospice.wire.display import CopyBits
from aiospice.wire.draw import (
    CompositeFlags,
    DrawAlphaBlend,
    DrawBlackness,
    DrawBlend,
    DrawComposite,
    DrawCopy,
    DrawFill,
    DrawInvers,
    DrawOpaque,
    DrawRop3,
    DrawStroke,
    DrawText,
    DrawTransparent,
    DrawWhiteness,
    GlyphA1,
    GlyphA4,
    LineAttr,
    LineFlags,
    Path,
    PathFlags,
    PathSegment,
    Ropd,
    String,
    StringFlags,
)
from aiospice.wire.images import (
    BitmapData,
    BitmapFlags,
    BitmapFormat,
    Brush,
    BrushType,
    Image,
    ImageDescriptor,
    ImageFlags,
    ImageType,
    Pattern,
    QMask,
    SolidColor,
    SurfaceImage,
)
from aiospice.wire.message import Message
from aiospice.wire.shapes import (
    NO_CLIP,
    Clip,
    ClipType,
    DisplayBase,
    Palette,
    Point,
    Point16,
    PointFix,
    Rect,
    Transform,
)

__all__ = ["KINDS", "RandomDraws"]

_BITS: dict[int, int] = {
    BitmapFormat.BIT1_LE: 1,
    BitmapFormat.BIT1_BE: 1,
    BitmapFormat.BIT4_BE: 4,
    BitmapFormat.BIT8: 8,
    BitmapFormat.BIT16: 16,
    BitmapFormat.BIT24: 24,
    BitmapFormat.BIT32: 32,
    BitmapFormat.RGBA: 32,
    BitmapFormat.BIT8_A: 8,
}
_PALETTES = {1: 2, 4: 16, 8: 256}
#: Formats of images. Upstream's canvas ends the process on the others (``spice_bitmap_to_pixman``
#: in spice-common ``common/pixman_utils.c``); masks may be of both orders of bits.
_OPAQUE = [f for f in _BITS if f not in (BitmapFormat.BIT8_A, BitmapFormat.BIT1_LE)]
#: Operations on brush, source and destination: the 218 that depend on all three. Upstream's canvas
#: ends the process on the others, for which drivers have other draws (``common/rop3.c``).
_ROP3 = [
    code
    for code in range(256)
    if all(
        any((code >> bit ^ code >> (bit ^ operand)) & 1 for bit in range(8))
        for operand in (1, 2, 4)
    )
]
#: Upstream reads glyphs of 8 bits from beyond their end (``canvas_put_glyph_bits`` in
#: ``common/canvas_base.c``): what it draws isn't defined.
_GLYPHS: dict[int, tuple[type[Any], int]] = {
    StringFlags.RASTER_A1: (GlyphA1, 1),
    StringFlags.RASTER_A4: (GlyphA4, 4),
}
#: Operators of Render: plain, disjoint, conjoint, and those of PDF.
OPERATORS = (*range(14), *range(0x10, 0x1C), *range(0x20, 0x2C), *range(0x30, 0x3F))


def _rect(top: int, left: int, bottom: int, right: int) -> Rect:
    return Rect(top=top, left=left, bottom=bottom, right=right)


def _point(x: int, y: int) -> Point:
    return Point(x=x, y=y)


def _point16(x: int, y: int) -> Point16:
    return Point16(x=x, y=y)


def _fixed(x: int, y: int) -> PointFix:
    return PointFix(x=x, y=y)


class RandomDraws:
    """Makes draws for a screen of ``width`` x ``height`` pixels.

    ``palettes_cached``: clients are to keep palettes (spice-gtk 0.42 ends on a palette that came
    with something invisible). ``surfaces``: id -> size, of surfaces that may be drawn on and from.

    Images with a palette aren't cached: upstream keeps them in the format of the surface that they
    were first drawn on, and spice-server, which forgets sooner than clients, then has another one
    (``spice_bitmap_format_to_pixman`` in spice-common ``common/pixman_utils.c``). Surfaces are no
    sources of composite draws: upstream leaves a transform on them (see `_once`).
    """

    def __init__(
        self,
        seed: int | str,
        width: int,
        height: int,
        *,
        palettes_cached: bool = False,
    ) -> None:
        self.random = random.Random(seed)
        self.screen = (width, height)
        self.surfaces: dict[int, tuple[int, int]] = {}
        self._images: list[Image] = []
        self._palettes_cached = palettes_cached
        self._masks = [BitmapFormat.RGBA, BitmapFormat.BIT8_A]
        self._target = 0

    def draw(self, kind: str, surface_id: int = 0) -> Message:
        """A draw of one of `KINDS`."""
        self._target = surface_id
        message: Message = getattr(self, f"_{kind}")()
        return message

    # -- parts -----------------------------------------------------------------------------

    def _chance(self, part: float) -> bool:
        return self.random.random() < part

    def _size(self) -> tuple[int, int]:
        if self._target in self.surfaces:
            return self.surfaces[self._target]
        return self.screen

    def _box(self, width: int = 0, height: int = 0) -> Rect:
        """Somewhere in the surface, all of it inside."""
        total = self._size()
        width = width or self.random.randint(1, min(160, total[0]))
        height = height or self.random.randint(1, min(120, total[1]))
        left = self.random.randint(0, max(total[0] - width, 0))
        top = self.random.randint(0, max(total[1] - height, 0))
        return _rect(top, left, min(top + height, total[1]), min(left + width, total[0]))

    def _base(self, box: Rect) -> DisplayBase:
        clip = NO_CLIP
        if self._chance(0.3):
            rects = []
            for top in range(box.top, box.bottom, 16):
                left = self.random.randint(box.left, box.right - 1)
                right = self.random.randint(left + 1, box.right)
                rects.append(_rect(top, left, min(top + 11, box.bottom), right))
            clip = Clip(type=ClipType.RECTS, rects=tuple(rects))
        return DisplayBase(surface_id=self._target, box=box, clip=clip)

    def _palette(self, entries: int) -> Palette:
        unique = self.random.randint(1, 9) * 1000 + entries
        chosen = random.Random(unique)  # one id, one palette
        colours = tuple(chosen.randrange(1 << 24) for _ in range(entries))
        return Palette(unique=unique if self._palettes_cached else 0, ents=colours)

    def _pixels(self, format: int, width: int, height: int) -> bytes:
        """Flat, noisy, or smooth rows with random padding bits."""
        stride = (width * _BITS[format] + 31) // 32 * 4
        if self._chance(0.3):
            return self.random.randbytes(stride) * height
        if self._chance(0.5):
            return self.random.randbytes(stride * height)
        step = self.random.randint(1, 9)
        return bytes((x // 3 * step + y) & 255 for y in range(height) for x in range(stride))

    def bitmap(self, format: int, width: int, height: int) -> Image:
        """An image of that format."""
        entries = _PALETTES.get(_BITS[format]) if format != BitmapFormat.BIT8_A else None
        data = self._pixels(format, width, height)
        if format == BitmapFormat.RGBA:  # premultiplied, as Render wants it
            alphas = data[3::4]
            data = b"".join(
                bytes((b * a // 255, g * a // 255, r * a // 255, a))
                for b, g, r, a in zip(data[0::4], data[1::4], data[2::4], alphas, strict=True)
            )
        body = BitmapData(
            format=format,
            flags=BitmapFlags.TOP_DOWN if self._chance(0.7) else 0,
            x=width,
            y=height,
            stride=len(data) // height,
            palette_id=None,
            palette=self._palette(entries) if entries else None,
            data=data,
        )
        flags = ImageFlags.CACHE_ME if self._chance(0.5) and not entries else 0
        head = ImageDescriptor(
            id=self.random.getrandbits(63),
            type=ImageType.BITMAP,
            flags=flags,
            width=width,
            height=height,
        )
        return Image(descriptor=head, body=body)

    def _image(self, formats: Sequence[int] = _OPAQUE, *, surfaces: bool = True) -> Image:
        """A new image, one that was there before, or a surface if wanted."""
        others = [number for number in self.surfaces if number not in (0, self._target)]
        if surfaces and others and self._chance(0.2):
            return self._surface(self.random.choice(others))
        known = [i for i in self._images if getattr(i.body, "format", None) in formats]
        if known and self._chance(0.4):
            return self.random.choice(known)
        size = self.random.randint(1, 120), self.random.randint(1, 90)
        image = self.bitmap(self.random.choice(formats), *size)
        self._images = [*self._images[-20:], image]
        return image

    def _surface(self, number: int) -> Image:
        width, height = self.surfaces[number]
        head = ImageDescriptor(
            id=number, type=ImageType.SURFACE, flags=0, width=width, height=height
        )
        return Image(descriptor=head, body=SurfaceImage(surface_id=number))

    def _part(self, image: Image) -> Rect:
        width, height = image.descriptor.width, image.descriptor.height
        left, top = self.random.randrange(width), self.random.randrange(height)
        right, bottom = self.random.randint(left + 1, width), self.random.randint(top + 1, height)
        return _rect(top, left, bottom, right)

    def _brush(self, most: tuple[int, int] = (50, 50)) -> Brush:
        """``most``: how far right and down a pattern may begin.

        Surfaces are no patterns: upstream's canvas ends the process on some of them.
        """
        if self._chance(0.5):
            colour = self.random.randrange(1 << 24)
            return Brush(type=BrushType.SOLID, body=SolidColor(color=colour))
        at = _point(*(self.random.randint(0, min(50, limit)) for limit in most))
        return Brush(type=BrushType.PATTERN, body=Pattern(pat=self._image(surfaces=False), pos=at))

    def _mask(self, box: Rect) -> QMask:
        if self._chance(0.7):
            return QMask(flags=0, pos=_point(0, 0), bitmap=None)
        at = _point(self.random.randint(0, 7), self.random.randint(0, 7))
        format = self.random.choice((BitmapFormat.BIT1_LE, BitmapFormat.BIT1_BE))
        bitmap = self.bitmap(format, box.width + at.x, box.height + at.y)
        return QMask(flags=self.random.randint(0, 1), pos=at, bitmap=bitmap)

    def _rop(self, *inversions: Ropd) -> int:
        rop = self.random.choice(
            (
                Ropd.OP_PUT,
                Ropd.OP_PUT,
                Ropd.OP_OR,
                Ropd.OP_AND,
                Ropd.OP_XOR,
                Ropd.OP_BLACKNESS,
                Ropd.OP_WHITENESS,
                Ropd.OP_INVERS,
            )
        )
        flags = int(rop)
        for inversion in inversions:
            flags |= inversion if self._chance(0.25) else 0
        return flags

    # -- draws -----------------------------------------------------------------------------

    def _fill(self) -> Message:
        box = self._box()
        rop = self._rop(Ropd.INVERS_BRUSH, Ropd.INVERS_DEST, Ropd.INVERS_RES)
        return DrawFill(
            base=self._base(box), brush=self._brush(), rop_descriptor=rop, mask=self._mask(box)
        )

    def _source(self, *, scaled: float = 0.3, surfaces: bool = True) -> dict[str, Any]:
        image = self._image(surfaces=surfaces)
        part = self._part(image)
        box = self._box() if self._chance(scaled) else self._box(part.width, part.height)
        if (box.width, box.height) != (part.width, part.height) and scaled == 0:
            part = _rect(part.top, part.left, part.top + box.height, part.left + box.width)
        return {"base": self._base(box), "src_bitmap": image, "src_area": part}

    def _opaque(self) -> Message:
        source = self._source()
        rop = self._rop(Ropd.INVERS_SRC, Ropd.INVERS_BRUSH, Ropd.INVERS_RES)
        return DrawOpaque(
            **source,
            brush=self._brush(),
            rop_descriptor=rop,
            scale_mode=self.random.randint(0, 1),
            mask=self._mask(source["base"].box),
        )

    def _copy(self, kind: type[Any] = DrawCopy) -> Message:
        source = self._source()
        rop = self._rop(Ropd.INVERS_SRC, Ropd.INVERS_DEST, Ropd.INVERS_RES)
        made: Message = kind(
            **source,
            rop_descriptor=rop,
            scale_mode=self.random.randint(0, 1),
            mask=self._mask(source["base"].box),
        )
        return made

    def _blend(self) -> Message:
        return self._copy(DrawBlend)

    def _rop3(self) -> Message:
        source = self._source()
        box = source["base"].box  # upstream reads what is before a pattern that begins in the box
        return DrawRop3(
            **source,
            brush=self._brush((box.left, box.top)),
            rop3=self.random.choice(_ROP3),
            scale_mode=self.random.randint(0, 1),
            mask=self._mask(source["base"].box),
        )

    def _whole(self) -> Message:
        kind: type[Any] = self.random.choice((DrawBlackness, DrawWhiteness, DrawInvers))
        box = self._box()
        made: Message = kind(base=self._base(box), mask=self._mask(box))
        return made

    def _move(self) -> Message:
        box = self._box()
        source = self._box(box.width, box.height)
        return CopyBits(base=self._base(box), src_pos=_point(source.left, source.top))

    def _transparent(self) -> Message:
        source = self._source(scaled=0.2)
        image: Image = source["src_bitmap"]
        colour = 0
        if isinstance(image.body, BitmapData) and image.body.format == BitmapFormat.BIT32:
            colour = int.from_bytes(image.body.data[:3], "little")
        return DrawTransparent(**source, src_color=colour, true_color=colour)

    def _alpha_blend(self) -> Message:
        flags = self.random.randrange(4)  # alpha of the surface drawn on, and of one drawn from
        alpha = self.random.choice((255, self.random.randrange(256)))
        return DrawAlphaBlend(alpha_flags=flags, alpha=alpha, **self._source())

    def _stroke(self) -> Message:
        box = self._box(*self._size()) if self._chance(0.5) else self._box()
        segments = []
        for _ in range(self.random.randint(1, 3)):
            points = tuple(
                _fixed(
                    16 * self.random.randint(box.left, box.right - 1),
                    16 * self.random.randint(box.top, box.bottom - 1),
                )
                for _ in range(self.random.randint(2, 6))
            )
            flags = PathFlags.BEGIN | PathFlags.END
            flags |= PathFlags.CLOSE if self._chance(0.3) else 0
            segments.append(PathSegment(flags=flags, points=points))
        style: tuple[int, ...] = ()
        flags = 0
        if self._chance(0.5):
            flags = LineFlags.STYLED | (LineFlags.START_WITH_GAP if self._chance(0.3) else 0)
            style = tuple(16 * self.random.randint(1, 9) for _ in range(self.random.choice((2, 4))))
        return DrawStroke(
            base=self._base(box),
            path=Path(segments=tuple(segments)),
            attr=LineAttr(flags=flags, style=style),
            brush=self._brush(),
            fore_mode=self._rop(Ropd.INVERS_BRUSH),
            back_mode=0,
        )

    def _text(self) -> Message:
        box = self._box(*self._size())
        raster = self.random.choice(list(_GLYPHS))
        kind, bits = _GLYPHS[raster]
        x, y = self.random.randint(20, 300), self.random.randint(30, 300)
        glyphs = []
        for _ in range(self.random.randint(1, 12)):
            width, height = self.random.randint(1, 20), self.random.randint(1, 20)
            glyphs.append(
                kind(
                    render_pos=_point(x, y),
                    glyph_origin=_point(self.random.randint(-2, 2), -height),
                    width=width,
                    height=height,
                    data=self.random.randbytes((width * bits + 7) // 8 * height),
                )
            )
            x += width + self.random.randint(-2, 3)
        flags = raster | (StringFlags.RASTER_TOP_DOWN if self._chance(0.5) else 0)
        back, back_mode = _rect(0, 0, 0, 0), 0
        if self._chance(0.5):
            back, back_mode = _rect(y - 25, 10, y + 5, min(x, box.right)), int(Ropd.OP_PUT)
        return DrawText(
            base=self._base(box),
            string=String(flags=flags, glyphs=tuple(glyphs)),
            back_area=back,
            fore_brush=self._brush(),
            back_brush=self._brush(),
            fore_mode=int(Ropd.OP_PUT),
            back_mode=back_mode,
        )

    def _transform(self) -> Transform | None:
        if self._chance(0.6):
            return None
        entries = [round(self.random.uniform(-2, 2) * 65536) & 0xFFFFFFFF for _ in range(4)]
        shift = [self.random.randint(0, 40 << 16) for _ in range(2)]
        a, b, c, d = entries
        return Transform(t00=a, t01=b, t02=shift[0], t10=c, t11=d, t12=shift[1])

    def _once(self, formats: Sequence[int]) -> Image:
        """An image that isn't cached.

        Upstream's canvas leaves the transform of one draw on its cached image, where the next
        finds it, unless it has one of its own (``canvas_draw_composite`` in ``sw_canvas.c``).
        """
        image = self._image(formats, surfaces=False)
        head = image.descriptor
        if not head.flags:
            return image
        head = ImageDescriptor(
            id=head.id + 1, type=head.type, flags=0, width=head.width, height=head.height
        )
        return Image(descriptor=head, body=image.body)

    def _composite(self) -> Message:
        random = self.random
        formats = [BitmapFormat.BIT32, BitmapFormat.RGBA]
        flags = random.choice((random.randrange(14), random.choice(OPERATORS)))
        flags |= random.randint(0, 1) << 8 | random.randint(0, 3) << 14
        mask = None
        if self._chance(0.5):
            mask = self._once(self._masks)
            flags |= CompositeFlags.HAS_MASK
            flags |= random.randint(0, 1) << 11 | random.randint(0, 3) << 16
            flags |= random.randint(0, 1) << 18
        source_matrix, mask_matrix = self._transform(), self._transform() if mask else None
        flags |= CompositeFlags.HAS_SRC_TRANSFORM if source_matrix else 0
        flags |= CompositeFlags.HAS_MASK_TRANSFORM if mask_matrix else 0
        return DrawComposite(
            base=self._base(self._box()),
            flags=flags,
            src_bitmap=self._once(formats),
            mask_bitmap=mask,
            src_transform=source_matrix,
            mask_transform=mask_matrix,
            src_origin=_point16(random.randint(0, 20), random.randint(0, 20)),
            mask_origin=_point16(random.randint(0, 20), random.randint(0, 20)),
        )


KINDS = (
    "fill",
    "opaque",
    "copy",
    "blend",
    "rop3",
    "whole",
    "move",
    "transparent",
    "alpha_blend",
    "stroke",
    "text",
    "composite",
)
