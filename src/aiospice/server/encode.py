# cython: language_level=3, annotation_typing=False
"""Pictures on their way to clients: pixels, what they are like, and what they are packed as.

A `Picture` is a copy of pixels that any number of clients are to get. How it is packed depends on
the client (`Method`), the result on nothing else, so it is made once and shared. The work is plain
data that can be done anywhere (`EncodeJob`). GLZ, which depends on what a client got before, isn't
among it.
"""

from __future__ import annotations

from typing import NamedTuple

from aiospice.codecs import quic
from aiospice.errors import AiospiceError, MissingProgram
from aiospice.server import shots
from aiospice.server.region import Box
from aiospice.wire.images import BitmapFormat, ImageType

__all__ = [
    "COST",
    "JPEG",
    "LIGHT",
    "LZ",
    "LZ4",
    "QUIC",
    "RAW",
    "VP8",
    "EncodeJob",
    "Encoded",
    "Method",
    "Picture",
    "VideoJob",
    "cost",
    "is_light",
    "is_picture",
]

#: Ways of packing, by the type of the image that comes of it.
RAW, QUIC, LZ, LZ4, JPEG = (
    int(ImageType.BITMAP),
    int(ImageType.QUIC),
    int(ImageType.LZ_RGB),
    int(ImageType.LZ4),
    int(ImageType.JPEG),
)
#: What `Encoded` has as the type of a VP8 frame, which is no image.
VP8 = -2
#: Nanoseconds that packing a pixel is taken to last: twice what was measured, where it is compiled.
COST = {RAW: 0, LZ4: 2, LZ: 8, QUIC: 16, JPEG: 8}
_GLZ_COST = 24
#: Nanoseconds up to which packing is done at once: little more than what the way to a thread and
#: back takes of the CPU, with the turn of the loop and the write of its own that come of it.
LIGHT = 1_300_000
#: The same in pixels, where our codecs aren't compiled.
_SLOW_PIXELS = 1 << 12
#: Every so many rows are looked at to tell pictures from drawings, and how many are enough.
_EVERY, _ENOUGH = 4, 32


class Method(NamedTuple):
    """A way of packing: `RAW` and so on, and for JPEG its quality (1 to 100)."""

    type: int
    quality: int = 0


class Encoded(NamedTuple):
    """A packed image: its type (a raw one if packing would only lengthen it) and its bytes."""

    type: int
    data: bytes | bytearray


class EncodeJob(NamedTuple):
    """The work of packing one image: rows of B G R X (or B G R A), the top one first."""

    method: Method
    width: int
    height: int
    alpha: bool
    #: Nobody writes to them any more.
    pixels: bytes | bytearray

    def run(self) -> Encoded | AiospiceError:
        """Pack. A missing library is told, not raised."""
        try:
            data = self._packed()
        except AiospiceError as error:
            return error
        if len(data) < len(self.pixels):
            return Encoded(self.method.type, data)
        return Encoded(RAW, self.pixels)

    def _packed(self) -> bytes | bytearray:
        type, pixels, width, height = self.method.type, self.pixels, self.width, self.height
        if type == QUIC:
            kind = quic.RGBA if self.alpha else quic.RGB32
            return quic.encode(pixels, width, height, 4 * width, kind)
        if type == LZ:
            from aiospice.codecs import lz

            return lz.encode(pixels, width, height, lz.RGBA if self.alpha else lz.RGB32)
        if type == LZ4:
            from aiospice.codecs import lz4

            format = BitmapFormat.RGBA if self.alpha else BitmapFormat.BIT32
            return lz4.encode(pixels, width, height, format)
        if type == JPEG:
            from aiospice.codecs import jpeg

            return jpeg.encode(pixels, width, height, self.method.quality, subsampling="420")
        return pixels


class VideoJob(NamedTuple):
    """The work of encoding the next frame of a video, whose encoder knows the ones before."""

    #: Display, client and video: which encoder.
    key: tuple[int, int, int]
    width: int
    height: int
    #: Bits a second, for the encoder to aim at.
    bits: int
    #: When it is shown, ms.
    time: int
    pixels: bytes | bytearray
    type: int = VP8

    @property
    def stateful(self) -> bool:
        """It is for what remembers the frames before."""
        return True

    def run(self) -> AiospiceError:
        """The answer of a world without encoders."""
        return MissingProgram("a frame of VP8 takes an encoder, and there is none")


def is_light(method: Method, pixels: int) -> bool:
    """Whether packing so many pixels is done at once rather than in a thread."""
    if method.type in (LZ, QUIC) and not quic.compiled():
        return pixels <= _SLOW_PIXELS
    return cost(method, pixels) <= LIGHT


def cost(method: Method, pixels: int) -> int:
    """Nanoseconds that packing so many pixels is taken to last, also as GLZ."""
    return COST.get(method.type, _GLZ_COST) * pixels


def is_picture(words: memoryview, width: int, box: Box) -> bool:
    """Whether the pixels of a box are a picture (to be packed as QUIC) or a drawing (as LZ).

    In pictures most neighbours that differ differ little, or hardly any are the same.
    """
    height = box[3] - box[1]
    every = max(_EVERY, height // _ENOUGH) if height > 2 * _EVERY else 1
    same, small, large = shots.count_steps(words, width, *box, every)
    total = same + small + large
    return bool((small > 2 * large and 50 * small > total) or 4 * same < total)


class Picture:
    """A copy of the pixels of a box, to be sent to clients."""

    __slots__ = (
        "_picture",
        "alpha",
        "box",
        "forms",
        "height",
        "id",
        "pixels",
        "size",
        "surface",
        "width",
    )

    def __init__(
        self,
        surface: int,
        box: Box,
        pixels: bytes | bytearray,
        alpha: bool,
        id: int,
        picture: bool | None = None,
    ) -> None:
        self.surface = surface
        self.box = box
        #: In pixels, and how many these are.
        self.width, self.height = box[2] - box[0], box[3] - box[1]
        self.size = self.width * self.height
        #: Rows of four bytes a pixel with nothing between them.
        self.pixels = pixels
        self.alpha = alpha
        #: A number of 63 bits that equal pixels have, and others haven't.
        self.id = id
        self._picture = picture
        #: What it is packed as; None while that is worked at.
        self.forms: dict[Method, Encoded | None] = {}

    @property
    def picture(self) -> bool:
        """Whether it is a photo or the like."""
        if self._picture is None:
            words, width = memoryview(self.pixels).cast("I"), self.width
            self._picture = is_picture(words, width, (0, 0, width, self.height))
        return self._picture

    def job(self, method: Method) -> EncodeJob:
        """The work of packing it so."""
        return EncodeJob(method, self.width, self.height, self.alpha, self.pixels)

    def packed(self, method: Method, result: Encoded | AiospiceError) -> Encoded:
        """The work is done; where a library is missing the pixels go as they are."""
        form = result if isinstance(result, Encoded) else Encoded(RAW, self.pixels)
        self.forms[method] = form
        return form
