"""What decoding an image takes: a job that can be done anywhere, at once or in a thread.

A job is plain data. Which images are worth a thread is decided by their pixels; images of a GLZ
window are decoded where the window is, since each may copy from those before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiospice.canvas.pixels import MAX_SIDE, Pixels
from aiospice.client.batch import COMPILED
from aiospice.errors import AiospiceError, DecodeError, RemoteProtocolError
from aiospice.wire.caps import DisplayCap, has
from aiospice.wire.images import (
    BinaryData,
    Image,
    ImageCompression,
    ImageType,
    JpegAlphaData,
    JpegAlphaFlags,
    LzPltData,
    ZlibGlzData,
)

if TYPE_CHECKING:
    from aiospice.codecs.image import Decoded

__all__ = [
    "COMPRESSIONS",
    "GLZ",
    "LOSSY",
    "DecodeJob",
    "Result",
    "compression_for",
    "is_heavy",
    "job_for",
    "pixels_of",
]

#: What a user calls the compressions that a server may be asked for.
COMPRESSIONS = {
    "off": ImageCompression.OFF,
    "auto_glz": ImageCompression.AUTO_GLZ,
    "auto_lz": ImageCompression.AUTO_LZ,
    "quic": ImageCompression.QUIC,
    "glz": ImageCompression.GLZ,
    "lz": ImageCompression.LZ,
    "lz4": ImageCompression.LZ4,
}

#: What a job comes to: pixels, an inflated GLZ stream, or what is wrong with the image.
Result = Pixels | bytes | AiospiceError

#: Images that copy from those before them.
GLZ = frozenset((ImageType.GLZ_RGB, ImageType.ZLIB_GLZ_RGB))
#: Images that aren't what was packed.
LOSSY = frozenset((ImageType.JPEG, ImageType.JPEG_ALPHA))

# Pixels from which on the way to a thread and back is worth it: about a ms of work.
_HEAVY = {
    ImageType.QUIC: 1 << 16,
    ImageType.JPEG: 1 << 16,
    ImageType.JPEG_ALPHA: 1 << 16,
    ImageType.LZ_RGB: 1 << 18,
    ImageType.LZ4: 1 << 18,
    ImageType.ZLIB_GLZ_RGB: 1 << 18,
}


class DecodeJob(NamedTuple):
    """An image to be decoded; `run` does it."""

    #: `ImageType`.
    type: int
    #: What the descriptor says, in pixels.
    width: int
    height: int
    data: bytes
    #: ZLIB_GLZ_RGB: bytes of the GLZ stream; JPEG_ALPHA: bytes of the JPEG part.
    size: int = 0
    #: JPEG_ALPHA: the top row of alpha comes first.
    top_down: bool = False
    #: LZ_PLT: colours of 32 bit.
    palette: tuple[int, ...] | None = None
    #: QUIC: where the pixels go, if it is as large as they are.
    room: bytearray | None = None

    def run(self) -> Result:
        """Decode. Never raises what is the peer's fault or a missing library's: it is returned.

        Takes memory for at most `aiospice.codecs.image.MAX_PIXELS` pixels, and only for as many
        as the data can stand for.
        """
        try:
            if self.type == ImageType.ZLIB_GLZ_RGB:
                from aiospice.codecs import zlib

                return zlib.inflate(self.data, self.size)
            return pixels_of(self._decoded(), self.width, self.height)
        except AiospiceError as error:
            return error

    def _decoded(self) -> Decoded:
        type, data, width, height = self.type, self.data, self.width, self.height
        if type == ImageType.QUIC:
            from aiospice.codecs import quic

            # Grey images exist in the codec and not in the protocol (spice-common, canvas_base.c).
            if quic.header(data).type == quic.GRAY:
                raise DecodeError("a grey QUIC image", field="type", offset=8)
            return quic.decode(data, max_pixels=width * height, room=self.room)
        if type in (ImageType.LZ_RGB, ImageType.LZ_PLT):
            from aiospice.codecs import lz

            return lz.decode(data, palette=self.palette)
        if type == ImageType.LZ4:
            from aiospice.codecs import lz4

            return lz4.decode(data, width, height)
        from aiospice.codecs import jpeg

        if type == ImageType.JPEG:
            return jpeg.decode(data, width, height)
        return jpeg.decode_alpha(data, self.size, width, height, top_down=self.top_down)


def pixels_of(decoded: Decoded, width: int, height: int) -> Pixels:
    """The image on a canvas; `DecodeError` unless it is as large as its descriptor says."""
    if (decoded.width, decoded.height) != (width, height):
        raise DecodeError(
            f"an image of {decoded.width}x{decoded.height} pixels, whose descriptor says "
            f"{width}x{height}",
            field="width",
        )
    return Pixels(width, height, decoded.format, decoded.data, decoded.offset, decoded.stride)


def job_for(image: Image, palette: tuple[int, ...] | None = None) -> DecodeJob:
    """The job of a compressed image; `RemoteProtocolError` for sides that none may have.

    ``palette`` is that of an LZ_PLT image.
    """
    head, body = image.descriptor, image.body
    if not (1 <= head.width <= MAX_SIDE and 1 <= head.height <= MAX_SIDE):
        raise RemoteProtocolError(
            f"an image of {head.width}x{head.height}: sides are 1 to {MAX_SIDE} pixels"
        )
    assert isinstance(body, (BinaryData, LzPltData, ZlibGlzData, JpegAlphaData))
    job = DecodeJob(head.type, head.width, head.height, body.data, palette=palette)
    if isinstance(body, ZlibGlzData):
        return job._replace(size=body.glz_data_size)
    if isinstance(body, JpegAlphaData):
        top_down = bool(body.flags & JpegAlphaFlags.TOP_DOWN)
        return job._replace(size=body.jpeg_size, top_down=top_down)
    return job


def compression_for(name: str, server_caps: tuple[int, ...]) -> int:
    """The `ImageCompression` to ask a server for: what the user wants, INVALID for no wish.

    Where the kernels aren't compiled, and the user has no wish, it is what a library unpacks or
    nothing packs: LZ4 if the server has it, else none.
    """
    if name:
        return COMPRESSIONS[name]
    if COMPILED:
        return ImageCompression.INVALID
    if has(server_caps, DisplayCap.LZ4_COMPRESSION):
        return ImageCompression.LZ4
    return ImageCompression.OFF


def is_heavy(image: Image) -> bool:
    """Whether decoding the image is worth a thread."""
    head = image.descriptor
    least = _HEAVY.get(ImageType(head.type))
    return least is not None and least <= head.width * head.height <= MAX_SIDE * MAX_SIDE
