"""GLZ images: LZ whose copies may also come from earlier images.

An image has a number, counted over all display channels of a session, and tells how many images
before it make up the window that it and later ones may copy from. The channels are connections of
their own, so an image can arrive before one that it copies from: `decode` then gives `NeedsImage`
and keeps nothing; the caller parks the data, and tries again when that image is there.

Header, big endian: magic and version as LZ, 32 bits each; a byte of type (low four bits) and
whether the top row comes first; width, height, bytes a row, 32 bits each; the number, 64 bits; the
length of the window, 32 bits. Types are pixels only, since the same indices would be other colours
in the next image. Facts: spice-gtk ``src/decode-glz.c``, spice-server ``glz-encoder.c`` and
``glz-encoder-dict.c``, spice-common ``canvas_base.c``.
"""

from __future__ import annotations

from array import array
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from aiospice.codecs.glz_window import MAX_IMAGES, GlzWindow, NeedsImage, unpack
from aiospice.codecs.image import ARGB, XRGB, Decoded, check_size
from aiospice.codecs.lz import (
    MAGIC,
    RGB16,
    RGB24,
    RGB32,
    RGBA,
    VERSION,
    check_plausible,
    row_bytes,
)
from aiospice.errors import DecodeError

if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

__all__ = [
    "HEADER_SIZE",
    "MAX_IMAGES",
    "GlzDictionary",
    "GlzWindow",
    "Header",
    "NeedsImage",
    "decode",
    "lose",
    "parse_header",
]

_HEADER = Struct(">2IB3IQI")
HEADER_SIZE = _HEADER.size
#: Numbers of images are below this, so that they are numbers of C with a sign.
_MAX_ID = 1 << 62


class Header(NamedTuple):
    """What stands before a GLZ stream."""

    #: `RGB16`, `RGB24`, `RGB32` or `RGBA`.
    type: int
    top_down: bool
    width: int
    height: int
    #: Its number.
    id: int
    #: How many images before it, from the oldest on, may still be copied from.
    window: int


def parse_header(data: Buffer) -> Header:
    """Read the header and refuse sizes that its data can't have; raises `DecodeError`."""
    if len(data) <= HEADER_SIZE:
        raise DecodeError(f"{len(data)} bytes are no GLZ image", offset=len(data))
    magic, version, first, width, height, stride, number, window = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DecodeError(f"no GLZ image: it begins with {magic:#010x}", offset=0)
    if version != VERSION:
        raise DecodeError(f"GLZ of version {version:#x}, not {VERSION:#x}", offset=4)
    type = first & 15
    if type not in (RGB16, RGB24, RGB32, RGBA):
        raise DecodeError(f"GLZ images of type {type} don't exist", offset=8)
    check_size(width, height, 9)
    if stride != row_bytes(type, width):
        raise DecodeError(f"rows of {stride} bytes for {width} pixels", offset=17)
    units = width * height * (2 if type == RGBA else 1)
    check_plausible(units, len(data) - HEADER_SIZE, 9)
    if number >= _MAX_ID:
        raise DecodeError(f"an image with the number {number}", offset=21)
    if window > number:
        raise DecodeError(f"image {number} has a window of {window} images", offset=29)
    return Header(type, first > 15, width, height, number, window)


def decode(data: Buffer, window: GlzWindow) -> Decoded | NeedsImage:
    """Decode an image to `ARGB` (type RGBA) or `XRGB` and keep it in the window.

    With `NeedsImage` nothing has changed. Raises `DecodeError` with the offset; the window is
    then as it was.
    """
    header = parse_header(data)
    if header.id in window:
        raise DecodeError(f"image {header.id} is there already", offset=21)
    width, height = header.width, header.height
    out = bytearray(4 * width * height)
    view = memoryview(data).cast("B")
    needs = unpack(window, view, HEADER_SIZE, out, header.type, header.id)
    if isinstance(needs, NeedsImage):
        return needs
    window.add(header.id, header.window, out)
    window.lend(header.id)
    format = ARGB if header.type == RGBA else XRGB
    if header.top_down:
        return Decoded(width, height, format, out, 0, 4 * width)
    return Decoded(width, height, format, out, 4 * width * (height - 1), -4 * width)


def lose(data: Buffer, window: GlzWindow) -> None:
    """An image could not be decoded: those that copy from it are not to wait for it.

    The first `HEADER_SIZE` bytes of its stream are enough.
    """
    if len(data) >= HEADER_SIZE:
        magic, version, _, _, _, _, number, before = _HEADER.unpack_from(data)
        if (magic, version) == (MAGIC, VERSION) and before <= number < _MAX_ID:
            window.lose(number, before)


