"""LZ images: a header, and a stream of pixels or of bytes full of palette indices.

All numbers of the header are big endian, 32 bits each: magic, version, type, width, height, bytes
a row, whether the top row comes first. The stream (two of them for `RGBA`, the second for alpha)
has rows one behind the other, and copies cross from one to the next.

A byte of a stream stands for at most 255 units (bytes, or pixels), so an image can't claim more
than that many times its data before memory is taken, and takes memory for what it claims, once
(palettes: for the indices, and for the pixels). Facts: spice-common ``common/lz.c``,
``lz_common.h``, ``canvas_base.c``.
"""

from __future__ import annotations

from array import array
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from aiospice.codecs.image import A8, ARGB, RGB555, XRGB, Decoded, check_size
from aiospice.errors import DecodeError

if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

__all__ = [
    "HEADER_SIZE",
    "MAGIC",
    "PLT1_BE",
    "PLT1_LE",
    "PLT4_BE",
    "PLT4_LE",
    "PLT8",
    "RGB16",
    "RGB24",
    "RGB32",
    "RGBA",
    "TYPE_A8",
    "VERSION",
    "XXXA",
    "Header",
    "decode",
    "decode_alpha",
    "encode",
    "parse_header",
    "widened",
]

#: Types, ``LZ_IMAGE_TYPE_*``: palette indices of 1, 4 and 8 bits, the low or the high bits first;
#: pixels; alpha for pixels that came another way; pixels of nothing but alpha.
PLT1_LE, PLT1_BE, PLT4_LE, PLT4_BE, PLT8, RGB16, RGB24, RGB32, RGBA, XXXA, TYPE_A8 = range(1, 12)

MAGIC = 0x20205A4C
VERSION = 0x00010001
_HEADER = Struct(">7I")
HEADER_SIZE = _HEADER.size
_NAMES = ("PLT1_LE", "PLT1_BE", "PLT4_LE", "PLT4_BE", "PLT8", "RGB16", "RGB24") + (
    *("RGB32", "RGBA", "XXXA", "A8"),
)
#: Indices in a byte.
_INDICES = {PLT1_LE: 8, PLT1_BE: 8, PLT4_LE: 2, PLT4_BE: 2, PLT8: 1}
_PIXEL_BYTES = {RGB16: 2, RGB24: 3, RGB32: 4, RGBA: 4, XXXA: 4, TYPE_A8: 1}
#: Units that a byte of a stream stands for at most.
EXPANSION = 255
_REASONS = ("", "a copy from before the image", "more pixels than the image has")


class Header(NamedTuple):
    """What stands before an LZ stream."""

    type: int
    #: In pixels.
    width: int
    height: int
    #: Bytes a row (`_PIXEL_BYTES` each pixel, or as many as the indices fill).
    stride: int
    top_down: bool


