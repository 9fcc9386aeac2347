"""Rectangles of pixels in a plain buffer: surfaces, decoded images, and conversion between formats.

A pixel's bytes lie in memory as the protocol has them: 32 bit as B, G, R and a fourth byte (unused
or alpha), 16 bit little endian. Whatever happens to whole planes of bytes is done by slices with a
step and by ``bytes.translate``, which run at the speed of C without a compiled module.
"""

from __future__ import annotations

from aiospice.errors import RemoteProtocolError

__all__ = [
    "A1",
    "A8",
    "ARGB",
    "BYTES",
    "FORMAT_NAMES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "RGB555",
    "RGB565",
    "XRGB",
    "Pixels",
    "check_size",
    "join16",
]

# ``SPICE_SURFACE_FMT_*``.
A1 = 1
A8 = 8
RGB555 = 16
XRGB = 32
RGB565 = 80
ARGB = 96

#: Bytes a pixel. A1 surfaces are kept and never drawn on (upstream can't either): a byte each.
BYTES = {A1: 1, A8: 1, RGB555: 2, RGB565: 2, XRGB: 4, ARGB: 4}
FORMAT_NAMES = {
    A1: "1_A",
    A8: "8_A",
    RGB555: "16_555",
    RGB565: "16_565",
    XRGB: "32_xRGB",
    ARGB: "32_ARGB",
}

#: Pixels that a side of a surface or an image may have.
MAX_SIDE = 16384
#: Pixels that one surface or image may have: 512 MiB at four bytes each.
MAX_PIXELS = 1 << 27

#: Pixels that are converted at a time, so that what is in between takes little memory.
_STRIP = 1 << 15
_HIGH5 = bytes((v & 0x1F) << 3 | (v & 0x1F) >> 2 for v in range(256))


def check_size(width: int, height: int, what: str) -> None:
    """Refuse a size that isn't 1 to `MAX_SIDE` each way and at most `MAX_PIXELS`.

    Raises `RemoteProtocolError`, before anything is allocated.
    """
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise RemoteProtocolError(f"{what} of {width}x{height}: sides are 1 to {MAX_SIDE} pixels")
    if width * height > MAX_PIXELS:
        raise RemoteProtocolError(f"{what} of {width}x{height}: more than {MAX_PIXELS} pixels")


