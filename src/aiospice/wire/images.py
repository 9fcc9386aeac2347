"""Images, brushes and masks (spice-common ``spice.proto``).

An image is a descriptor and a body that belongs to the descriptor's type. What is in a compressed
body is for `aiospice.codecs` to read; here only its size is known.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from aiospice.wire.record import (
    Record,
    block,
    choice,
    counter,
    nested,
    pointer,
    u8,
    u32,
    u64,
    when,
)
from aiospice.wire.shapes import Palette, Point

__all__ = [
    "BinaryData",
    "BitmapData",
    "BitmapFlags",
    "BitmapFormat",
    "Brush",
    "BrushType",
    "Image",
    "ImageCompression",
    "ImageDescriptor",
    "ImageFlags",
    "ImageType",
    "JpegAlphaData",
    "JpegAlphaFlags",
    "LzPltData",
    "MaskFlags",
    "Pattern",
    "QMask",
    "SolidColor",
    "SurfaceImage",
    "ZlibGlzData",
]


class ImageType(IntEnum):
    """``SPICE_IMAGE_TYPE_*``."""

    BITMAP = 0
    QUIC = 1
    RESERVED = 2
    LZ_PLT = 100
    LZ_RGB = 101
    GLZ_RGB = 102
    FROM_CACHE = 103
    SURFACE = 104
    JPEG = 105
    FROM_CACHE_LOSSLESS = 106
    ZLIB_GLZ_RGB = 107
    JPEG_ALPHA = 108
    LZ4 = 109


class ImageFlags(IntEnum):
    """``SPICE_IMAGE_FLAGS_*``."""

    CACHE_ME = 1
    HIGH_BITS_SET = 2
    CACHE_REPLACE_ME = 4


class ImageCompression(IntEnum):
    """``SPICE_IMAGE_COMPRESSION_*``, what a client may ask for."""

    INVALID = 0
    OFF = 1
    AUTO_GLZ = 2
    AUTO_LZ = 3
    QUIC = 4
    GLZ = 5
    LZ = 6
    LZ4 = 7


class BitmapFormat(IntEnum):
    """``SPICE_BITMAP_FMT_*``; the number is the bits of a pixel, LE and BE the order of bits."""

    INVALID = 0
    BIT1_LE = 1
    BIT1_BE = 2
    BIT4_LE = 3
    BIT4_BE = 4
    BIT8 = 5
    BIT16 = 6
    BIT24 = 7
    BIT32 = 8
    RGBA = 9
    BIT8_A = 10


class BitmapFlags(IntEnum):
    """``SPICE_BITMAP_FLAGS_*``."""

    PAL_CACHE_ME = 1
    PAL_FROM_CACHE = 2
    TOP_DOWN = 4


class JpegAlphaFlags(IntEnum):
    """``SPICE_JPEG_ALPHA_FLAGS_*``."""

    TOP_DOWN = 1


class BrushType(IntEnum):
    """``SPICE_BRUSH_TYPE_*``."""

    NONE = 0
    SOLID = 1
    PATTERN = 2


class MaskFlags(IntEnum):
    """``SPICE_MASK_FLAGS_*``."""

    INVERS = 1


def _palette_cached(values: dict[str, Any]) -> bool:
    return bool(values["flags"] & BitmapFlags.PAL_FROM_CACHE)


def _palette_here(values: dict[str, Any]) -> bool:
    return not values["flags"] & BitmapFlags.PAL_FROM_CACHE


def _bitmap_size(values: dict[str, Any]) -> int:
    size: int = values["stride"] * values["y"]
    return size


class BitmapData(Record):
    """Raw pixels: ``x`` columns, ``y`` rows of ``stride`` bytes; ``data`` has stride * y bytes.

    The palette is given here (`palette`, None for formats without one), or is the one that the
    client keeps under ``palette_id``, if the flag PAL_FROM_CACHE is set.
    """

    format: int = u8(names=BitmapFormat)
    flags: int = u8(flags=BitmapFlags)
    x: int = u32()
    y: int = u32()
    stride: int = u32()
    palette_id: int | None = when(_palette_cached, u64())
    palette: Palette | None = when(_palette_here, pointer(Palette))
    data: bytes = block(_bitmap_size)


class BinaryData(Record):
    """A compressed image: QUIC, LZ, GLZ, JPEG or LZ4."""

    data_size: int = counter("data", "I")
    data: bytes = block("data_size")


class LzPltData(Record):
    """An LZ image of palette indices; the palette as with `BitmapData`, but never absent."""

    flags: int = u8(flags=BitmapFlags)
    data_size: int = counter("data", "I")
    palette_id: int | None = when(_palette_cached, u64())
    palette: Palette | None = when(_palette_here, pointer(Palette, required=True))
    data: bytes = block("data_size")


class ZlibGlzData(Record):
    """A deflated GLZ image; ``glz_data_size`` is its claimed size in bytes when inflated."""

    glz_data_size: int = u32()
    data_size: int = counter("data", "I")
    data: bytes = block("data_size")


class JpegAlphaData(Record):
    """A JPEG image of ``jpeg_size`` bytes, with its alpha as LZ behind it.

    ``jpeg_size`` is not compared with the size of ``data`` here.
    """

    flags: int = u8(flags=JpegAlphaFlags)
    jpeg_size: int = u32()
    data_size: int = counter("data", "I")
    data: bytes = block("data_size")


class SurfaceImage(Record):
    """The present content of a surface."""

    surface_id: int = u32()


class ImageDescriptor(Record):
    """``id`` is the cache's key; width and height are in pixels."""

    id: int = u64()
    type: int = u8(names=ImageType)
    flags: int = u8(flags=ImageFlags)
    width: int = u32()
    height: int = u32()