class GlzDictionary:
    """What a server's encoder knows the client's window to hold, and the numbers of images.

    One for all display channels of a session. It keeps ``limit`` pixels, four bytes each, and a
    table of half a MiB. A copy of it made by pickling goes on with the next number and
    an empty window, which clients follow.
    """

    def __init__(self, limit: int, next_id: int = 0) -> None:
        if limit < 1 or next_id < 0:
            raise ValueError(f"a window of {limit} pixels from image {next_id} on")
        #: Pixels that the window may have, 1 to 2**25.
        self.limit = limit
        #: The number of the next image.
        self.next_id = next_id
        self._blocks = 0
        self.clear()

    def clear(self) -> None:
        """Forget all images; the numbers go on."""
        from aiospice.codecs.lz_pack import BLOCK, IMAGES

        self._blocks = -(-min(self.limit, 1 << 25) // BLOCK)
        self._pixels = bytearray(self._blocks * BLOCK * 4)
        self._owners = array("H", bytes(2 * self._blocks))
        self._rows = array("q", (-1,)) * (3 * IMAGES)
        self._places = array("I", bytes(4 << _BITS))
        self._held: list[tuple[int, int, int]] = []  # number, first block, blocks
        self._head = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "next_id": self.next_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.limit = state["limit"]
        self.next_id = state["next_id"]
        self.clear()

    def encode(
        self, pixels: Buffer, width: int, height: int, type: int = RGB32, *, top_down: bool = True
    ) -> bytes:
        """Encode an image (`RGB32` or `RGBA`) and keep it; at most 1 + 1/32 times its bytes + 200.

        ``pixels`` has the rows, in the order that ``top_down`` tells, with nothing between them:
        B G R and a fourth byte. The result must be sent, since later images copy from it.
        `ValueError` for another type, or more pixels than the window has.
        """
        from aiospice.codecs import lz_pack

        count = width * height
        view = memoryview(pixels).cast("B")
        if type not in (RGB32, RGBA) or width < 1 or height < 1 or len(view) != 4 * count:
            raise ValueError(f"{len(view)} bytes for {width}x{height} pixels of type {type}")
        first = self._place(view, count, type == RGBA)
        window = self.next_id - self._held[0][0]
        room = lz_pack.room_for(count, lz_pack.PIXEL)
        out = bytearray(HEADER_SIZE + room + (lz_pack.room_for(count, 1) if type == RGBA else 0))
        top = 16 if top_down else 0
        _HEADER.pack_into(
            out, 0, MAGIC, VERSION, type | top, width, height, 4 * width, self.next_id, window
        )
        number = 2 * self.next_id + (type == RGBA)
        end = self._pack(memoryview(self._pixels), first, count, number, out, HEADER_SIZE)
        if type == RGBA:
            end = self._pack_alpha(bytes(view[3::4]), number, out, end)
        self.next_id += 1
        return bytes(memoryview(out)[:end])

    def _pack(
        self, window: memoryview, first: int, count: int, number: int, out: bytearray, at: int
    ) -> int:
        from aiospice.codecs import lz_pack

        return lz_pack.pack_shared(
            window,
            first,
            count,
            lz_pack.PIXEL,
            number,
            memoryview(self._places),
            64 - _BITS,
            memoryview(self._owners),
            memoryview(self._rows),
            memoryview(out),
            at,
        )

    def _pack_alpha(self, alpha: bytes, number: int, out: bytearray, at: int) -> int:
        from aiospice.codecs import lz_pack

        bits = min(16, max(8, len(alpha).bit_length()))
        return lz_pack.pack_shared(
            memoryview(alpha),
            0,
            len(alpha),
            lz_pack.BYTE,
            number,
            memoryview(array("I", bytes(4 << bits))),
            64 - bits,
            memoryview(array("H", bytes(2 * (len(alpha) // 64 + 1)))),
            memoryview(self._rows),
            memoryview(out),
            at,
        )

    def _place(self, view: memoryview, count: int, alpha: bool) -> int:
        """Put pixels into the window, over the oldest ones; tells the first pixel's place."""
        from aiospice.codecs.lz_pack import BLOCK, IMAGES

        blocks = -(-count // BLOCK)
        if blocks > self._blocks or count > self.limit:
            raise ValueError(f"{count} pixels, and the window has {self.limit}")
        start = self._head
        if start + blocks > self._blocks:
            while self._held and self._held[0][1] >= start:
                self._evict()
            start = 0
        while self._held and (
            start <= self._held[0][1] < start + blocks or len(self._held) >= IMAGES
        ):
            self._evict()
        self._head = start + blocks
        slot = self.next_id % IMAGES
        self._held.append((self.next_id, start, blocks))
        self._owners[start : start + blocks] = array("H", (slot,)) * blocks
        first = start * BLOCK
        row = (2 * self.next_id + alpha, first, first + count)
        self._rows[3 * slot : 3 * slot + 3] = array("q", row)
        memoryview(self._pixels)[4 * first : 4 * (first + count)] = view
        return first

    def _evict(self) -> None:
        from aiospice.codecs.lz_pack import IMAGES

        image_id = self._held.pop(0)[0]
        self._rows[3 * (image_id % IMAGES)] = -1


#: The table of places in the window has ``2 ** _BITS`` rows of four bytes.
_BITS = 17
