"""The cursor channel, server end: shapes with a cache that the server governs.

A shape that the client has is named, not sent again; the oldest leaves when `CACHE_SHAPES` are
there. A client that doesn't read is sent the newest place and shape when it does.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from aiospice.channels.base import Key
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel
from aiospice.wire import cursor
from aiospice.wire.shapes import Point16

__all__ = ["CACHE_SHAPES", "CursorServer", "Shape"]

#: Shapes that a client keeps for us.
CACHE_SHAPES = 64
#: Messages that may wait; more, and only the newest state is kept.
_WAITING = 4


class Shape(NamedTuple):
    """A cursor's picture: 32 bits a pixel, B G R A (alpha multiplied in), top row first."""

    #: Different for different pictures.
    unique: int
    width: int
    height: int
    hot_x: int
    hot_y: int
    data: bytes


class CursorServer(ServerChannel):
    """Cursor: `show` what the guest's cursor is now."""

    handlers: ClassVar[dict[int, str]] = {}
    limit: ClassVar[int] = 4 << 10

    def __init__(self, key: Key, framing: Framing, client_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, client_caps)
        #: Shapes that the client has been told to keep, the one used last at the end.
        self.cached: dict[int, None] = {}
        self._told: tuple[int | None, tuple[int, int], bool] | None = None
        self._wanted: tuple[Shape | None, tuple[int, int], bool] | None = None

    def init(self, shape: Shape | None, position: tuple[int, int], visible: bool) -> None:
        """Begin with the cursor as it is."""
        self.send(
            cursor.Init(
                position=Point16(x=position[0], y=position[1]),
                trail_length=0,
                trail_frequency=0,
                visible=int(visible and shape is not None),
                cursor=self._picture(shape),
            )
        )
        self._told = (shape.unique if shape else None, position, visible and shape is not None)

    def resume(self, shape: Shape | None, position: tuple[int, int], visible: bool) -> None:
        """Begin with a client that has a cursor of the server before, and nothing cached."""
        self._told = None
        self.show(shape, position, visible)

    def leave(self) -> None:
        """The client is to forget what it keeps for this server."""
        self._wanted = None
        self.cached.clear()
        self.send(cursor.InvalAll())

    def show(self, shape: Shape | None, position: tuple[int, int], visible: bool) -> None:
        """The cursor is so from now on: shape (None: none), place of its hot spot, visible."""
        self._wanted = (shape, position, visible and shape is not None)
        self._tell()

    def _tell(self) -> None:
        if self._wanted is None or self.queued >= _WAITING:
            return
        shape, position, visible = self._wanted
        self._wanted = None
        told = (shape.unique if shape else None, position, visible)
        if told == self._told:
            return
        before, self._told = self._told, told
        place = Point16(x=position[0], y=position[1])
        if before is None or before[0] != told[0]:
            self.send(cursor.Set(position=place, visible=int(visible), cursor=self._picture(shape)))
        elif visible:
            self.send(cursor.Move(position=place))
        elif before[2]:
            self.send(cursor.Hide())

    def _left(self, number: int, body: bytes) -> None:
        self._tell()

    def _picture(self, shape: Shape | None) -> cursor.Cursor:
        if shape is None:
            return cursor.Cursor(flags=cursor.CursorFlags.NONE, header=None, data=b"")
        known = shape.unique in self.cached
        self.cached.pop(shape.unique, None)
        if not known and len(self.cached) >= CACHE_SHAPES:
            oldest = next(iter(self.cached))
            del self.cached[oldest]
            self.send(cursor.InvalOne(id=oldest))
        self.cached[shape.unique] = None
        header = cursor.CursorHeader(
            unique=shape.unique,
            type=cursor.CursorType.ALPHA,
            width=shape.width,
            height=shape.height,
            hot_spot_x=shape.hot_x,
            hot_spot_y=shape.hot_y,
        )
        flags = cursor.CursorFlags.FROM_CACHE if known else cursor.CursorFlags.CACHE_ME
        return cursor.Cursor(flags=flags, header=header, data=b"" if known else shape.data)
