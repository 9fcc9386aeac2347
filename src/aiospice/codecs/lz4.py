"""LZ4 images: a byte of row order, a byte of format, and blocks of LZ4, each behind its size.

The size is 32 bits, big endian. A block may copy from the 64 KiB of pixels before it. A byte of
LZ4 stands for at most 255 bytes, so no memory is taken for an image that its data can't hold.
Facts: spice-common ``canvas_base.c`` (``canvas_get_lz4``), spice-server ``lz4-encoder.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.codecs.image import A8, ARGB, RGB555, XRGB, Decoded, check_size
from aiospice.errors import DecodeError, MissingProgram

if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

__all__ = [
    "FORMAT_16",
    "FORMAT_24",
    "FORMAT_32",
    "FORMAT_A8",
    "FORMAT_RGBA",
    "decode",
    "encode",
    "unpack_block",
]

#: ``SPICE_BITMAP_FMT_*``: 16 bit little endian; B G R; B G R and an unused byte, or alpha.
#: alpha only, which spice-server packs and spice-gtk refuses.
FORMAT_16, FORMAT_24, FORMAT_32, FORMAT_RGBA, FORMAT_A8 = 6, 7, 8, 9, 10
_BYTES = {FORMAT_16: 2, FORMAT_24: 3, FORMAT_32: 4, FORMAT_RGBA: 4, FORMAT_A8: 1}
_FORMATS = {FORMAT_16: RGB555, FORMAT_24: XRGB, FORMAT_32: XRGB, FORMAT_RGBA: ARGB, FORMAT_A8: A8}
_HISTORY = 1 << 16
_EXPANSION = 255
_block: Any = None


def _library() -> Any:
    try:
        import lz4.block
    except ImportError:
        raise MissingProgram("LZ4 images need the package lz4 (pip install lz4)") from None
    return lz4.block


def decode(data: Buffer, width: int, height: int) -> Decoded:
    """Decode an image to `RGB555`, `XRGB`, `ARGB` or `A8`; its size is that of the descriptor.

    Raises `DecodeError` with the offset for data that isn't exactly such an image, and
    `MissingProgram` where lz4 isn't installed.
    """
    view = memoryview(data).cast("B")
    if len(view) < 2:
        raise DecodeError("an LZ4 image without its header", offset=len(view))
    size = _BYTES.get(view[1])
    if size is None:
        raise DecodeError(f"LZ4 images of format {view[1]} don't exist", offset=1)
    check_size(width, height, 0)
    total = size * width * height
    if total > _EXPANSION * len(view):
        raise DecodeError(f"{len(view)} bytes can't stand for {total}", offset=2)
    out = bytearray(total)
    _blocks(view, out, height)
    stride = size * width
    if size == 3:
        from aiospice.codecs.lz import widened

        out, stride = widened(out), 4 * width
    format = _FORMATS[view[1]]
    if view[0]:
        return Decoded(width, height, format, out, 0, stride)
    return Decoded(width, height, format, out, stride * (height - 1), -stride)


def _blocks(view: memoryview, out: bytearray, limit: int) -> None:
    """Fill ``out`` from at most ``limit`` blocks: a block has one row or more."""
    block = _library()
    target = memoryview(out)
    place, done = 2, 0
    while place < len(view):
        size = int.from_bytes(view[place : place + 4], "big")
        begin, place = place + 4, place + 4 + size
        if place > len(view) or size == 0:
            raise DecodeError(f"a block of {size} bytes", offset=begin - 4)
        room = min(len(out) - done, _EXPANSION * size)
        limit -= 1
        if room == 0 or limit < 0:
            raise DecodeError("more than the rows of the image", offset=begin - 4)
        history = target[max(0, done - _HISTORY) : done]
        try:
            rows = block.decompress(view[begin:place], uncompressed_size=room, dict=history)
        except block.LZ4BlockError:
            raise DecodeError("a block that isn't LZ4, or too long", offset=begin) from None
        target[done : done + len(rows)] = rows
        done += len(rows)
    if done != len(out):
        raise DecodeError(f"{done} bytes of {len(out)}", offset=len(view))


def unpack_block(data: Buffer, size: int) -> bytes | None:
    """Unpack the only block of an image to exactly ``size`` bytes; None if that can't be."""
    global _block
    if size > _EXPANSION * len(data):
        return None
    try:
        if _block is None:
            _block = _library()
        rows: bytes = _block.decompress(data, uncompressed_size=size)
    except MissingProgram:
        return None
    except _block.LZ4BlockError:
        return None
    return rows if len(rows) == size else None


def encode(
    pixels: Buffer, width: int, height: int, format: int = FORMAT_32, *, top_down: bool = True
) -> bytes:
    """Encode an image as one block.

    ``pixels`` has the rows, in the order that ``top_down`` tells, with nothing between them.
    Raises `ValueError` for a size that doesn't fit, `MissingProgram` where lz4 isn't installed.
    """
    size = len(memoryview(pixels).cast("B"))
    if width < 1 or height < 1 or size != _BYTES[format] * width * height:
        raise ValueError(f"{size} bytes for {width}x{height} pixels of format {format}")
    block: bytes = _library().compress(pixels, store_size=False)
    return bytes((top_down, format)) + len(block).to_bytes(4, "big") + block
