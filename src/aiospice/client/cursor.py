"""The guest's mouse pointer: where it is, whether it is seen, and what it looks like.

Facts: spice-gtk ``src/channel-cursor.c``. A shape is checked when it comes and decoded when it is
asked for. Kept shapes take at most `CACHE_BYTES`, one shape at most `MAX_SIDE` pixels each way.
"""

from __future__ import annotations

from struct import unpack_from
from typing import TYPE_CHECKING, ClassVar

from aiospice.channels.events import Event
from aiospice.errors import RemoteProtocolError
from aiospice.wire import cursor as wire
from aiospice.wire.cursor import CursorFlags, CursorType

if TYPE_CHECKING:
    from aiospice.wire.message import Message

__all__ = [
    "CACHE_BYTES",
    "MAX_SHAPES",
    "MAX_SIDE",
    "CursorChanged",
    "CursorHidden",
    "CursorMissing",
    "CursorMoved",
    "CursorTracker",
    "Shape",
]

#: Pixels that a shape may have each way; Windows' largest pointer has 256.
MAX_SIDE = 512
#: Shapes that may be kept; spice-server has 256 of each client (``server/cache-item.h``).
MAX_SHAPES = 1024
#: Bytes of all shapes that are kept, as they came.
CACHE_BYTES = 64 << 20

_NAMES = {int(kind): kind.name for kind in CursorType}
# What a pixel that inverts the screen looks like, since nothing can invert: a chequered grey.
_GREYS = (0x30505050, 0xC0303030)


class CursorChanged(Event):
    """The pointer has another shape; its pixels are in `CursorTracker.shape`."""

    display: int
    width: int
    height: int
    #: The pixel of the shape that is at the pointer's position.
    hot_x: int
    hot_y: int
    #: ``ALPHA``, ``MONO``, ``COLOR32`` and so on.
    type: str
    visible: bool


class CursorMoved(Event):
    """The server moved the pointer."""

    display: int
    x: int
    y: int


class CursorHidden(Event):
    """No pointer is seen."""

    display: int


class CursorMissing(Event):
    """The server refers to a shape that isn't kept: the pointer is hidden."""

    display: int
    unique: int


def _size(kind: int, width: int, height: int) -> int | None:
    """Bytes that a shape of this type takes, None for a type that isn't known."""
    mask = (width * height + 7) // 8
    sizes: dict[int, int] = {
        CursorType.ALPHA: 4 * width * height,
        CursorType.MONO: (width + 7) // 8 * height * 2,
        CursorType.COLOR32: 4 * width * height + mask,
        CursorType.COLOR16: 2 * width * height + mask,
        CursorType.COLOR4: (width + 1) // 2 * height + 64 + mask,
    }
    return sizes.get(kind)


def _likely_size(kind: int, width: int, height: int) -> int:
    """The same for the types that upstream doesn't show, laid out as the others are."""
    mask = (width * height + 7) // 8
    if kind == CursorType.COLOR8:
        return width * height + 1024 + mask
    return 3 * width * height + mask


