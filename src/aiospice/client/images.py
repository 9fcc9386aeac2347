"""From an image in a message to pixels: the caches, the codecs, and the wait for either.

Facts: ``canvas_get_image_internal`` and ``canvas_get_lz`` in spice-common
``common/canvas_base.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.canvas.bitmap import INDEXED, bitmap_pixels
from aiospice.canvas.pixels import A1, A8, ARGB, RGB555, RGB565, XRGB, Pixels
from aiospice.client.decode import GLZ, LOSSY, DecodeJob, Result, is_heavy, job_for, pixels_of
from aiospice.errors import AiospiceError, DecodeError, MissingProgram
from aiospice.wire.images import (
    BinaryData,
    BitmapData,
    BitmapFlags,
    BitmapFormat,
    Image,
    ImageFlags,
    ImageType,
    LzPltData,
    ZlibGlzData,
)

if TYPE_CHECKING:
    from aiospice.client.caches import Caches, PaletteCache
    from aiospice.codecs.glz_window import GlzWindow
    from aiospice.codecs.lz4_unpack import Rows
    from aiospice.codecs.quic_small import Scratch

__all__ = ["MAX_JOBS", "MAX_JOB_PIXELS", "CannotDraw", "ImageReader", "NotYet", "Reading"]

#: Images of one screen that are decoded ahead at the same time, and their pixels; the one that the
#: first message needs is decoded whatever its size.
MAX_JOBS = 8
MAX_JOB_PIXELS = 1 << 24

_CACHED = (ImageType.FROM_CACHE, ImageType.FROM_CACHE_LOSSLESS)
_ONE_BIT = (BitmapFormat.BIT1_LE, BitmapFormat.BIT1_BE)
_KEEP = ImageFlags.CACHE_ME | ImageFlags.CACHE_REPLACE_ME
_NAMES = {int(type): type.name for type in ImageType}


class CannotDraw(Exception):
    """Something isn't drawn; ``reason`` is one of a fixed set. Never leaves `Screen.apply`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class NotYet(Exception):
    """An image isn't there yet: it is being decoded, or copies from one that has to come.

    Never leaves `Screen.apply`, which tries the message again later.
    """

    def __init__(self, glz_id: int | None = None) -> None:
        super().__init__(glz_id)
        #: The GLZ image that has to come first; None: a job has to end.
        self.glz_id = glz_id


class Reading:
    """What has been read for one message, which may have to be tried more than once.

    What reading an image does to the caches is done once. Images are told apart by what they are,
    not by what they say, which a pickled copy keeps.
    """

    __slots__ = ("images", "jobs")

    def __init__(self) -> None:
        self.images: list[tuple[Image, Pixels]] = []
        self.jobs: list[tuple[Image, int]] = []

    def image(self, image: Image) -> Pixels | None:
        """The pixels, if the image has been read."""
        for known, pixels in self.images:
            if known is image:
                return pixels
        return None

    def job(self, image: Image) -> int | None:
        """The number of the image's job, if it has been started."""
        for known, number in self.jobs:
            if known is image:
                return number
        return None