class Pixels:
    """``width`` x ``height`` pixels of one format in ``data``.

    Row ``y`` begins at ``offset + y * stride``; a negative stride is a picture whose last row
    comes first. The pixels lie inside ``data``: whoever makes one has seen to that.
    """

    __slots__ = ("data", "format", "height", "offset", "stride", "width")

    def __init__(
        self,
        width: int,
        height: int,
        format: int,
        data: bytes | bytearray | memoryview | None = None,
        offset: int = 0,
        stride: int = 0,
    ) -> None:
        self.width = width
        self.height = height
        self.format = format
        self.stride = stride or width * BYTES[format]
        self.offset = offset
        self.data = bytearray(self.stride * height) if data is None else data

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without what is between rows."""
        return self.width * BYTES[self.format]

    @property
    def is_tight(self) -> bool:
        """The data is the rows, top first, one behind the other, and nothing else."""
        return (
            self.offset == 0
            and self.stride == self.row_bytes
            and len(self.data) == self.stride * self.height
        )

    def tight(self) -> bytes | bytearray | memoryview:
        """The rows, top first, with nothing between them; the data itself if it is like that."""
        return self.data if self.is_tight else self.rows(0, self.height)

    def place(self, x: int, y: int) -> int:
        """Where in the data a pixel begins."""
        return self.offset + y * self.stride + x * BYTES[self.format]

    def view(self, box: tuple[int, int, int, int]) -> Pixels:
        """A box of these pixels (left, top, right, bottom, inside of them), not copied."""
        left, top, right, bottom = box
        offset = self.place(left, top)
        return Pixels(right - left, bottom - top, self.format, self.data, offset, self.stride)

    def rows(self, first: int, last: int) -> bytes:
        """A copy of the rows from ``first`` up to ``last``, with nothing between them."""
        size = self.row_bytes
        data = memoryview(self.data)
        start = self.offset + first * self.stride
        if self.stride == size:
            return bytes(data[start : start + size * (last - first)])
        rows = []
        for _ in range(last - first):
            rows.append(data[start : start + size])
            start += self.stride
        return b"".join(rows)

    def copy(self) -> Pixels:
        """The same pixels in a buffer of their own that nobody writes to."""
        return Pixels(self.width, self.height, self.format, bytes(self.tight()))

    def converted(self, format: int) -> Pixels:
        """These pixels for a target of that format, as pixman's OP_SRC converts.

        Between formats of 32 bit all four bytes are kept (``canvas_get_target_format`` in
        spice-common ``canvas_base.c``), so the result may be ``self``.
        """
        mine = self.format
        if mine == format or (BYTES[mine] == 4 and BYTES[format] == 4):
            return self
        step = self.width * BYTES[format]
        data = bytearray(step * self.height)
        strip = max(1, _STRIP // self.width)
        for first in range(0, self.height, strip):
            last = min(first + strip, self.height)
            data[first * step : last * step] = _converted(self.rows(first, last), mine, format)
        return Pixels(self.width, self.height, format, data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pixels):
            return NotImplemented
        mine = (self.width, self.height, self.format, bytes(self.tight()))
        return mine == (other.width, other.height, other.format, bytes(other.tight()))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Pixels({self.width}x{self.height} {FORMAT_NAMES[self.format]})"


def _converted(data: bytes, source: int, target: int) -> bytes:
    """Tight pixels of one format as another; not both have 32 bits."""
    if BYTES[source] == 2:
        data = _widen(data, source == RGB565)
        source = XRGB
    elif BYTES[source] == 1:
        alpha = bytearray(4 * len(data))
        alpha[3::4] = data
        data = bytes(alpha)
        source = ARGB
    return data if BYTES[target] == 4 else _from32(data, source, target)


def join16(low: bytes, high: bytes) -> bytes:
    """Two planes of bytes of the same length as little-endian pairs."""
    pairs = bytearray(2 * len(low))
    pairs[0::2] = low
    pairs[1::2] = high
    return bytes(pairs)


def _either(one: bytes, other: bytes) -> bytes:
    """OR of two byte strings of the same length."""
    value = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return value.to_bytes(len(one), "little")


def _shifted(left: int, mask: int) -> bytes:
    """A table for translate: shifted left (or right, when negative), then masked."""
    return bytes((v << left if left >= 0 else v >> -left) & mask for v in range(256))


def _widen(data: bytes, is_565: bool) -> bytes:
    """16 bit to 32: the high bits are repeated below, the fourth byte is 255 (as pixman's is)."""
    low, high = data[0::2], data[1::2]
    wide = bytearray(b"\xff") * (2 * len(data))
    wide[0::4] = low.translate(_HIGH5)
    if is_565:
        six = _either(low.translate(_shifted(-5, 7)), high.translate(_shifted(3, 0x38)))
        wide[1::4] = six.translate(bytes((v << 2 | v >> 4) & 255 for v in range(256)))
        wide[2::4] = high.translate(_shifted(-3, 31)).translate(_HIGH5)
    else:
        five = _either(low.translate(_shifted(-5, 7)), high.translate(_shifted(3, 0x18)))
        wide[1::4] = five.translate(_HIGH5)
        wide[2::4] = high.translate(_shifted(-2, 31)).translate(_HIGH5)
    return bytes(wide)


def _from32(data: bytes, source: int, target: int) -> bytes:
    """32 bit to fewer: colours lose their low bits, an A8 target takes the alpha (255: none)."""
    if BYTES[target] == 1:
        return data[3::4] if source == ARGB else b"\xff" * (len(data) // 4)
    blue = data[0::4].translate(_shifted(-3, 31))
    green, red = data[1::4], data[2::4]
    if target == RGB565:
        low = _either(blue, green.translate(_shifted(3, 0xE0)))
        high = _either(green.translate(_shifted(-5, 7)), red.translate(_shifted(0, 0xF8)))
    else:
        low = _either(blue, green.translate(_shifted(2, 0xE0)))
        high = _either(green.translate(_shifted(-6, 3)), red.translate(_shifted(-1, 0x7C)))
    return join16(low, high)