class Shape:
    """What a pointer looks like: ``width`` x ``height`` pixels, its hot spot, data as it came."""

    __slots__ = ("data", "height", "hot_x", "hot_y", "type", "unique", "width")

    def __init__(self, header: wire.CursorHeader, data: bytes) -> None:
        self.unique = header.unique
        self.type = header.type
        self.width = header.width
        self.height = header.height
        self.hot_x = min(header.hot_spot_x, header.width)
        self.hot_y = min(header.hot_spot_y, header.height)
        if header.width > MAX_SIDE or header.height > MAX_SIDE:
            raise RemoteProtocolError(
                f"a pointer of {header.width}x{header.height} pixels, the limit is {MAX_SIDE}"
            )
        size = _size(self.type, self.width, self.height)
        if size is not None and len(data) < size:
            raise RemoteProtocolError(
                f"a pointer of {self.width}x{self.height} pixels and type {self.type_name} "
                f"takes {size} bytes, {len(data)} are there"
            )
        self.data = data[:size]

    @property
    def type_name(self) -> str:
        """``ALPHA``, ``MONO`` and so on; the number for a type that isn't known."""
        return _NAMES.get(self.type, str(self.type))

    def bgra(self) -> bytes | None:
        """Rows, top first: four bytes a pixel, blue, green, red, alpha (255: opaque).

        None for a type that isn't known. Pixels that invert what is below become white (MONO) or
        a chequered grey. spice-gtk has no pointers of 8 and 24 bit: their bytes are read as those
        of the other types lie (pixels, palette, mask), and None is what too few of them make.
        """
        if self.type == CursorType.ALPHA:
            return self.data
        decode = {
            CursorType.MONO: self._mono,
            CursorType.COLOR4: self._colour4,
            CursorType.COLOR8: self._colour8,
            CursorType.COLOR16: self._colour16,
            CursorType.COLOR24: self._colour24,
            CursorType.COLOR32: self._colour32,
        }
        if self.type not in decode:
            return None
        if self.type in (CursorType.COLOR8, CursorType.COLOR24) and len(self.data) < _likely_size(
            self.type, self.width, self.height
        ):
            return None
        values = decode[CursorType(self.type)]()
        return b"".join([value.to_bytes(4, "little") for value in values])

    def _mono(self) -> list[int]:
        """By the bits of the and mask and the xor mask behind it."""
        row = (self.width + 7) // 8
        behind = row * self.height
        meaning = (0xFF000000, 0xFFFFFFFF, 0, 0xFFFFFFFF)
        values = []
        for y in range(self.height):
            for x in range(self.width):
                at, bit = y * row + x // 8, 7 - x % 8
                keep = self.data[at] >> bit & 1
                values.append(meaning[keep << 1 | (self.data[behind + at] >> bit & 1)])
        return values

    def _masked(self, values: list[int], white: int, mask_at: int) -> list[int]:
        """Make pixels opaque whose mask bit is 0; white ones whose bit is 1 invert the screen."""
        for place, value in enumerate(values):
            if not self.data[mask_at + (place >> 3)] & (0x80 >> (place & 7)):
                values[place] = value | 0xFF000000
            elif value == white:
                y, x = divmod(place, self.width)
                values[place] = _GREYS[(x ^ y) & 1]
        return values

    def _colour16(self) -> list[int]:
        count = self.width * self.height
        values = [
            (pixel & 0x1F) << 3 | (pixel & 0x3E0) << 6 | (pixel & 0x7C00) << 9
            for pixel in unpack_from(f"<{count}H", self.data)
        ]
        return self._masked(values, 0xF8F8F8, 2 * count)

    def _colour32(self) -> list[int]:
        count = self.width * self.height
        return self._masked(list(unpack_from(f"<{count}I", self.data)), 0xFFFFFF, 4 * count)

    def _colour24(self) -> list[int]:
        size = 3 * self.width * self.height
        values = [int.from_bytes(self.data[at : at + 3], "little") for at in range(0, size, 3)]
        return self._masked(values, 0xFFFFFF, size)

    def _colour8(self) -> list[int]:
        count = self.width * self.height
        palette = unpack_from("<256I", self.data, count)
        values = [palette[place] for place in self.data[:count]]
        return self._masked(values, 0xFFFFFF, count + 1024)

    def _colour4(self) -> list[int]:
        count = self.width * self.height
        palette_at = (self.width + 1) // 2 * self.height
        palette = unpack_from("<16I", self.data, palette_at)
        values = [
            palette[self.data[place >> 1] >> (0 if place & 1 else 4) & 15] for place in range(count)
        ]
        return self._masked(values, 0xFFFFFF, palette_at + 64)


