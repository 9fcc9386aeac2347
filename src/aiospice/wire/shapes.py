"""Points, rectangles, clips and palettes (spice-common ``spice.proto``).

Coordinates count pixels from the top left corner of a surface. What is said about a number's range
is what the wire can hold; whether a rectangle lies inside its surface is for the canvas to check.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from aiospice.wire.record import (
    Record,
    counter,
    i16,
    i32,
    nested,
    number_array,
    record_array,
    u8,
    u32,
    u64,
    when,
    when_counter,
)

__all__ = [
    "MAX_CLIP_RECTS",
    "MAX_PALETTE",
    "NO_CLIP",
    "Clip",
    "ClipType",
    "DisplayBase",
    "Palette",
    "Point",
    "Point16",
    "PointFix",
    "Rect",
    "Transform",
]

#: The most rectangles of one clip: a region of 2**16 pieces is beyond every desktop.
MAX_CLIP_RECTS = 1 << 16
#: The most colours of one palette: a pixel with a palette has at most 8 bits.
MAX_PALETTE = 256


class ClipType(IntEnum):
    """``SPICE_CLIP_TYPE_*``."""

    NONE = 0
    RECTS = 1


class Point(Record):
    """A place in pixels."""

    x: int = i32()
    y: int = i32()


class Point16(Record):
    """A place in pixels, of 16 bits."""

    x: int = i16()
    y: int = i16()


class PointFix(Record):
    """A place in sixteenths of a pixel (28.4 fixed point)."""

    x: int = i32()
    y: int = i32()


class Rect(Record):
    """A rectangle in pixels; ``bottom`` and ``right`` are the first row and column outside."""

    top: int = i32()
    left: int = i32()
    bottom: int = i32()
    right: int = i32()

    @property
    def width(self) -> int:
        """Pixels across; negative when the rectangle is turned."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels down; negative when the rectangle is turned."""
        return self.bottom - self.top


class Transform(Record):
    """Two rows of an affine matrix, 16.16 fixed point."""

    t00: int = u32()
    t01: int = u32()
    t02: int = u32()
    t10: int = u32()
    t11: int = u32()
    t12: int = u32()


class Palette(Record):
    """Colours (0x00RRGGBB, or 16-bit ones as the surface has them); ``unique`` is the cache id."""

    unique: int = u64()
    num_ents: int = counter("ents", "H", maximum=MAX_PALETTE)
    ents: tuple[int, ...] = number_array("I", "num_ents")


def _has_rects(values: dict[str, Any]) -> bool:
    return bool(values["type"] == ClipType.RECTS)


class Clip(Record):
    """What part of the box is drawn: all of it, or the given rectangles."""

    type: int = u8(names=ClipType, maximum=1)
    num_rects: int = when_counter(
        _has_rects, counter("rects", "I", maximum=MAX_CLIP_RECTS), init=False
    )
    rects: tuple[Rect, ...] = when(_has_rects, record_array(Rect, "num_rects"), absent=())


#: Draw the whole box.
NO_CLIP = Clip(type=ClipType.NONE, rects=())


class DisplayBase(Record):
    """What every draw begins with: where it goes."""

    surface_id: int = u32()
    box: Rect = nested(Rect)
    clip: Clip = nested(Clip)
