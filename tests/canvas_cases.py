"""Draws of every kind, made from a number: the same number always gives the same draw.

`tests/data/canvas.json` has what spice-gtk's own canvas made of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aiospice.canvas.pixels import A8, ARGB, BYTES, RGB555, RGB565, XRGB
from aiospice.wire import display, draw
from aiospice.wire.images import (
    BitmapData,
    Brush,
    Image,
    ImageDescriptor,
    Pattern,
    QMask,
    SolidColor,
    SurfaceImage,
)
from aiospice.wire.message import Message
from aiospice.wire.shapes import (
    NO_CLIP,
    Clip,
    DisplayBase,
    Palette,
    Point,
    Point16,
    PointFix,
    Rect,
    Transform,
)

__all__ = ["KINDS", "Case", "Surface", "case"]

T = TypeVar("T")
#: Id, width, height, format, and its pixels without anything between rows.
Surface = tuple[int, int, int, int, bytes]
#: Surfaces as they are before, and a draw on the one with id 0.
Case = tuple[list[Surface], Message]

_BIT1, _BIT4, _BIT8, _BIT16, _BIT24, _BIT32, _RGBA, _A8 = 2, 4, 5, 6, 7, 8, 9, 10
_BITS = {1: 1, _BIT1: 1, _BIT4: 4, _BIT8: 8, _BIT16: 16, _BIT24: 24, _BIT32: 32, _RGBA: 32, _A8: 8}
_ONE = 1 << 16
_COMPOSITES = ("composite", "composite_pdf")


class Chance:
    """Numbers from a seed that no version of Python changes."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._used = 0

    def data(self, size: int) -> bytes:
        self._used += 1
        return hashlib.shake_128(f"{self._seed}/{self._used}".encode()).digest(size)

    def below(self, limit: int) -> int:
        return int.from_bytes(self.data(8), "little") % limit

    def between(self, first: int, last: int) -> int:
        return first + self.below(last - first + 1)

    def pick(self, among: Sequence[T]) -> T:
        return among[self.below(len(among))]

    def one_in(self, count: int) -> bool:
        return self.below(count) == 0

    def pixels(self, width: int, height: int, format: int) -> bytes:
        """Random pixels; of ARGB ones premultiplied, and some of one colour only."""
        size = width * height * BYTES[format]
        if self.one_in(4):
            few = [self.data(BYTES[format]) for _ in range(3)]
            places = self.data(width * height)
            return b"".join([few[place % 3] for place in places])
        data = bytearray(self.data(size))
        if format == ARGB and not self.one_in(4):
            for at in range(0, size, 4):
                alpha = (0, 255, data[at + 3])[data[at] % 3]
                data[at : at + 4] = bytes([data[at + n] * alpha // 255 for n in range(3)] + [alpha])
        return bytes(data)


def is_surface(image: Image, id: int) -> bool:
    """Tell whether an image is what a surface shows."""
    return isinstance(image.body, SurfaceImage) and image.body.surface_id == id


class Maker:
    """Makes one case."""

    def __init__(self, kind: str, number: int) -> None:
        self.chance = Chance(f"{kind}/{number}")
        formats = (XRGB, XRGB, ARGB, ARGB, RGB555, RGB565) + ((A8,) if kind in _COMPOSITES else ())
        self.format = self.chance.pick(formats)
        self.inside = kind in ("rop3", *_COMPOSITES)
        self.width, self.height = self.chance.between(1, 48), self.chance.between(1, 48)
        self.surfaces: list[Surface] = []
        self._surface(0, self.width, self.height, self.format)
        self.box = self._box()

    def _surface(self, id: int, width: int, height: int, format: int) -> None:
        self.surfaces.append((id, width, height, format, self.chance.pixels(width, height, format)))

    def _box(self) -> Rect:
        chance = self.chance
        if self.inside:
            left, top = chance.below(self.width), chance.below(self.height)
            right, bottom = (
                chance.between(left, self.width - 1),
                chance.between(top, self.height - 1),
            )
            return Rect(left=left, top=top, right=right + 1, bottom=bottom + 1)
        left, top = chance.between(-6, self.width), chance.between(-6, self.height)
        right, bottom = left + chance.between(1, 40), top + chance.between(1, 40)
        return Rect(left=left, top=top, right=right, bottom=bottom)

    def base(self) -> DisplayBase:
        chance = self.chance
        clip = NO_CLIP
        if chance.one_in(2):
            rects = []
            for _ in range(chance.between(1, 5)):
                left, top = chance.between(-6, self.width), chance.between(-6, self.height)
                width, height = chance.between(1, 40), chance.between(1, 40)
                rects.append(Rect(left=left, top=top, right=left + width, bottom=top + height))
            clip = Clip(type=1, rects=tuple(rects))
        return DisplayBase(surface_id=0, box=self.box, clip=clip)

    def bitmap(self, format: int, width: int, height: int) -> Image:
        chance = self.chance
        row = (width * _BITS[format] + 7) // 8
        stride = row + chance.pick((0, 0, -row % 4, 3))
        palette = None
        if format in (1, _BIT1, _BIT4, _BIT8):
            count = {1: 2, 4: 16, 8: 256}[_BITS[format]]
            ents = [int.from_bytes(chance.data(4), "little") for _ in range(count)]
            palette = Palette(unique=1, ents=tuple(ents))
        data = chance.data(stride * height)
        if format == _RGBA:
            data = b"".join(
                [chance.pixels(width, 1, ARGB) + bytes(stride - row) for _ in range(height)]
            )
        flags = chance.pick((0, 2)) if format == _BIT32 else 0
        return Image(
            descriptor=ImageDescriptor(id=1, type=0, flags=flags, width=width, height=height),
            body=BitmapData(
                format=format, flags=chance.pick((0, 4)), x=width, y=height, stride=stride,
                palette_id=None, palette=palette, data=data,
            ),
        )  # fmt: skip

    def image(self, width: int, height: int, *, any_format: bool = False) -> Image:
        """An image of at least that size: a bitmap, another surface, or the surface itself.

        A surface is copied from as it is, so its pixels are as large as those of the one drawn on.
        """
        chance = self.chance
        where = chance.below(5)
        if where == 0 and self.width >= width and self.height >= height:
            return self._of_surface(0)
        width, height = width + chance.below(4), height + chance.below(4)
        if where == 1:
            format = self.format
            if BYTES[format] == 4 or any_format:
                format = chance.pick((XRGB, ARGB, A8) if any_format else (XRGB, ARGB))
            id = len(self.surfaces)
            self._surface(id, width, height, format)
            return self._of_surface(id)
        formats = [_BIT16, _BIT24, _BIT32, _BIT32, _RGBA, _RGBA]
        if self.format not in (RGB565, A8):
            formats += [_BIT1, _BIT4, _BIT8]
        return self.bitmap(chance.pick([*formats, _A8]), width, height)

    def _of_surface(self, id: int) -> Image:
        head = ImageDescriptor(id=0, type=104, flags=0, width=0, height=0)
        return Image(descriptor=head, body=SurfaceImage(surface_id=id))

    def sourced(self, *, whole: bool = False, any_format: bool = False) -> tuple[Image, Rect]:
        """An image and the part of it that is drawn, mostly as large as the box."""
        chance, box = self.chance, self.box
        scale = chance.one_in(3)
        width, height = box.width, box.height
        if scale:
            width, height = chance.between(1, 40), chance.between(1, 40)
        left, top = chance.between(0, 5), chance.between(0, 5)
        grown = 0 if whole or not chance.one_in(5) else chance.between(-8, 8)
        size = max(1, left + width + grown), max(1, top + height + grown)
        image = self.image(*size, any_format=any_format)
        if grown and not whole:
            left -= chance.below(4)
            top -= chance.below(4)
        area = Rect(left=left, top=top, right=left + width, bottom=top + height)
        # Upstream reads what it has just drawn where these two overlap, unless it copies first.
        apart = area.right <= box.left or box.right <= left or area.bottom <= box.top
        while not (self.inside or apart or box.bottom <= top) and is_surface(image, 0):
            image = self.image(*size, any_format=any_format)
        return image, area

    def brush(self, *, none: bool = True, surfaces: bool = True) -> Brush:
        chance = self.chance
        kind = chance.below(5)
        if kind == 0 and none:
            return Brush(type=0, body=None)
        if kind < 3:
            colour = int.from_bytes(chance.data(4), "little")
            return Brush(type=1, body=SolidColor(color=colour))
        image = self.image(chance.between(1, 9), chance.between(1, 9))
        while is_surface(image, 0) or (isinstance(image.body, SurfaceImage) and not surfaces):
            image = self.image(chance.between(1, 9), chance.between(1, 9))
        pos = Point(x=chance.between(-20, 40), y=chance.between(-20, 40))
        if self.inside:  # upstream's ROP3 reads before its pattern otherwise
            pos = Point(x=min(pos.x, self.box.left), y=min(pos.y, self.box.top))
        return Brush(type=2, body=Pattern(pat=image, pos=pos))

    def mask(self) -> QMask:
        chance = self.chance
        flags = chance.below(2)
        if not chance.one_in(3):
            return QMask(flags=flags, pos=Point(x=0, y=0), bitmap=None)
        x, y = chance.below(9), chance.below(9)
        width, height = x + self.box.width, y + self.box.height
        if chance.one_in(3):
            width, height = max(1, width - chance.below(9)), max(1, height - chance.below(9))
        bits = self.bitmap(chance.pick((1, _BIT1)), width, height)
        return QMask(flags=flags, pos=Point(x=x, y=y), bitmap=bits)

    def rop(self) -> int:
        chance = self.chance
        if chance.one_in(2):
            return 8
        return (
            chance.below(8) | chance.pick((8, 16, 32, 64, 128, 256, 512)) | chance.pick((0, 1024))
        )

    # The draws

    def fill(self) -> Message:
        return draw.DrawFill(
            base=self.base(), brush=self.brush(), rop_descriptor=self.rop(), mask=self.mask()
        )

    def _image_draw(self, kind: Any) -> Message:
        image, area = self.sourced()
        message: Message = kind(
            base=self.base(), src_bitmap=image, src_area=area, rop_descriptor=self.rop(),
            scale_mode=self.chance.below(2), mask=self.mask(),
        )  # fmt: skip
        return message

    def copy(self) -> Message:
        return self._image_draw(draw.DrawCopy)

    def blend(self) -> Message:
        return self._image_draw(draw.DrawBlend)

    def opaque(self) -> Message:
        image, area = self.sourced()
        return draw.DrawOpaque(
            base=self.base(), src_bitmap=image, src_area=area, brush=self.brush(),
            rop_descriptor=self.rop(), scale_mode=self.chance.below(2), mask=self.mask(),
        )  # fmt: skip

    def plain(self) -> Message:
        kind = self.chance.pick((draw.DrawBlackness, draw.DrawWhiteness, draw.DrawInvers))
        return kind(base=self.base(), mask=self.mask())

    def copy_bits(self) -> Message:
        chance, box = self.chance, self.box
        point = Point(x=box.left + chance.between(-9, 9), y=box.top + chance.between(-9, 9))
        return display.CopyBits(base=self.base(), src_pos=point)

    def rop3(self) -> Message:
        image, area = self.sourced(whole=True)
        return draw.DrawRop3(
            base=self.base(), src_bitmap=image, src_area=area, brush=self.brush(none=False),
            rop3=self.chance.below(256), scale_mode=self.chance.below(2), mask=self.mask(),
        )  # fmt: skip

    def stroke(self) -> Message:
        chance = self.chance
        segments: list[draw.PathSegment] = []
        for _ in range(chance.between(1, 3)):
            bezier = 16 if chance.one_in(3) else 0
            begin = not segments or chance.one_in(2)
            count = chance.between(1, 2) * 3 if bezier else chance.between(1, 6)
            points = [self._point() for _ in range(count + begin)]
            if chance.one_in(6) and len(points) > 1:
                points[-1] = points[0]
            flags = bezier | begin | chance.pick((0, 2, 2 | 8))
            if flags & 2 and segments and not begin:
                flags &= ~8
            segments.append(draw.PathSegment(flags=flags, points=tuple(points)))
            if flags & 2:
                break
        attr = draw.LineAttr(flags=0, style=())
        if chance.one_in(2):
            count = chance.pick((2, 2, 4, 6))
            style = tuple(chance.between(1, 12) * 16 for _ in range(count))
            attr = draw.LineAttr(flags=8 | chance.pick((0, 4)), style=style)
        return draw.DrawStroke(
            base=self.base(), path=draw.Path(segments=tuple(segments)), attr=attr,
            brush=self.brush(surfaces=False), fore_mode=self.rop(), back_mode=0,
        )  # fmt: skip

    def _point(self) -> PointFix:
        chance = self.chance
        x, y = chance.between(-8, self.width + 8), chance.between(-8, self.height + 8)
        whole = chance.one_in(2)
        return PointFix(
            x=x * 16 + (0 if whole else chance.below(16)),
            y=y * 16 + (0 if whole else chance.below(16)),
        )

    def text(self) -> Message:
        chance = self.chance
        kind, bits, flag = chance.pick(
            ((draw.GlyphA1, 1, 1), (draw.GlyphA4, 4, 2), (draw.GlyphA8, 8, 4))
        )
        glyphs: list[Any] = []
        for _ in range(chance.between(1, 6)):
            width, height = chance.between(1, 14), chance.between(1, 14)
            place = Point(x=chance.between(-5, self.width), y=chance.between(-5, self.height))
            origin = Point(x=chance.between(-3, 3), y=chance.between(-3, 3))
            data = chance.data((width * bits + 7) // 8 * height)
            glyphs.append(
                kind(render_pos=place, glyph_origin=origin, width=width, height=height, data=data)
            )
        back = Rect(left=0, top=0, right=0, bottom=0)
        if chance.one_in(2):
            left, top = chance.between(-3, self.width), chance.between(-3, self.height)
            right, bottom = left + chance.between(1, 30), top + chance.between(1, 30)
            back = Rect(left=left, top=top, right=right, bottom=bottom)
        return draw.DrawText(
            base=self.base(), string=draw.String(flags=flag, glyphs=tuple(glyphs)), back_area=back,
            fore_brush=self.brush(), back_brush=self.brush(), fore_mode=8, back_mode=8,
        )  # fmt: skip

    def transparent(self) -> Message:
        image, area = self.sourced()
        colour = int.from_bytes(self.chance.data(4), "little")
        if isinstance(image.body, BitmapData) and _BITS[image.body.format] == 32:
            colour = int.from_bytes(image.body.data[:4], "little")
        return draw.DrawTransparent(
            base=self.base(), src_bitmap=image, src_area=area, src_color=0, true_color=colour
        )

    def alpha_blend(self) -> Message:
        image, area = self.sourced(any_format=True)
        chance = self.chance
        return draw.DrawAlphaBlend(
            base=self.base(), alpha_flags=chance.below(4),
            alpha=chance.pick((255, chance.below(256))), src_bitmap=image, src_area=area,
        )  # fmt: skip

    def _matrix(self) -> Transform:
        chance = self.chance
        turn = chance.below(4)
        shift = [chance.between(-6 * _ONE, 12 * _ONE) for _ in range(2)]
        if turn == 0:  # whole pixels
            rows = [[_ONE, 0, shift[0] >> 16 << 16], [0, _ONE, shift[1] >> 16 << 16]]
        elif turn == 1:  # scaled
            rows = [[chance.between(_ONE // 4, 3 * _ONE), 0, shift[0]]]
            rows.append([0, chance.between(_ONE // 4, 3 * _ONE), shift[1]])
        elif turn == 2:  # turned by a right angle
            rows = [[0, _ONE, shift[0] >> 16 << 16], [-_ONE, 0, 20 * _ONE]]
        else:
            some = [chance.between(-2 * _ONE, 2 * _ONE) for _ in range(4)]
            rows = [[some[0], some[1], shift[0]], [some[2], some[3], shift[1]]]
        names = ("t00", "t01", "t02", "t10", "t11", "t12")
        values = [value & 0xFFFFFFFF for row in rows for value in row]
        return Transform(**dict(zip(names, values, strict=True)))

    def composite(self) -> Message:
        operators = (*range(14), *range(0x10, 0x1C), *range(0x20, 0x2C), *range(0x30, 0x3F))
        return self._composite(self.chance.pick((1, 3, 3, 12, self.chance.pick(operators))))

    def composite_pdf(self) -> Message:
        """The operators of PDF, most often those on hue, saturation and light."""
        return self._composite(self.chance.pick((*range(0x30, 0x3F), *range(0x3B, 0x3F))))

    def _composite(self, operator: int) -> Message:
        chance = self.chance
        flags = operator | chance.pick((0, 1, 3, 4)) << 8 | chance.below(4) << 14
        image = self.image(chance.between(1, 30), chance.between(1, 30), any_format=True)
        mask = None
        if chance.one_in(2):
            flags |= 1 << 19 | chance.pick((0, 1, 3, 4)) << 11 | chance.below(4) << 16
            flags |= chance.pick((0, 0, 1 << 18))
            mask = self.bitmap(
                chance.pick((_A8, _RGBA)), chance.between(1, 40), chance.between(1, 40)
            )
        one = other = None
        if chance.one_in(3):
            flags |= 1 << 20
            one = self._matrix()
        if mask is not None and chance.one_in(4):
            flags |= 1 << 21
            other = self._matrix()
        formats = {id: format for id, _, _, format, _ in self.surfaces}
        if not any(is_surface(image, id) for id in formats if formats[id] == A8):
            flags |= chance.pick((0, 0, 1 << 22))
        flags |= chance.pick((0, 1 << 23, 0 if self.format == A8 else 1 << 24))
        places = [Point16(x=chance.between(-6, 9), y=chance.between(-6, 9)) for _ in range(2)]
        return draw.DrawComposite(
            base=self.base(), flags=flags, src_bitmap=image, mask_bitmap=mask,
            src_transform=one, mask_transform=other, src_origin=places[0], mask_origin=places[1],
        )  # fmt: skip


#: What is drawn, by the name of a method above.
KINDS: tuple[str, ...] = (
    "fill", "copy", "blend", "opaque", "plain", "copy_bits", "rop3", "stroke", "text",
    "transparent", "alpha_blend", "composite", "composite_pdf",
)  # fmt: skip


def case(kind: str, number: int) -> Case:
    """The case of that kind and number."""
    maker = Maker(kind, number)
    method: Callable[[], Message] = getattr(maker, kind)
    message = method()
    return maker.surfaces, message