class CursorTracker:
    """The pointer of one cursor channel; plain data."""

    handlers: ClassVar[dict[int, str]] = {
        wire.Init.number: "_init",
        wire.Reset.number: "_reset",
        wire.Set.number: "_set",
        wire.Move.number: "_move",
        wire.Hide.number: "_hide",
        wire.Trail.number: "_trail",
        wire.InvalOne.number: "_inval_one",
        wire.InvalAll.number: "_inval_all",
    }

    def __init__(self, channel_id: int) -> None:
        #: Number of the cursor channel, which is that of its display channel.
        self.id = channel_id
        self.position = (0, 0)
        self.visible = False
        self.shape: Shape | None = None
        #: Length and frequency of the shadows behind the pointer.
        self.trail = (0, 0)
        self._kept: dict[int, Shape] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def reset(self) -> None:
        """Forget everything that came over the old connection."""
        self._clear()
        self.shape = None
        self.visible = False

    def apply(self, message: Message) -> list[Event]:
        """Carry out one message of the cursor channel and tell what came of it.

        Raises `RemoteProtocolError` for shapes that are too large, have too few bytes, or are
        more than may be kept.
        """
        name = self.handlers.get(message.number)
        if name is None:
            return []
        try:
            events: list[Event] = getattr(self, name)(message)
        except RemoteProtocolError as error:
            error.message = error.message or type(message).__name__
            error.where = error.where or f"cursor:{self.id}"
            raise
        return events

    def _clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def _drop(self, unique: int) -> None:
        kept = self._kept.pop(unique, None)
        if kept is not None:
            self._bytes -= len(kept.data)

    def _keep(self, shape: Shape) -> None:
        self._drop(shape.unique)
        size = len(shape.data)
        if len(self._kept) >= MAX_SHAPES or self._bytes + size > CACHE_BYTES:
            raise RemoteProtocolError(
                f"{len(self._kept)} pointers of {self._bytes} bytes are kept, the limits are "
                f"{MAX_SHAPES} and {CACHE_BYTES}"
            )
        self._kept[shape.unique] = shape
        self._bytes += size

    def _show(self, message: wire.Init | wire.Set) -> list[Event]:
        self.position = (message.position.x, message.position.y)
        cursor = message.cursor
        header = cursor.header
        if header is None:
            return self._hide()
        if cursor.flags & CursorFlags.FROM_CACHE:
            kept = self._kept.get(header.unique)
            if kept is None:
                return [CursorMissing(display=self.id, unique=header.unique), *self._hide()]
            self.shape = kept
        else:
            self.shape = Shape(header, cursor.data)
            if cursor.flags & CursorFlags.CACHE_ME:
                self._keep(self.shape)
        self.visible = bool(message.visible)
        return [self._changed(self.shape)]

    def _changed(self, shape: Shape) -> CursorChanged:
        return CursorChanged(
            display=self.id,
            width=shape.width,
            height=shape.height,
            hot_x=shape.hot_x,
            hot_y=shape.hot_y,
            type=shape.type_name,
            visible=self.visible,
        )

    def _init(self, message: wire.Init) -> list[Event]:
        self._clear()
        self.trail = (message.trail_length, message.trail_frequency)
        return self._show(message)

    def _set(self, message: wire.Set) -> list[Event]:
        return self._show(message)

    def _reset(self, message: wire.Reset) -> list[Event]:
        self._clear()
        self.shape = None
        return self._hide()

    def _move(self, message: wire.Move) -> list[Event]:
        self.position = (message.position.x, message.position.y)
        self.visible = self.shape is not None
        return [CursorMoved(display=self.id, x=message.position.x, y=message.position.y)]

    def _hide(self, message: wire.Hide | None = None) -> list[Event]:
        self.visible = False
        return [CursorHidden(display=self.id)]

    def _trail(self, message: wire.Trail) -> list[Event]:
        self.trail = (message.length, message.frequency)
        return []

    def _inval_one(self, message: wire.InvalOne) -> list[Event]:
        self._drop(message.id)
        return []

    def _inval_all(self, message: wire.InvalAll) -> list[Event]:
        self._clear()
        return []
