"""Frames of MJPEG: each is a JPEG image of its own, so they are decoded in any order, anywhere.

The library is that of `aiospice.codecs.jpeg`. Facts: spice-gtk ``src/channel-display-mjpeg.c``,
spice-server ``mjpeg-encoder.c``. Like any Motion JPEG a frame may leave out its Huffman tables;
libjpeg-turbo then takes the ones of the standard.
"""

from __future__ import annotations

from typing import NamedTuple

from aiospice.codecs.image import XRGB, Decoded, check_size
from aiospice.codecs.jpeg import _library
from aiospice.errors import AiospiceError, DecodeError

__all__ = ["MjpegFrame", "decode"]


class MjpegFrame(NamedTuple):
    """The work of decoding one frame: plain data, for any thread."""

    data: bytes
    #: Size in pixels that the frame must have.
    width: int
    height: int
    #: False: the rows of the JPEG image come from the bottom of the picture.
    top_down: bool = True

    def run(self) -> Decoded | AiospiceError:
        """The frame's pixels; what `decode` raises is returned."""
        try:
            return decode(self.data, self.width, self.height, top_down=self.top_down)
        except AiospiceError as error:
            return error


def decode(data: bytes, width: int, height: int, *, top_down: bool = True) -> Decoded:
    """Decode to `XRGB`, the fourth byte 255; the size must be the one given.

    Nothing is allocated before the size is known to be right. Raises `DecodeError` for what isn't
    such a frame, and `MissingProgram` where simplejpeg isn't installed.
    """
    library = _library()
    check_size(width, height, 0)
    try:
        found = library.decode_jpeg_header(data)[:2]
    except ValueError as error:
        raise DecodeError(f"not a JPEG frame: {error}", offset=0) from None
    if found != (height, width):
        raise DecodeError(
            f"a JPEG frame of {found[1]}x{found[0]} pixels, not {width}x{height}", offset=0
        )
    out = bytearray(4 * width * height)
    try:
        library.decode_jpeg(data, "BGRX", buffer=out)
    except ValueError as error:
        raise DecodeError(f"a damaged JPEG frame: {error}", offset=0) from None
    stride = 4 * width
    if top_down:
        return Decoded(width, height, XRGB, out, 0, stride)
    return Decoded(width, height, XRGB, out, stride * (height - 1), -stride)