_BODIES: dict[int, type[Record] | None] = {
    ImageType.BITMAP: BitmapData,
    ImageType.QUIC: BinaryData,
    ImageType.LZ_PLT: LzPltData,
    ImageType.LZ_RGB: BinaryData,
    ImageType.GLZ_RGB: BinaryData,
    ImageType.FROM_CACHE: None,
    ImageType.SURFACE: SurfaceImage,
    ImageType.JPEG: BinaryData,
    ImageType.FROM_CACHE_LOSSLESS: None,
    ImageType.ZLIB_GLZ_RGB: ZlibGlzData,
    ImageType.JPEG_ALPHA: JpegAlphaData,
    ImageType.LZ4: BinaryData,
}


def _image_type(values: dict[str, Any]) -> int:
    kind: int = values["descriptor"].type
    return kind


class Image(Record):
    """An image of any type; ``body`` is None for those that are taken from the cache.

    A type that isn't known, or reserved, is a `DecodeError`.
    """

    descriptor: ImageDescriptor = nested(ImageDescriptor)
    body: (
        BitmapData | BinaryData | LzPltData | ZlibGlzData | JpegAlphaData | SurfaceImage | None
    ) = choice(_image_type, _BODIES)


class SolidColor(Record):
    """One colour, 0x00RRGGBB for surfaces of 32 bits."""

    color: int = u32()


class Pattern(Record):
    """An image that is repeated, with its origin at ``pos``."""

    pat: Image = pointer(Image, required=True)
    pos: Point = nested(Point)


def _brush_type(values: dict[str, Any]) -> int:
    kind: int = values["type"]
    return kind


class Brush(Record):
    """What is painted with; ``body`` is None for a brush of type NONE."""

    type: int = u8(names=BrushType)
    body: SolidColor | Pattern | None = choice(
        _brush_type,
        {BrushType.NONE: None, BrushType.SOLID: SolidColor, BrushType.PATTERN: Pattern},
    )


class QMask(Record):
    """Which pixels are drawn: those where the bitmap is 1 (0 with INVERS); all when it is None."""

    flags: int = u8(flags=MaskFlags)
    pos: Point = nested(Point)
    bitmap: Image | None = pointer(Image)
