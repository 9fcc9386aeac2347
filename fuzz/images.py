"""Images of every codec: the first byte of an input chooses which."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from aiospice.codecs import glz, jpeg, lz, lz4, quic, zlib
from aiospice.codecs.glz import GlzDictionary, GlzWindow, NeedsImage
from aiospice.codecs.image import Decoded
from aiospice.errors import DecodeError

SIDE = 12
PALETTE = tuple(range(0, 1 << 24, 65793))
#: Pixels of the largest image that is decoded: without compiled kernels each takes its time.
MOST = 4096


def _quic(data: bytes) -> Decoded:
    return quic.decode(data, max_pixels=MOST)


def _lz(data: bytes) -> Decoded:
    return lz.decode(data, palette=PALETTE)


def _alpha(data: bytes) -> None:
    lz.decode_alpha(data, bytearray(4 * SIDE * SIDE), SIDE, SIDE)


def _glz(data: bytes) -> Decoded | NeedsImage:
    window = GlzWindow(MOST)
    glz.decode(FIRST, window)
    return glz.decode(data, window)


def _zlib(data: bytes) -> Decoded | NeedsImage:
    size = int.from_bytes(data[:2], "little")
    return zlib.decode(data[2:], size, GlzWindow(MOST))


def _lz4(data: bytes) -> Decoded:
    return lz4.decode(data, SIDE, SIDE)


def _jpeg(data: bytes) -> Decoded:
    return jpeg.decode(data, SIDE, SIDE)


def _jpeg_alpha(data: bytes) -> Decoded:
    size = int.from_bytes(data[:2], "little")
    return jpeg.decode_alpha(data[2:], size, SIDE, SIDE, top_down=True)


CODECS: tuple[Callable[[bytes], object], ...] = (
    *(_quic, _lz, _alpha, _glz, _zlib, _lz4, _jpeg, _jpeg_alpha),
)


def _pixels(seed: int) -> bytes:
    chance = random.Random(seed)
    colours = [chance.randbytes(3) + b"\0" for _ in range(4)]
    return b"".join(chance.choice(colours) for _ in range(SIDE * SIDE))


#: What images of a window may copy from.
FIRST = GlzDictionary(MOST).encode(_pixels(0), SIDE, SIDE)


def seeds() -> Iterator[bytes]:
    """A whole image of each kind."""
    pixels = _pixels(1)
    for kind, size in ((quic.GRAY, 1), (quic.RGB16, 2), (quic.RGB32, 4), (quic.RGBA, 4)):
        width = SIDE * 4 // size
        yield b"\0" + quic.encode(pixels, width, SIDE, SIDE * 4, kind)
    for kind, size in ((lz.PLT8, 1), (lz.RGB16, 2), (lz.RGB24, 3), (lz.RGB32, 4), (lz.RGBA, 4)):
        yield b"\1" + lz.encode(pixels[: size * SIDE * SIDE], SIDE, SIDE, kind)
    yield b"\1" + lz.encode(pixels[: 2 * SIDE], 16, SIDE, lz.PLT1_BE)
    yield b"\2" + lz.encode(pixels, SIDE, SIDE, lz.XXXA)
    dictionary = GlzDictionary(MOST)
    dictionary.encode(_pixels(0), SIDE, SIDE)
    stream = dictionary.encode(_pixels(0)[: 4 * SIDE] + pixels[4 * SIDE :], SIDE, SIDE)
    yield b"\3" + stream
    stream = GlzDictionary(MOST).encode(pixels, SIDE, SIDE, lz.RGBA)
    yield b"\4" + len(stream).to_bytes(2, "little") + zlib.deflate(stream)
    yield b"\5" + lz4.encode(pixels, SIDE, SIDE)
    yield b"\6" + jpeg.encode(pixels, SIDE, SIDE)
    data, size = jpeg.encode_alpha(pixels, SIDE, SIDE)
    yield b"\7" + size.to_bytes(2, "little") + data


def one(data: bytes) -> None:
    """Decode: an image, or the documented error."""
    if not data:
        return
    try:
        CODECS[data[0] % len(CODECS)](data[1:])
    except DecodeError:
        pass
