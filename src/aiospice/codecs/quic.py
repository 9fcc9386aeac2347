"""The QUIC image codec: compressed bytes to rows of pixels, and back.

Not the transport of that name: lossless, derived from SFALIC, one image a stream. The stream is
little-endian words of 32 bits, the highest bit first: magic, version, type, width, height, then
the code words of one row after the other (facts: ``quic.c``, ``quic_tmpl.c`` in spice-common).
Code words and models are in `quic_tables`, the loops in `quic_kernel`.
"""

from __future__ import annotations

import sys
from array import array
from typing import Final, NamedTuple, NoReturn

from aiospice.codecs import quic_kernel as _kernel
from aiospice.codecs.image import A8, ARGB, MAX_PIXELS, RGB555, XRGB, Decoded
from aiospice.codecs.quic_tables import RULES, TRIGGERS, Codes, codes
from aiospice.errors import DecodeError, LocalError

__all__ = [
    "GRAY",
    "MAX_SIDE",
    "RGB16",
    "RGB24",
    "RGB32",
    "RGBA",
    "Header",
    "compiled",
    "decode",
    "encode",
    "header",
]

#: Types of images (``QuicImageType``).
GRAY: Final = 1
RGB16: Final = 2
RGB24: Final = 3
RGB32: Final = 4
RGBA: Final = 5

#: The widest and highest image that is taken (upstream looks at the product alone).
MAX_SIDE: Final = 32768

_NAMES = {GRAY: "GRAY", RGB16: "RGB16", RGB24: "RGB24", RGB32: "RGB32", RGBA: "RGBA"}
_FORMATS = {GRAY: A8, RGB16: RGB555, RGB24: XRGB, RGB32: XRGB, RGBA: ARGB}
_PIXEL_BYTES = {GRAY: 1, RGB16: 2, RGB24: 4, RGB32: 4, RGBA: 4}
_CHANNELS = {GRAY: 1, RGB16: 3, RGB24: 3, RGB32: 3, RGBA: 4}
_MAGIC = b"QUIC"
_HEADER = 20
#: The longest code words of a pixel of 4 channels and two runs before it, in bytes, rounded up.
_PIXEL_MOST = 28


class Header(NamedTuple):
    """What a stream says of its image: ``type`` (`GRAY` to `RGBA`), sides in pixels."""

    type: int
    width: int
    height: int


def compiled() -> bool:
    """Tell whether the codec's loops run compiled; else they take about 1000 times as long."""
    return bool(_kernel.COMPILED)


def _bad(text: str, offset: int, field: str = "") -> NoReturn:
    raise DecodeError(f"QUIC image: {text}", field=field, offset=offset)


def header(data: bytes | bytearray | memoryview) -> Header:
    """Read the header of a stream.

    Raises `DecodeError` if it is cut off, isn't QUIC, has an unknown version or type, or a side
    that is 0 or beyond `MAX_SIDE`, or has more than `MAX_PIXELS` pixels.
    """
    view = memoryview(data).cast("B")
    if len(view) < _HEADER:
        _bad(f"{len(view)} bytes are less than a header ({_HEADER})", len(view))
    if bytes(view[:4]) != _MAGIC:
        _bad("it doesn't begin with QUIC", 0, "magic")
    version, type, width, height = (
        int.from_bytes(view[at : at + 4], "little") for at in range(4, _HEADER, 4)
    )
    if version:
        _bad(f"version {version >> 16}.{version & 0xFFFF} is unknown", 4, "version")
    if type not in _NAMES:
        _bad(f"type {type} is unknown", 8, "type")
    for field, side, offset in (("width", width, 12), ("height", height, 16)):
        if not 0 < side <= MAX_SIDE:
            _bad(f"its {field} is {side}, not 1 to {MAX_SIDE}", offset, field)
    if width * height > MAX_PIXELS:
        _bad(f"{width} x {height} are more than {MAX_PIXELS} pixels", 12, "width")
    return Header(type, width, height)


#: Rooms for streams that are used again, each by one thread at a time; how many, and how large.
_SPARE, _SPARE_WORDS = 2, 1 << 18
_spare: list[array[int]] = []


def _least_bytes(image: Header) -> int:
    """Return the length below which no stream of such an image is whole.

    A code word has at least one bit. The first row has no runs; in others at least three pixels
    are written, and one run stands for all that follow.
    """
    type, width, height = image
    channels, runs = _CHANNELS[type], 2 if type == RGBA else 1
    row = channels * min(width, 3) + (runs if width > 3 else 0)
    return _HEADER + (channels * width + (height - 1) * row + 7) // 8


def _little(words: array[int]) -> array[int]:
    """Return words of a stream as numbers, or numbers as words."""
    if sys.byteorder == "big":
        words.byteswap()
    return words


def _model(table: Codes) -> tuple[array[int], array[int], array[int]]:
    """Return the state, counters and best codes that both sides begin with."""
    state = array("I", (0, 0, 2048, 255, 0, 0, 0, 0) * 2)
    return state + TRIGGERS, table.counts[:], table.head


