"""The draws of the display channel, 302 to 313 and 318 (spice-common ``spice.proto``)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from aiospice.wire.images import Brush, Image, QMask
from aiospice.wire.message import SERVER, Message
from aiospice.wire.record import (
    Record,
    block,
    choice_array,
    counter,
    nested,
    pointer,
    pointer_numbers,
    record_array,
    u8,
    u16,
    u32,
    when,
    when_counter,
)
from aiospice.wire.shapes import DisplayBase, Point, Point16, PointFix, Rect, Transform

__all__ = [
    "MAX_PATH_POINTS",
    "MAX_PATH_SEGMENTS",
    "AlphaFlags",
    "CompositeFlags",
    "DrawAlphaBlend",
    "DrawBlackness",
    "DrawBlend",
    "DrawComposite",
    "DrawCopy",
    "DrawFill",
    "DrawInvers",
    "DrawOpaque",
    "DrawRop3",
    "DrawStroke",
    "DrawText",
    "DrawTransparent",
    "DrawWhiteness",
    "GlyphA1",
    "GlyphA4",
    "GlyphA8",
    "LineAttr",
    "LineFlags",
    "Path",
    "PathFlags",
    "PathSegment",
    "Ropd",
    "ScaleMode",
    "String",
    "StringFlags",
]

_DISPLAY = (2,)
#: The most segments of one path. A body holds no more than `aiospice.wire.reader.RECORDS`
#: structures in all, so both limits can't be used up at once.
MAX_PATH_SEGMENTS = 1 << 16
#: The most points of one segment of a path.
MAX_PATH_POINTS = 1 << 16


class Ropd(IntEnum):
    """``SPICE_ROPD_*``, how source, brush and destination are put together."""

    INVERS_SRC = 1
    INVERS_BRUSH = 2
    INVERS_DEST = 4
    OP_PUT = 8
    OP_OR = 16
    OP_AND = 32
    OP_XOR = 64
    OP_BLACKNESS = 128
    OP_WHITENESS = 256
    OP_INVERS = 512
    INVERS_RES = 1024


class ScaleMode(IntEnum):
    """``SPICE_IMAGE_SCALE_MODE_*``."""

    INTERPOLATE = 0
    NEAREST = 1


class PathFlags(IntEnum):
    """``SPICE_PATH_*``."""

    BEGIN = 1
    END = 2
    CLOSE = 8
    BEZIER = 16


class LineFlags(IntEnum):
    """``SPICE_LINE_FLAGS_*``."""

    START_WITH_GAP = 4
    STYLED = 8


class StringFlags(IntEnum):
    """``SPICE_STRING_FLAGS_*``; one of the first three says what the glyphs are."""

    RASTER_A1 = 1
    RASTER_A4 = 2
    RASTER_A8 = 4
    RASTER_TOP_DOWN = 8


class AlphaFlags(IntEnum):
    """``SPICE_ALPHA_FLAGS_*``."""

    DEST_HAS_ALPHA = 1
    SRC_SURFACE_HAS_ALPHA = 2


class CompositeFlags(IntEnum):
    """``SPICE_COMPOSITE_*``: the operator in the low 8 bits, filters and repeats, then bits."""

    OP0 = 1 << 0
    OP1 = 1 << 1
    OP2 = 1 << 2
    OP3 = 1 << 3
    OP4 = 1 << 4
    OP5 = 1 << 5
    OP6 = 1 << 6
    OP7 = 1 << 7
    SRC_FILTER0 = 1 << 8
    SRC_FILTER1 = 1 << 9
    SRC_FILTER2 = 1 << 10
    MASK_FILTER0 = 1 << 11
    MASK_FILTER1 = 1 << 12
    MASK_FILTER2 = 1 << 13
    SRC_REPEAT0 = 1 << 14
    SRC_REPEAT1 = 1 << 15
    MASK_REPEAT0 = 1 << 16
    MASK_REPEAT1 = 1 << 17
    COMPONENT_ALPHA = 1 << 18
    HAS_MASK = 1 << 19
    HAS_SRC_TRANSFORM = 1 << 20
    HAS_MASK_TRANSFORM = 1 << 21
    SOURCE_OPAQUE = 1 << 22
    MASK_OPAQUE = 1 << 23
    DEST_OPAQUE = 1 << 24


class PathSegment(Record):
    """Some points of a path: corners, or the control points of curves with BEZIER."""

    flags: int = u8(flags=PathFlags)
    count: int = counter("points", "I", maximum=MAX_PATH_POINTS)
    points: tuple[PointFix, ...] = record_array(PointFix, "count")


class Path(Record):
    """Lines and curves, segment by segment."""

    num_segments: int = counter("segments", "I", maximum=MAX_PATH_SEGMENTS)
    segments: tuple[PathSegment, ...] = record_array(PathSegment, "num_segments")


def _styled(values: dict[str, Any]) -> bool:
    return bool(values["flags"] & LineFlags.STYLED)


class LineAttr(Record):
    """How a line looks; ``style`` has the lengths of dashes and gaps in sixteenths of a pixel."""

    flags: int = u8(flags=LineFlags)
    style_nseg: int = when_counter(_styled, counter("style", "B"), init=False)
    style: tuple[int, ...] = when(_styled, pointer_numbers("i", "style_nseg"), absent=())


def _glyph_size(bits: int, values: dict[str, Any]) -> int:
    size: int = (values["width"] * bits + 7) // 8 * values["height"]
    return size


class _Glyph(Record):
    """Where a glyph goes and how large it is, in pixels."""

    render_pos: Point = nested(Point)
    glyph_origin: Point = nested(Point)
    width: int = u16()
    height: int = u16()


class GlyphA1(_Glyph):
    """A glyph of 1 bit a pixel; every row begins with a new byte."""

    data: bytes = block(lambda values: _glyph_size(1, values))


class GlyphA4(_Glyph):
    """A glyph of 4 bits of alpha a pixel; every row begins with a new byte."""

    data: bytes = block(lambda values: _glyph_size(4, values))


class GlyphA8(_Glyph):
    """A glyph of 8 bits of alpha a pixel."""

    data: bytes = block(lambda values: _glyph_size(8, values))


def _glyph_kind(values: dict[str, Any]) -> int:
    flags = values["flags"]
    for bit in (StringFlags.RASTER_A1, StringFlags.RASTER_A4, StringFlags.RASTER_A8):
        if flags & bit:
            return int(bit)
    return 0


class String(Record):
    """Glyphs of one kind, up to 65535; the lowest of the three raster flags counts."""

    length: int = counter("glyphs", "H")
    flags: int = u8(flags=StringFlags)
    glyphs: tuple[GlyphA1 | GlyphA4 | GlyphA8, ...] = choice_array(
        _glyph_kind,
        {
            StringFlags.RASTER_A1: GlyphA1,
            StringFlags.RASTER_A4: GlyphA4,
            StringFlags.RASTER_A8: GlyphA8,
        },
        "length",
    )


class DrawFill(Message, channels=_DISPLAY, sender=SERVER, number=302):
    """Fill the box with a brush."""

    base: DisplayBase = nested(DisplayBase)
    brush: Brush = nested(Brush)
    rop_descriptor: int = u16(flags=Ropd)
    mask: QMask = nested(QMask)


class DrawOpaque(Message, channels=_DISPLAY, sender=SERVER, number=303):
    """Put an image, joined with a brush, into the box."""

    base: DisplayBase = nested(DisplayBase)
    src_bitmap: Image | None = pointer(Image)
    src_area: Rect = nested(Rect)
    brush: Brush = nested(Brush)
    rop_descriptor: int = u16(flags=Ropd)
    scale_mode: int = u8(names=ScaleMode)
    mask: QMask = nested(QMask)


class _ImageDraw(Message):
    base: DisplayBase = nested(DisplayBase)
    src_bitmap: Image | None = pointer(Image)
    src_area: Rect = nested(Rect)
    rop_descriptor: int = u16(flags=Ropd)
    scale_mode: int = u8(names=ScaleMode)
    mask: QMask = nested(QMask)


class DrawCopy(_ImageDraw, channels=_DISPLAY, sender=SERVER, number=304):
    """Put an image into the box."""


class DrawBlend(_ImageDraw, channels=_DISPLAY, sender=SERVER, number=305):
    """Join an image with what is in the box."""


class _MaskDraw(Message):
    base: DisplayBase = nested(DisplayBase)
    mask: QMask = nested(QMask)


class DrawBlackness(_MaskDraw, channels=_DISPLAY, sender=SERVER, number=306):
    """Make the box black."""


class DrawWhiteness(_MaskDraw, channels=_DISPLAY, sender=SERVER, number=307):
    """Make the box white."""


class DrawInvers(_MaskDraw, channels=_DISPLAY, sender=SERVER, number=308):
    """Invert the colours in the box."""


class DrawRop3(Message, channels=_DISPLAY, sender=SERVER, number=309):
    """Join an image, a brush and the box by one of the 256 ternary raster operations."""

    base: DisplayBase = nested(DisplayBase)
    src_bitmap: Image | None = pointer(Image)
    src_area: Rect = nested(Rect)
    brush: Brush = nested(Brush)
    rop3: int = u8()
    scale_mode: int = u8(names=ScaleMode)
    mask: QMask = nested(QMask)


class DrawStroke(Message, channels=_DISPLAY, sender=SERVER, number=310):
    """Draw lines along a path."""

    base: DisplayBase = nested(DisplayBase)
    path: Path = pointer(Path, required=True)
    attr: LineAttr = nested(LineAttr)
    brush: Brush = nested(Brush)
    fore_mode: int = u16(flags=Ropd)
    back_mode: int = u16(flags=Ropd)


class DrawText(Message, channels=_DISPLAY, sender=SERVER, number=311):
    """Draw glyphs."""

    base: DisplayBase = nested(DisplayBase)
    string: String = pointer(String, required=True)
    back_area: Rect = nested(Rect)
    fore_brush: Brush = nested(Brush)
    back_brush: Brush = nested(Brush)
    fore_mode: int = u16(flags=Ropd)
    back_mode: int = u16(flags=Ropd)


class DrawTransparent(Message, channels=_DISPLAY, sender=SERVER, number=312):
    """Put an image into the box, but for the pixels of one colour."""

    base: DisplayBase = nested(DisplayBase)
    src_bitmap: Image | None = pointer(Image)
    src_area: Rect = nested(Rect)
    src_color: int = u32()
    true_color: int = u32()


class DrawAlphaBlend(Message, channels=_DISPLAY, sender=SERVER, number=313):
    """Lay an image over the box by its alpha and one more (0 to 255)."""

    base: DisplayBase = nested(DisplayBase)
    alpha_flags: int = u8(flags=AlphaFlags)
    alpha: int = u8()
    src_bitmap: Image | None = pointer(Image)
    src_area: Rect = nested(Rect)


def _has(flag: CompositeFlags) -> Any:
    return lambda values: bool(values["flags"] & flag)


class DrawComposite(Message, channels=_DISPLAY, sender=SERVER, number=318):
    """Join an image, a mask and the box as the X Render extension does."""

    base: DisplayBase = nested(DisplayBase)
    flags: int = u32(flags=CompositeFlags)
    src_bitmap: Image | None = pointer(Image)
    mask_bitmap: Image | None = when(_has(CompositeFlags.HAS_MASK), pointer(Image))
    src_transform: Transform | None = when(
        _has(CompositeFlags.HAS_SRC_TRANSFORM), nested(Transform)
    )
    mask_transform: Transform | None = when(
        _has(CompositeFlags.HAS_MASK_TRANSFORM), nested(Transform)
    )
    src_origin: Point16 = nested(Point16)
    mask_origin: Point16 = nested(Point16)
