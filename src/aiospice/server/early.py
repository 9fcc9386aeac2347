"""A guest's state on its way while the guest still runs, in pieces: what the source has told of it
so far, and what the target has collected.

Pixels go in strips of rows; a strip whose pixels the guest has changed since goes again, and only
such strips are left to tell when the guest stands still. What the guest itself has told
(`Guest.freeze_early`) and the rest of the state go as numbered parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from lz4.block import LZ4BlockError, compress, decompress

from aiospice.errors import LocalError, RemoteProtocolError
from aiospice.migration.peer import Piece
from aiospice.migration.peer_codec import PIECE_BYTES
from aiospice.server.statewire import decode_machine, encode_machine
from aiospice.server.surface import check_surface, strip_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.server.carried import MachineState
    from aiospice.server.machine import Machine

__all__ = [
    "STATE_LIMIT",
    "Collected",
    "EarlyPixels",
    "guest_pieces",
    "pack_piece",
    "rest_pieces",
    "unpack_piece",
]

#: The most bytes of one guest's state.
STATE_LIMIT = 2 << 30
_MOST_PARTS = 10_000
#: Of a piece, so much is packed first, to see whether it pays; what is shorter goes as it is.
_SAMPLE, _LEAST = 8 << 10, 1 << 10
#: A byte of LZ4 stands for at most so many.
_EXPANSION = 255


class EarlyPixels:
    """The source's end: which strips of a machine's surfaces have still to be told."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        #: Displays that are to be published, as they may have changed without a word.
        self.looked: set[int] = set()

    def pieces(self) -> Iterator[Piece]:
        """Strips that are new or have changed; while the guest runs it may change some again."""
        for number, display in self._machine.displays.items():
            for surface in list(display.surfaces.values()):
                if surface.dirty is None:
                    surface.dirty = set(range(surface.strips))
                for strip in sorted(surface.dirty):
                    surface.dirty.discard(strip)
                    box = surface.strip(strip)
                    # What was written there without a word is to be seen by clients, too.
                    surface.look(box)
                    self.looked.add(number)
                    stride = 4 * surface.width
                    yield Piece(
                        f"pixels/{number}/{surface.id}/{surface.width}/{surface.height}/{strip}",
                        bytes(memoryview(surface.pixels)[stride * box[1] : stride * box[3]]),
                    )

    @property
    def waiting(self) -> int:
        """Bytes of strips that would be told now."""
        found = 0
        for display in self._machine.displays.values():
            for surface in display.surfaces.values():
                share = 1.0 if surface.dirty is None else len(surface.dirty) / surface.strips
                found += int(share * len(surface.pixels))
        return found

    def end(self) -> None:
        """Nothing is told any more."""
        for display in self._machine.displays.values():
            for surface in display.surfaces.values():
                surface.dirty = None


