"""What every image codec gives: pixels in a plain buffer, and the limits on them."""

from __future__ import annotations

from typing import NamedTuple

from aiospice.errors import DecodeError

__all__ = ["A8", "ARGB", "MAX_PIXELS", "RGB555", "XRGB", "Decoded", "check_size"]

#: Formats of pixels, with the numbers of ``SPICE_SURFACE_FMT_*``: alpha only, 16 bit little
#: endian, B G R and an unused byte, B G R and alpha.
A8, RGB555, XRGB, ARGB = 8, 16, 32, 96

#: Pixels that a compressed image may have: 256 MiB at four bytes each.
MAX_PIXELS = 1 << 26


class Decoded(NamedTuple):
    """A decoded image. Its pixels may be shared with a codec's window: they aren't written to."""

    #: Size in pixels.
    width: int
    height: int
    #: `A8`, `RGB555`, `XRGB` or `ARGB`.
    format: int
    #: The rows, with whatever is between them.
    data: bytearray | bytes
    #: Where the top row begins, in bytes.
    offset: int
    #: Bytes from a row to the one below; negative when the bottom row comes first.
    stride: int

    def rows(self) -> bytes:
        """A copy of the rows, top row first, with nothing between them."""
        size = self.width * {A8: 1, RGB555: 2}.get(self.format, 4)
        if self.offset == 0 and self.stride == size:
            return bytes(self.data)
        view = memoryview(self.data)
        starts = (self.offset + y * self.stride for y in range(self.height))
        return b"".join([view[start : start + size] for start in starts])


def check_size(width: int, height: int, offset: int) -> None:
    """Refuse an image without pixels or with more than `MAX_PIXELS`, by `DecodeError`."""
    if not (width and height):
        raise DecodeError(f"an image of {width}x{height} pixels", offset=offset)
    if width * height > MAX_PIXELS:
        raise DecodeError(
            f"an image of {width}x{height} pixels, more than {MAX_PIXELS}", offset=offset
        )
