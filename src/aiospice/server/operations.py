"""What happens on a display, as clients are told of it: one operation becomes one message."""

from __future__ import annotations

from typing import NamedTuple

from aiospice.server.encode import Picture
from aiospice.server.region import Box

__all__ = [
    "Change",
    "Copy",
    "Created",
    "Destroyed",
    "Draw",
    "DrawOperation",
    "Fill",
    "Operation",
]


class Fill(NamedTuple):
    """A box of one colour (0x00RRGGBB, with alpha 0xAARRGGBB)."""

    surface: int
    box: Box
    colour: int


class Copy(NamedTuple):
    """Pixels of the same surface, ``dx`` further left and ``dy`` further up, fill the box."""

    surface: int
    box: Box
    dx: int
    dy: int

    @property
    def source(self) -> Box:
        """Where the pixels come from."""
        left, top, right, bottom = self.box
        return (left - self.dx, top - self.dy, right - self.dx, bottom - self.dy)


class Draw(NamedTuple):
    """Pixels of another surface, from ``x``, ``y`` on, fill the box."""

    surface: int
    box: Box
    source: int
    x: int
    y: int


class Change(NamedTuple):
    """Other pixels in a box, of which nobody needs a copy now."""

    surface: int
    box: Box


class Created(NamedTuple):
    """A surface is new, its pixels are anything."""

    surface: int
    width: int
    height: int
    alpha: bool


class Destroyed(NamedTuple):
    """A surface is gone."""

    surface: int


DrawOperation = Fill | Copy | Draw | Change | Picture
Operation = DrawOperation | Created | Destroyed