def _parts(data: bytes, kind: str, name: str = "") -> Iterator[Piece]:
    count = max(1, -(-len(data) // PIECE_BYTES))
    for number in range(count):
        part = data[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]
        yield Piece(f"{kind}/{number}/{count}/{name}", part)


def guest_pieces(name: str, value: bytes) -> Iterator[Piece]:
    """A part of the guest's own state, of that name."""
    if len(name) > 200:
        raise LocalError(f"a name of {len(name)} characters: Guest.freeze_early may use 200")
    yield from _parts(value, "guest", name)


def pack_piece(piece: Piece) -> Piece:
    """The same piece by LZ4, where that takes at most three quarters of the bytes."""
    data = piece.data
    if len(data) < _LEAST:
        return piece
    for some in (memoryview(data)[:_SAMPLE], data):
        packed = compress(some, store_size=False)
        if 4 * len(packed) > 3 * len(some):
            return piece
    return Piece(piece.name, packed, len(data))


def unpack_piece(piece: Piece) -> bytes:
    """The data of a piece as it was. Raises `RemoteProtocolError`."""
    if not piece.size:
        return piece.data
    if not 0 < piece.size <= min(PIECE_BYTES, _EXPANSION * len(piece.data)):
        _bad_piece(piece, f"{len(piece.data)} bytes can't stand for {piece.size}")
    try:
        data: bytes = decompress(piece.data, uncompressed_size=piece.size)
    except LZ4BlockError as error:
        _bad_piece(piece, str(error))
    if len(data) != piece.size:
        _bad_piece(piece, f"{len(data)} bytes, {piece.size} were told")
    return data


def _bad_piece(piece: Piece, text: str) -> NoReturn:
    raise RemoteProtocolError(f"{piece.name[:60]!r}: {text}", message="peer Piece")


def rest_pieces(guest: bytes, machine: MachineState) -> tuple[list[Piece], bytes]:
    """All else, as pieces and what `Stopped` carries."""
    data = len(guest).to_bytes(8, "little") + guest + encode_machine(machine)
    *pieces, last = _parts(data, "state")
    return pieces, last.data


class _Coming:
    """A surface on its way."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.pixels = bytearray(4 * width * height)
        #: The same once more, for what clients are known to see.
        self.copy = bytearray(4 * width * height)
        self.strips: set[int] = set()


class Collected:
    """The target's end. Plain data."""

    def __init__(self) -> None:
        self._surfaces: dict[tuple[int, int], _Coming] = {}
        self._parts: dict[str, list[bytes]] = {}
        self._whole: dict[str, bool] = {}
        #: Bytes that are kept.
        self.size = 0

    def keep(self, piece: Piece) -> None:
        """Take a piece. `RemoteProtocolError` for one that can't be, or too much of it."""
        kind, _, rest = piece.name.partition("/")
        data = unpack_piece(piece)
        try:
            if kind == "pixels":
                display, surface, width, height, strip = map(int, rest.split("/"))
                self._pixels((display, surface), width, height, strip, data)
            elif kind in ("guest", "state"):
                number, count, name = rest.split("/", 2)
                self._part(f"{kind}/{name}", int(number), int(count), data)
            else:
                raise ValueError("not known")
        except (ValueError, LocalError) as error:
            _bad_piece(piece, str(error))
        if self.size > STATE_LIMIT:
            raise RemoteProtocolError(
                f"the guest's state takes more than {STATE_LIMIT} bytes", message="peer Piece"
            )

    def _pixels(
        self, place: tuple[int, int], width: int, height: int, strip: int, data: bytes
    ) -> None:
        coming = self._surfaces.get(place)
        if coming is None or (coming.width, coming.height) != (width, height):
            check_surface(width, height)
            self.size += 8 * width * height - (0 if coming is None else 2 * len(coming.pixels))
            if self.size > STATE_LIMIT:
                return
            coming = self._surfaces[place] = _Coming(width, height)
        rows = strip_rows(width)
        first, stride = strip * rows, 4 * width
        if not 0 <= first < height or len(data) != stride * (min(first + rows, height) - first):
            raise ValueError(f"{len(data)} bytes don't fit there")
        place_there = slice(stride * first, stride * first + len(data))
        coming.pixels[place_there] = coming.copy[place_there] = data
        coming.strips.add(strip)

    def _part(self, name: str, number: int, count: int, data: bytes) -> None:
        if number == 0:
            self.size -= sum(map(len, self._parts.get(name, ())))
            self._parts[name] = []
        parts = self._parts.get(name)
        if parts is None or number != len(parts) or not number < count <= _MOST_PARTS:
            raise ValueError("out of turn")
        if len(self._parts) > _MOST_PARTS:
            raise ValueError(f"more than {_MOST_PARTS} parts")
        parts.append(data)
        self._whole[name] = number == count - 1
        self.size += len(data)

    def guest_parts(self) -> dict[str, bytes]:
        """What the guest had told early, by name."""
        return {
            name.partition("/")[2]: b"".join(parts)
            for name, parts in self._parts.items()
            if name.startswith("guest/") and self._whole[name]
        }

    def rest(self, last: bytes) -> tuple[bytes, MachineState]:
        """The guest's own bytes, and the machine; ``last``: what `Stopped` carried.

        `RemoteProtocolError` for what can't be so. Gives surfaces away: to be called once.
        """
        data = b"".join((*self._parts.pop("state/", []), last))
        size = int.from_bytes(data[:8], "little")
        if not 8 <= size + 8 <= len(data):
            raise RemoteProtocolError(f"{len(data)} bytes", message="peer Stopped")
        machine = decode_machine(data[8 + size :])
        for number, display in machine.displays.items():
            copies: dict[int, bytearray] = {}
            for id, (width, height, alpha, pixels) in display.surfaces.items():
                if not pixels:
                    found = self._taken(number, id, width, height)
                    kept: Any = found.pixels  # given away: nothing is copied
                    display.surfaces[id] = (width, height, alpha, kept)
                    copies[id] = found.copy
            machine.displays[number] = display._replace(copies=copies or None)
        return data[8 : 8 + size], machine

    def _taken(self, number: int, id: int, width: int, height: int) -> _Coming:
        coming = self._surfaces.pop((number, id), None)
        fits = coming is not None and (coming.width, coming.height) == (width, height)
        if coming is None or not fits or len(coming.strips) * strip_rows(width) < height:
            raise RemoteProtocolError(
                f"surface {id} of display {number} hasn't come whole", message="peer Stopped"
            )
        return coming