class ImageReader:
    """Makes pixels of images, keeps and finds what is to be cached."""

    def __init__(self, caches: Caches, palettes: PaletteCache) -> None:
        self.caches = caches
        self.images = caches.images
        self.palettes = palettes
        #: What the present message has read.
        self.reading = Reading()
        #: Jobs to be started, the pixels of those whose result hasn't been taken, and results.
        self.wanted: list[tuple[int, DecodeJob]] = []
        self.held: dict[int, int] = {}
        self.results: dict[int, Result] = {}
        #: Images that have come, by the name of their type.
        self.counts: dict[str, int] = {}
        #: Where kernels unpack small images, None until there is one.
        self.scratch: Scratch | None = None
        #: Where they unpack images as large as a screen, None until there is one.
        self.rows: Rows | None = None
        #: The window of GLZ images, for kernels; None until there is one.
        self.window: GlzWindow | None = None
        self._last_job = 0
        # Pixels of a large image that has been drawn: the pages of new ones have to be cleared.
        self._spare: bytearray | None = None

    def clear(self) -> None:
        """Forget all jobs; what they come to is dropped when it comes."""
        self.reading = Reading()
        self.wanted.clear()
        self.held.clear()
        self.results.clear()

    def touch(self, image: Image | None, target: int) -> None:
        """Do for an image of which nothing is visible what later images rely on."""
        if image is None or image.descriptor.type == ImageType.SURFACE:
            return
        body = image.body
        palette = isinstance(body, (BitmapData, LzPltData)) and body.flags & (
            BitmapFlags.PAL_CACHE_ME
        )
        if image.descriptor.flags & _KEEP or palette or image.descriptor.type in GLZ:
            self.pixels(image, target)
        else:
            self._count(image)

    def pixels(self, image: Image, target: int) -> Pixels:
        """The image's pixels, in a format of its own, for a surface of format ``target``.

        Raises `CannotDraw` for what can't be decoded or isn't in the cache, `NotYet` for what has
        to wait, and `RemoteProtocolError` for what no peer may send.
        """
        known = self.reading.image(image)
        if known is not None:
            return known
        head = image.descriptor
        if head.type in _CACHED:
            kept = self.images.get(head.id, lossless=head.type == ImageType.FROM_CACHE_LOSSLESS)
            if kept is None:
                raise CannotDraw("the image is not in the cache")
            self._count(image)
            return kept
        pixels = self._decoded(image, target)
        self._count(image)
        if head.flags & ImageFlags.HIGH_BITS_SET and pixels.format == XRGB:
            pixels = _high_bits_set(pixels)
        self._keep(image, pixels)
        self.reading.images.append((image, pixels))
        return pixels

    def _keep(self, image: Image, pixels: Pixels) -> None:
        head = image.descriptor
        if head.flags & ImageFlags.CACHE_ME:
            self.images.put(head.id, pixels, lossy=head.type in LOSSY)
        elif head.flags & ImageFlags.CACHE_REPLACE_ME:
            if head.type in LOSSY:
                raise CannotDraw("an image with losses is to replace one without")
            self.images.replace(head.id, pixels)

    def mask(self, image: Image) -> Pixels:
        """The pixels of a mask, format A1; raises as `pixels` does. Kept as it is, not inverted."""
        body = image.body
        if isinstance(body, BitmapData) and body.format not in _ONE_BIT:
            raise CannotDraw("the mask is not of 1 bit")
        if body is not None and not isinstance(body, BitmapData):
            raise CannotDraw("the mask is not of 1 bit")
        mask = self.pixels(image, A1)
        if mask.format != A1:
            raise CannotDraw("the mask is not of 1 bit")
        return mask

    def start_early(self, image: Image, reading: Reading) -> bool:
        """Decode an image of a message that has to wait, if that is worth a thread.

        False when as much is being decoded as may be.
        """
        if not is_heavy(image) or reading.job(image) is not None:
            return True
        pixels = image.descriptor.width * image.descriptor.height
        if len(self.held) >= MAX_JOBS or sum(self.held.values()) + pixels > MAX_JOB_PIXELS:
            return False
        self._start(image, reading)
        return True

    def computed(self, number: int, result: Result) -> None:
        """A job has ended. One that nobody waits for any more is passed over."""
        if number in self.held:
            self.results[number] = result

    def done(self, reading: Reading) -> None:
        """A message is done with: drop what was kept for it."""
        for image, number in reading.jobs:
            result = self.results.pop(number, None)
            self.held.pop(number, None)
            if image.descriptor.type == ImageType.QUIC and isinstance(result, Pixels):
                self._reuse(result.data)

    def _reuse(self, data: bytes | bytearray | memoryview) -> None:
        """Nobody looks at these pixels any more: what is kept of them has been copied."""
        if isinstance(data, bytearray) and len(data) <= 4 * MAX_JOB_PIXELS:
            self._spare = data

    # For kernels (`aiospice.client.batch`)

    def make_scratch(self) -> Scratch:
        """Make what small images are unpacked into."""
        from aiospice.codecs.quic_small import Scratch

        self.scratch = Scratch()
        return self.scratch

    def make_rows(self) -> Rows:
        """Make what large images are unpacked into."""
        from aiospice.codecs.lz4_unpack import Rows

        self.rows = Rows()
        return self.rows

    def find_window(self) -> GlzWindow:
        """Find the window of GLZ images."""
        self.window = self.caches.glz
        return self.window

    def unpack_block(self, block: bytes, size: int) -> bytes | None:
        """Unpack a block of LZ4 to exactly ``size`` bytes; None as with `quick`."""
        from aiospice.codecs.lz4 import unpack_block

        return unpack_block(block, size)

    def count(self, name: str, images: int) -> None:
        """So many more images have come."""
        self.counts[name] = self.counts.get(name, 0) + images

    def quick(self, type: int, width: int, height: int, data: bytes) -> Pixels | None:
        """Decode an image; None for one that is damaged, or has to be decoded another way."""
        result = DecodeJob(type, width, height, data).run()
        return result if isinstance(result, Pixels) else None

    def inflated(self, data: bytes, size: int) -> bytes | None:
        """Inflate a small image of a GLZ window; None as with `quick`."""
        result = DecodeJob(ImageType.ZLIB_GLZ_RGB, 1, 1, data, size=size).run()
        return result if isinstance(result, bytes) else None

    def keep_rows(
        self, image_id: int, type: int, data: bytes | bytearray | memoryview, job: Any
    ) -> None:
        """Keep an image whose rows a kernel has found; ``job`` as it is there."""
        offset, stride, height, top_down, width = job[7], job[8], job[9], job[10], job[15]
        if not top_down:
            offset, stride = offset + (height - 1) * stride, -stride
        pixels = Pixels(width, height, ARGB if job[16] else XRGB, data, offset, stride)
        self.images.put(image_id, pixels.copy(), lossy=type in LOSSY)

    # Decoding

    def _count(self, image: Image) -> None:
        self.count(_NAMES[image.descriptor.type], 1)

    def _decoded(self, image: Image, target: int) -> Pixels:
        body = image.body
        if isinstance(body, BitmapData):
            return self._bitmap(body, target)
        try:
            if image.descriptor.type in GLZ:
                return self._glz(image)
            palette = self._lz_palette(body, target) if isinstance(body, LzPltData) else None
            result = self._result(image, palette)
        except (DecodeError, MissingProgram) as error:
            raise _damaged(image, error) from None
        assert isinstance(result, Pixels)
        return result

    def _result(self, image: Image, palette: tuple[int, ...] | None = None) -> Pixels | bytes:
        """What the image's job comes to, done here unless it is worth a thread."""
        number = self.reading.job(image)
        if number is None and is_heavy(image):
            number = self._start(image, self.reading)
        if number is None:
            result = job_for(image, palette).run()
        else:
            if number not in self.results:
                raise NotYet()
            result = self.results[number]
        if isinstance(result, AiospiceError):
            raise result
        return result

    def _start(self, image: Image, reading: Reading) -> int:
        self._last_job += 1
        number = self._last_job
        job = job_for(image)
        size = 4 * image.descriptor.width * image.descriptor.height
        if job.type == ImageType.QUIC and self._spare is not None and len(self._spare) == size:
            job, self._spare = job._replace(room=self._spare), None
        self.wanted.append((number, job))
        self.held[number] = image.descriptor.width * image.descriptor.height
        reading.jobs.append((image, number))
        return number

    def _glz(self, image: Image) -> Pixels:
        from aiospice.codecs import glz, zlib

        head, window = image.descriptor, self.caches.glz
        stream = b""
        try:
            stream = self._stream(image)
            found = glz.decode(stream, window)
            if isinstance(found, glz.NeedsImage):
                if self.caches.displays > 1:
                    raise NotYet(found.id)
                raise DecodeError(f"a copy from image {found.id}, which has not come")
            return pixels_of(found, head.width, head.height)
        except DecodeError:
            if isinstance(image.body, ZlibGlzData) and not stream:
                stream = zlib.head(image.body.data, glz.HEADER_SIZE)
            glz.lose(stream, window)
            raise

    def _stream(self, image: Image) -> bytes:
        """A GLZ stream as it came, or inflated."""
        if image.descriptor.type == ImageType.ZLIB_GLZ_RGB:
            return self._inflated(image)
        assert isinstance(image.body, BinaryData)
        return image.body.data

    def _inflated(self, image: Image) -> bytes:
        """The GLZ stream of a deflated image, inflated once however often it is tried."""
        number = self.reading.job(image)
        stream = self._result(image)
        assert isinstance(stream, bytes)
        if number is None:  # it may have to wait for another image: keep what there is
            self._last_job += 1
            self.reading.jobs.append((image, self._last_job))
            self.results[self._last_job] = stream
        return stream

    def _lz_palette(self, body: LzPltData, target: int) -> tuple[int, ...]:
        palette = self._palette(body)
        if palette is None:
            raise CannotDraw("the palette is not in the cache")
        if target == RGB555:
            return tuple(map(_widened, palette))
        if target in (RGB565, A8, A1):
            raise CannotDraw("palettes are defined for 32 bit and 16_555 surfaces")
        return palette

    def _palette(self, body: BitmapData | LzPltData) -> tuple[int, ...] | None:
        """The palette of an image, kept if that is asked for."""
        if body.flags & BitmapFlags.PAL_FROM_CACHE:
            return self.palettes.get(body.palette_id or 0)
        if body.palette is None:
            return None
        if body.flags & BitmapFlags.PAL_CACHE_ME:
            self.palettes.put(body.palette.unique, body.palette.ents)
        return body.palette.ents

    def _bitmap(self, bitmap: BitmapData, target: int) -> Pixels:
        palette = self._palette(bitmap)
        missing = palette is None and bitmap.flags & BitmapFlags.PAL_FROM_CACHE
        if missing and bitmap.format in INDEXED and target != A1:
            raise CannotDraw("the palette is not in the cache")
        if bitmap.format in INDEXED and target == RGB565:
            raise CannotDraw("palettes are defined for 32 bit and 16_555 surfaces")
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


def _damaged(image: Image, error: AiospiceError) -> CannotDraw:
    name = _NAMES[image.descriptor.type]
    if isinstance(error, MissingProgram):
        return CannotDraw(f"{name} images need a library that is missing", str(error))
    return CannotDraw(f"the {name} image is damaged", str(error))


def _widened(colour: int) -> int:
    """A colour of 15 bits as one of 32, its high bits repeated below."""
    red, green, blue = colour >> 10 & 31, colour >> 5 & 31, colour & 31
    parts = [part << 3 | part >> 2 for part in (red, green, blue)]
    return parts[0] << 16 | parts[1] << 8 | parts[2]


def _high_bits_set(pixels: Pixels) -> Pixels:
    data = bytearray(pixels.tight())
    data[3::4] = b"\xff" * (len(data) // 4)
    return Pixels(pixels.width, pixels.height, XRGB, bytes(data))
