# cython: language_level=3, annotation_typing=False
"""How an image is to be packed for one client: by what it is like, what is asked for, and the line.

Pictures are smallest as QUIC, drawings as LZ or GLZ; on a thin line pictures lose some detail for
the time being (JPEG) and drawings are deflated. Where our codecs aren't compiled, what a library
packs is taken, or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiospice.codecs import quic
from aiospice.server.encode import JPEG, LZ, LZ4, QUIC, RAW, Method, Picture
from aiospice.wire.images import ImageCompression, ImageType

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["GLZ", "ZLIB_GLZ", "Wish", "choose", "quality_for"]

#: Methods that depend on what the client got before.
GLZ, ZLIB_GLZ = int(ImageType.GLZ_RGB), int(ImageType.ZLIB_GLZ_RGB)
#: Pixels below which packing isn't worth it (``MIN_SIZE_TO_COMPRESS`` in spice-server
#: ``server/dcc.cpp``), and below which a picture is not made lossy.
_LEAST, _LEAST_LOSSY = 54, 1 << 10
#: JPEG qualities, by how many times the line is narrower than `aiospice.server.line.THIN`.
_QUALITY = 85

_RAW, _LZ, _LZ4, _QUIC = Method(RAW), Method(LZ), Method(LZ4), Method(QUIC)

_NAMES: dict[int, str] = {
    ImageCompression.OFF: "off",
    ImageCompression.AUTO_GLZ: "auto_glz",
    ImageCompression.AUTO_LZ: "auto_lz",
    ImageCompression.QUIC: "quic",
    ImageCompression.GLZ: "glz",
    ImageCompression.LZ: "lz",
    ImageCompression.LZ4: "lz4",
}


class Wish(NamedTuple):
    """What is asked for, and what can be had."""

    #: ``auto``, ``off``, ``lz``, ``quic``, ``glz``, ``auto_lz``, ``auto_glz``, ``lz4``.
    compression: str = "auto"
    lossy: Literal["auto", "never", "always"] = "auto"
    #: The client unpacks LZ4.
    lz4: bool = False
    #: The client's line is thin.
    thin: bool = False
    #: The client has a window for GLZ.
    glz: bool = False

    @staticmethod
    def named(compression: int, otherwise: str) -> str:
        """The name of what a client asks for (`ImageCompression`); INVALID: the server's choice."""
        return _NAMES.get(compression, otherwise)


def quality_for(rate: float | None) -> int:
    """The JPEG quality for a line of so many bytes a second."""
    if rate is None or rate > 500_000:
        return _QUALITY
    return 75 if rate > 150_000 else 60


def choose(picture: Picture, wish: Wish, rate: float | None, *, exact: bool = False) -> Method:
    """The method for a picture; ``exact``: nothing may be lost."""
    name = wish.compression
    if picture.size < _LEAST or name == "off":
        return _RAW
    if not exact and wish.lossy != "never" and (wish.thin or wish.lossy == "always"):
        large = picture.size >= _LEAST_LOSSY
        if large and not picture.alpha and picture.picture:
            return Method(JPEG, quality_for(rate))
    if name == "lz4" or not quic.compiled():
        return _LZ4 if wish.lz4 else _RAW if name != "lz4" else _LZ
    if name == "quic" or (name.startswith("auto") and picture.picture):
        return _QUIC
    if wish.glz and (name in ("glz", "auto_glz") or (wish.thin and name == "auto")):
        return Method(ZLIB_GLZ if wish.thin else GLZ)
    return _LZ