def _rows(best: array[int], type: int, width: int) -> tuple[array[int], array[int]]:
    """Return the rows of colours, and of alpha or grey if there are any, that both begin with."""
    blank = array("Q", bytes(8 * (width + 2)))
    return best + blank, best + blank if type in (GRAY, RGBA) else best


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_pixels: int = MAX_PIXELS,
    room: bytearray | None = None,
) -> Decoded:
    """Decode a stream; bytes after its end are ignored.

    Its format is `A8` for `GRAY`, `RGB555` for `RGB16`, `XRGB` (the unused byte is 0) for `RGB24`
    and `RGB32`, `ARGB` for `RGBA`; the rows are tight and the top one comes first.

    Memory is taken for the image only if ``data`` is as long as the shortest stream of such an
    image (a picture of one colour comes near to that: at most 26000 times the stream for `RGB32`)
    and has no more than ``max_pixels``. Beside the image it takes a copy of ``data`` and about 44
    bytes a pixel of one row. ``room``, if it has just the bytes of the image, becomes its data;
    what is in it is lost either way.

    Raises `DecodeError` as `header` does, for data that end too soon, a run beyond its row, and
    bits that are no code word; ``offset`` is where in ``data``, to a few bytes.
    """
    view = memoryview(data).cast("B")
    image = header(view)
    type, width, height = image
    if width * height > max_pixels:
        _bad(f"{width} x {height} are more than {max_pixels} pixels", 12, "width")
    if len(view) < _least_bytes(image):
        _bad(f"{len(view)} bytes can't be {width} x {height} pixels", len(view))
    table = codes(5 if type == RGB16 else 8)
    words = array("I")
    words.frombytes(view[: len(view) & ~3])
    stop = len(words) * 32
    _little(words).frombytes(bytes((_PIXEL_MOST * (width + 2)) & ~3))
    state, counts, best = _model(table)
    io = array("Q", (words[5] << 32, 6, 32, 0, 0, 0, 0, 0, 0))
    stride = width * _PIXEL_BYTES[type]
    pixels = bytearray() if room is None else room
    if len(pixels) != stride * height:
        pixels = bytearray(stride * height)
    cells = memoryview(pixels).cast("I") if stride == 4 * width else words
    row, alpha = _rows(best, type, width)
    # fmt: off
    status = _kernel.decode_rows(
        words, stop, io, state, RULES, table.fast, table.values, counts, row, alpha, pixels,
        cells, width, height, type, table.lanes,
    )
    # fmt: on
    if status != _kernel.DONE:
        texts = {
            _kernel.ENDED: "the data end",
            _kernel.BAD_RUN: "a run goes beyond its row",
            _kernel.BAD_CODE: "bits that are no code word",
        }
        offset = min(4 * io[1] - (io[2] >> 3), len(view))
        _bad(f"{texts[status]} in row {io[5]} of {height}", offset, "pixels")
    if sys.byteorder == "big" and stride == 4 * width:
        pixels[:] = _little(array("I", bytes(pixels))).tobytes()
    return Decoded(width, height, _FORMATS[type], pixels, 0, stride)


def encode(
    pixels: bytes | bytearray | memoryview, width: int, height: int, stride: int, type: int
) -> bytes:
    """Encode an image: the same bytes that upstream's encoder writes.

    ``pixels`` has rows in the format that `decode` gives for ``type``, the top one first, each
    ``stride`` bytes after the one before; the unused byte of `RGB24` and `RGB32` is ignored.

    Raises `LocalError` for a type or size that `decode` would refuse, and for less bytes than that.
    """
    if type not in _NAMES:
        raise LocalError(f"QUIC images of type {type} don't exist")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise LocalError(f"a QUIC image of {width}x{height} pixels")
    view = memoryview(pixels).cast("B")
    tight = width * _PIXEL_BYTES[type]
    if stride < tight or len(view) < stride * (height - 1) + tight:
        raise LocalError(
            f"{len(view)} bytes in rows of {stride} aren't {width}x{height} {_NAMES[type]} pixels"
        )
    table = codes(5 if type == RGB16 else 8)
    state, counts, best = _model(table)
    io = array("Q", (0, 5, 0, 0, 0, 0))
    out = _room(5 + 7 * width + 8 + width * height // 3)
    out[:5] = array("I", (int.from_bytes(_MAGIC, "little"), 0, type, width, height))
    row, alpha = _rows(best, type, width)
    line, line1 = array("Q", bytes(8 * width)), array("I", bytes(4 * width))
    # fmt: off
    while not _kernel.encode_rows(
        view, stride, io, state, RULES, table.words, table.folded, counts, row, alpha,
        line, line1, out, width, height, type, table.lanes,
    ):
        out.frombytes(bytes(4 * len(out)))
    # fmt: on
    if io[2]:
        out[io[1]] = io[0] >> 32
        io[1] += 1
    out[io[1]] = 0  # upstream's decoder looks one word ahead
    with memoryview(out) as words:
        data = words[: io[1] + 1].tobytes()
    if len(_spare) < _SPARE and len(out) <= _SPARE_WORDS:
        _spare.append(out)
    return data if sys.byteorder == "little" else _little(array("I", data)).tobytes()


def _room(words: int) -> array[int]:
    """Return room for a stream, with anything in it."""
    try:
        room = _spare.pop()
    except IndexError:
        return array("I", bytes(4 * words))
    return room if len(room) >= words else array("I", bytes(4 * words))
