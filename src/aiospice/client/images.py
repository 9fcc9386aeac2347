"""From an image in a message to pixels: the caches, and whatever can be decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.canvas.bitmap import INDEXED, bitmap_pixels
from aiospice.canvas.pixels import A1, RGB565, XRGB, Pixels
from aiospice.wire.images import (
    BitmapData,
    BitmapFlags,
    BitmapFormat,
    Image,
    ImageFlags,
    ImageType,
)

if TYPE_CHECKING:
    from aiospice.client.caches import ImageCache, PaletteCache

__all__ = ["CannotDraw", "ImageReader"]

_CACHED = (ImageType.FROM_CACHE, ImageType.FROM_CACHE_LOSSLESS)
_ONE_BIT = (BitmapFormat.BIT1_LE, BitmapFormat.BIT1_BE)
_KEEP = ImageFlags.CACHE_ME | ImageFlags.CACHE_REPLACE_ME


class CannotDraw(Exception):
    """Something isn't drawn; ``reason`` is one of a fixed set. Never leaves `Screen.apply`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ImageReader:
    """Makes pixels of images, keeps and finds what is to be cached."""

    def __init__(self, images: ImageCache, palettes: PaletteCache) -> None:
        self.images = images
        self.palettes = palettes

    def touch(self, image: Image | None, target: int) -> None:
        """Do for an image of which nothing is visible what later images rely on."""
        if image is None or image.descriptor.type == ImageType.SURFACE:
            return
        body = image.body
        palette = isinstance(body, BitmapData) and body.flags & BitmapFlags.PAL_CACHE_ME
        if image.descriptor.flags & _KEEP or palette:
            self.pixels(image, target)

    def pixels(self, image: Image, target: int) -> Pixels:
        """The image's pixels, in a format of its own, for a surface of format ``target``.

        Raises `CannotDraw` for what isn't decoded (yet) or isn't in the cache, and
        `RemoteProtocolError` for what no peer may send.
        """
        head = image.descriptor
        if head.type in _CACHED:
            kept = self.images.get(head.id, lossless=head.type == ImageType.FROM_CACHE_LOSSLESS)
            if kept is None:
                raise CannotDraw("the image is not in the cache")
            return kept
        pixels = self._decoded(image, target)
        if head.flags & ImageFlags.HIGH_BITS_SET and pixels.format == XRGB:
            pixels = _high_bits_set(pixels)
        if head.flags & ImageFlags.CACHE_ME:
            self.images.put(head.id, pixels)
        elif head.flags & ImageFlags.CACHE_REPLACE_ME:
            self.images.replace(head.id, pixels)
        return pixels

    def mask(self, image: Image) -> Pixels:
        """The pixels of a mask, format A1; raises as `pixels` does. Kept as it is, not inverted."""
        body = image.body
        if isinstance(body, BitmapData) and body.format not in _ONE_BIT:
            raise CannotDraw("the mask is not of 1 bit")
        mask = self.pixels(image, A1)
        if mask.format != A1:
            raise CannotDraw("the mask is not of 1 bit")
        return mask

    def _decoded(self, image: Image, target: int) -> Pixels:
        if isinstance(image.body, BitmapData):
            return self._bitmap(image.body, target)
        raise CannotDraw(f"{ImageType(image.descriptor.type).name} images are not decoded")

    def _bitmap(self, bitmap: BitmapData, target: int) -> Pixels:
        palette: tuple[int, ...] | None = None
        if bitmap.flags & BitmapFlags.PAL_FROM_CACHE:
            palette = self.palettes.get(bitmap.palette_id or 0)
            if palette is None and bitmap.format in INDEXED and target != A1:
                raise CannotDraw("the palette is not in the cache")
        elif bitmap.palette is not None:
            palette = bitmap.palette.ents
            if bitmap.flags & BitmapFlags.PAL_CACHE_ME:
                self.palettes.put(bitmap.palette.unique, palette)
        if bitmap.format in INDEXED and target == RGB565:
            raise CannotDraw("palettes for 16_565 surfaces are not defined")
        if bitmap.format == BitmapFormat.INVALID or not (bitmap.x and bitmap.y):
            raise CannotDraw("the image is empty")
        return bitmap_pixels(
            bitmap.format,
            bitmap.x,
            bitmap.y,
            bitmap.stride,
            bitmap.data,
            top_down=bool(bitmap.flags & BitmapFlags.TOP_DOWN),
            palette=palette,
            target=target,
        )


def _high_bits_set(pixels: Pixels) -> Pixels:
    data = bytearray(pixels.tight())
    data[3::4] = b"\xff" * (len(data) // 4)
    return Pixels(pixels.width, pixels.height, XRGB, bytes(data))