def parse_header(data: Buffer) -> Header:
    """Read the header and refuse sizes that its data can't have; raises `DecodeError`."""
    view = memoryview(data)
    if len(view) <= HEADER_SIZE:
        raise DecodeError(f"{len(view)} bytes are no LZ image", offset=len(view))
    magic, version, type, width, height, stride, top_down = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise DecodeError(f"no LZ image: it begins with {magic:#010x}", offset=0)
    if version != VERSION:
        raise DecodeError(f"LZ of version {version:#x}, not {VERSION:#x}", offset=4)
    if not PLT1_LE <= type <= TYPE_A8:
        raise DecodeError(f"LZ images of type {type} don't exist", offset=8)
    check_size(width, height, 12)
    header = Header(type, width, height, stride, bool(top_down))
    expected = row_bytes(type, width)
    if stride != expected and not (type <= PLT8 and stride == width // _INDICES[type]):
        raise DecodeError(f"rows of {stride} bytes, not {expected}", offset=20)
    if stride == 0 or stride < expected:
        raise DecodeError(f"rows of {stride} bytes for {width} pixels", offset=20)
    units = stride * height if type <= PLT8 else width * height
    check_plausible(units * (2 if type == RGBA else 1), len(view) - HEADER_SIZE, 12)
    return header


def row_bytes(type: int, width: int) -> int:
    """Bytes of a row of that many pixels."""
    if type in _INDICES:
        return -(-width // _INDICES[type])
    return width * _PIXEL_BYTES[type]


def check_plausible(units: int, size: int, offset: int) -> None:
    """Refuse more units than a stream of ``size`` bytes can stand for, by `DecodeError`."""
    if units > EXPANSION * size:
        raise DecodeError(f"{size} bytes can't stand for {units} pixels", offset=offset)


def _unpack(data: memoryview, at: int, out: bytearray, units: int, kind: int) -> int:
    from aiospice.codecs import lz_unpack

    place = array("q", (at,))
    try:
        status = lz_unpack.unpack(data, memoryview(place), memoryview(out), units, kind)
    except IndexError:
        raise DecodeError("the LZ image ends too early", offset=len(data)) from None
    if status:
        raise DecodeError(f"{_REASONS[status]}", offset=place[0])
    return place[0]


def decode(
    data: Buffer,
    *,
    palette: tuple[int, ...] | None = None,
    keep16: bool = False,
) -> Decoded:
    """Decode an LZ image: to `ARGB` (type RGBA), `A8` (type A8), else `XRGB`.

    ``palette`` has 0xRRGGBB colours for the types with indices; missing ones count as 0 (indices
    of 4 bits: begin again at the first, as upstream). ``keep16`` leaves RGB16 as `RGB555`.
    Raises `DecodeError` with the offset for whatever isn't as it should be, also for alpha alone
    (`decode_alpha` is for that) and for bytes behind the image.
    """
    from aiospice.codecs import lz_unpack

    header = parse_header(data)
    view = memoryview(data).cast("B")
    type, width = header.type, header.width
    count = width * header.height
    if type == XXXA:
        raise DecodeError("alpha without an image", offset=8)
    if type <= PLT8:
        return _indexed(view, header, palette)
    if type == TYPE_A8:
        format, kind, size = A8, lz_unpack.BYTE, 1
    elif type == RGB16 and keep16:
        format, kind, size = RGB555, lz_unpack.WORD, 2
    else:
        format, size = (ARGB if type == RGBA else XRGB), 4
        kind = lz_unpack.WORD_TO_PIXEL if type == RGB16 else lz_unpack.PIXEL
    out = bytearray(size * count)
    end = _unpack(view, HEADER_SIZE, out, count, kind)
    if type == RGBA:
        end = _unpack(view, end, out, count, lz_unpack.ALPHA)
    _check_end(view, end)
    return placed(header, format, out, size * width)


def placed(header: Header, format: int, data: bytearray, stride: int) -> Decoded:
    """Rows in the order that the header tells, each of ``stride`` bytes."""
    width, height = header.width, header.height
    if header.top_down:
        return Decoded(width, height, format, data, 0, stride)
    return Decoded(width, height, format, data, stride * (height - 1), -stride)


def _check_end(view: memoryview, end: int) -> None:
    if end != len(view):
        raise DecodeError(f"{len(view) - end} bytes behind the LZ image", offset=end)


def _indexed(view: memoryview, header: Header, palette: tuple[int, ...] | None) -> Decoded:
    from aiospice.codecs import lz_unpack

    if not palette:
        raise DecodeError("an image of indices into a palette, and no palette", offset=8)
    indices = bytearray(header.stride * header.height)
    _check_end(view, _unpack(view, HEADER_SIZE, indices, len(indices), lz_unpack.BYTE))
    type, count = header.type, _INDICES[header.type]
    entries = [colour & 0xFFFFFF for colour in palette[:256]]
    if count == 2:
        entries = (entries * 16)[:16]
    entries += [0] * (256 - len(entries))
    planes = [bytes(colour >> shift & 255 for colour in entries) for shift in (0, 8, 16)]
    bits = 8 // count
    mask = (1 << bits) - 1
    step = 4 * count
    out = bytearray(step * len(indices))
    for place in range(count):
        shift = bits * (place if type in (PLT1_LE, PLT4_LE) else count - 1 - place)
        for channel, plane in enumerate(planes):
            table = bytes(plane[value >> shift & mask] for value in range(256))
            out[4 * place + channel :: step] = indices.translate(table)
    return placed(header, XRGB, out, step * header.stride)


def decode_alpha(data: Buffer, pixels: bytearray, width: int, height: int) -> bool:
    """Decode alpha (type XXXA) into every fourth byte of ``pixels``; tells if the top row is first.

    ``pixels`` has ``4 * width * height`` bytes. Raises `DecodeError` as `decode`, and for another
    type or size.
    """
    from aiospice.codecs import lz_unpack

    header = parse_header(data)
    if header.type != XXXA:
        raise DecodeError(f"LZ of type {_NAMES[header.type - 1]} instead of alpha", offset=8)
    if (header.width, header.height) != (width, height):
        raise DecodeError(
            f"alpha of {header.width}x{header.height} for {width}x{height} pixels", offset=12
        )
    view = memoryview(data).cast("B")
    _check_end(view, _unpack(view, HEADER_SIZE, pixels, width * height, lz_unpack.ALPHA))
    return header.top_down


def _pack(data: Buffer, units: int, kind: int, out: bytearray, at: int) -> int:
    from aiospice.codecs import lz_pack

    bits = min(16, max(8, units.bit_length()))
    places = array("I", bytes(4 << bits))
    view = memoryview(data).cast("B")
    return lz_pack.pack(view, units, kind, memoryview(places), 64 - bits, memoryview(out), at)


def encode(
    pixels: Buffer, width: int, height: int, type: int = RGB32, *, top_down: bool = True
) -> bytes:
    """Encode an image; at most 1 + 1/32 times its bytes plus 100.

    ``pixels`` has the rows, in the order that ``top_down`` tells, with nothing between them: B G
    R and a fourth byte (ignored unless `RGBA` or `XXXA`), for `RGB24` without it, for `RGB16` a
    little-endian word each, for `TYPE_A8` a byte, for the others indices, rows beginning at a
    byte. `ValueError` for a size that doesn't fit, or an image of no or too many pixels.
    """
    from aiospice.codecs import lz_pack

    view = memoryview(pixels).cast("B")
    stride = row_bytes(type, width)
    if width < 1 or height < 1 or len(view) != stride * height:
        raise ValueError(f"{len(view)} bytes for {width}x{height} pixels of {_NAMES[type - 1]}")
    count = width * height
    kind, units = lz_pack.PIXEL, count
    if type == RGB24:
        view = memoryview(widened(view))
    elif type == RGB16:
        kind = lz_pack.WORD
    elif type == XXXA:
        view, kind = memoryview(bytes(view[3::4])), lz_pack.BYTE
    elif type not in (RGB32, RGBA):
        kind, units = lz_pack.BYTE, len(view)
    room = lz_pack.room_for(units, kind)
    out = bytearray(
        HEADER_SIZE + room + (lz_pack.room_for(count, lz_pack.BYTE) if type == RGBA else 0)
    )
    _HEADER.pack_into(out, 0, MAGIC, VERSION, type, width, height, stride, top_down)
    end = _pack(view, units, kind, out, HEADER_SIZE)
    if type == RGBA:
        end = _pack(bytes(view[3::4]), count, lz_pack.BYTE, out, end)
    del out[end:]
    return bytes(out)


def widened(rows: Buffer) -> bytearray:
    """Pixels of three bytes, as pixels of four."""
    wide = bytearray(len(rows) // 3 * 4)
    for channel in range(3):
        wide[channel::4] = rows[channel::3]
    return wide
