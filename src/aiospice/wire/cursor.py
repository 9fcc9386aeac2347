"""The cursor channel (spice-common ``spice.proto``, ``CursorChannel``)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from aiospice.wire.message import SERVER, Message
from aiospice.wire.record import Record, nested, rest, u8, u16, u64, when
from aiospice.wire.shapes import Point16

__all__ = [
    "Cursor",
    "CursorFlags",
    "CursorHeader",
    "CursorType",
    "Hide",
    "Init",
    "InvalAll",
    "InvalOne",
    "Move",
    "Reset",
    "Set",
    "Trail",
]

_CURSOR = (4,)


class CursorType(IntEnum):
    """``SPICE_CURSOR_TYPE_*``."""

    ALPHA = 0
    MONO = 1
    COLOR4 = 2
    COLOR8 = 3
    COLOR16 = 4
    COLOR24 = 5
    COLOR32 = 6


class CursorFlags(IntEnum):
    """``SPICE_CURSOR_FLAGS_*``; with NONE there is no cursor, and no header."""

    NONE = 1
    CACHE_ME = 2
    FROM_CACHE = 4


class CursorHeader(Record):
    """``unique`` is the cache's key; the rest is in pixels."""

    unique: int = u64()
    type: int = u8(names=CursorType)
    width: int = u16()
    height: int = u16()
    hot_spot_x: int = u16()
    hot_spot_y: int = u16()


def _has_header(values: dict[str, Any]) -> bool:
    return not values["flags"] & CursorFlags.NONE


class Cursor(Record):
    """A shape. ``data`` is all that is left: whether it suffices for the size isn't checked here.

    With FROM_CACHE only ``header.unique`` counts.
    """

    flags: int = u16(flags=CursorFlags)
    header: CursorHeader | None = when(_has_header, nested(CursorHeader))
    data: bytes = rest()


class Init(Message, channels=_CURSOR, sender=SERVER, number=101):
    """The first message of a new channel."""

    position: Point16 = nested(Point16)
    trail_length: int = u16()
    trail_frequency: int = u16()
    visible: int = u8()
    cursor: Cursor = nested(Cursor)


class Reset(Message, channels=_CURSOR, sender=SERVER, number=102):
    """No cursor, and an empty cache."""


class Set(Message, channels=_CURSOR, sender=SERVER, number=103):
    """Another shape, at a place."""

    position: Point16 = nested(Point16)
    visible: int = u8()
    cursor: Cursor = nested(Cursor)


class Move(Message, channels=_CURSOR, sender=SERVER, number=104):
    """The same shape, at another place; shows a hidden one."""

    position: Point16 = nested(Point16)


class Hide(Message, channels=_CURSOR, sender=SERVER, number=105):
    """Hide the cursor."""


class Trail(Message, channels=_CURSOR, sender=SERVER, number=106):
    """How many shadows the cursor draws behind it, and how often."""

    length: int = u16()
    frequency: int = u16()


class InvalOne(Message, channels=_CURSOR, sender=SERVER, number=107):
    """Drop one shape from the cache."""

    id: int = u64()


class InvalAll(Message, channels=_CURSOR, sender=SERVER, number=108):
    """Drop all shapes from the cache."""
