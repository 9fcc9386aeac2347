"""Frames of video codecs that refer to earlier frames: what is known of them without decoding.

A frame alone isn't enough to decode it, so the decoders stand outside of every core
(``aiospice.aio.video``). What a core hands out is a `VideoFrame`, plain data. After a loss of its
state a decoder begins again at a frame that refers to none before it (`is_key_frame`).

Facts: RFC 6386 section 9.1 (VP8), VP9 bitstream specification section 6.2, ITU-T H.264 table 7-1,
ITU-T H.265 table 7-1; spice-server ``gstreamer-encoder.c`` for which of their features are used.
"""

from __future__ import annotations

from typing import NamedTuple

from aiospice.errors import AiospiceError, StateError

__all__ = [
    "CODECS",
    "H264",
    "H265",
    "MJPEG",
    "VP8",
    "VP9",
    "VideoEnd",
    "VideoFrame",
    "is_key_frame",
]

#: ``SPICE_VIDEO_CODEC_TYPE_*``.
MJPEG, VP8, H264, VP9, H265 = 1, 2, 3, 4, 5
#: Their names, as users write them.
CODECS = {MJPEG: "mjpeg", VP8: "vp8", H264: "h264", VP9: "vp9", H265: "h265"}

#: NAL units of a picture that refers to no other: IDR; in H.265 the IRAP pictures.
_H264_KEY = frozenset((5,))
_H265_KEY = frozenset(range(16, 22))
#: Where a NAL unit is looked for: parameter sets and messages stand before the picture.
_NAL_UNITS = 32


class VideoFrame(NamedTuple):
    """The work of decoding one frame of a stream, after the ones before it."""

    #: Display channel, number of the stream, and which stream of that number.
    key: tuple[int, int, int]
    #: A key of `CODECS`.
    codec: int
    data: bytes
    #: Size in pixels that the frame must have.
    width: int
    height: int
    #: False: the rows come from the bottom of the picture.
    top_down: bool = True
    #: Which frame of its stream it is, from 0.
    number: int = 0
    #: It hides all of the frame before it, which then needn't be made pixels if it is late.
    covers: bool = False

    @property
    def stateful(self) -> bool:
        """It takes what remembers the frames before."""
        return True

    def run(self) -> AiospiceError:
        """The answer of a world without decoders."""
        return StateError(f"a frame of {CODECS.get(self.codec)} takes a decoder, and there is none")


class VideoEnd(NamedTuple):
    """A stream is over: its decoder can go. There is no result."""

    key: tuple[int, int, int]

    @property
    def stateful(self) -> bool:
        """It is for what remembers the frames before."""
        return True

    def run(self) -> None:
        """Nothing: without decoders there is nothing to let go."""


def is_key_frame(codec: int, data: bytes) -> bool:
    """Whether a decoder can begin with this frame; False too for what isn't a frame.

    ``codec`` is one of `VP8`, `VP9`, `H264` and `H265` (the latter two with start codes).
    """
    if not data:
        return False
    if codec == VP8:
        return not data[0] & 1
    if codec == VP9:
        return _vp9_key(data[0])
    if codec == H264:
        return any(data[at] & 31 in _H264_KEY for at in _nal_units(data))
    return any(data[at] >> 1 & 63 in _H265_KEY for at in _nal_units(data))


def _vp9_key(first: int) -> bool:
    """From the highest bit: marker 10, profile (2 bits, 3: one more), shown again, frame type."""
    if first >> 6 != 2:
        return False
    shift = 1 if first >> 4 & 3 == 3 else 0
    return first >> (3 - shift) & 1 == 0 and first >> (2 - shift) & 1 == 0


def _nal_units(data: bytes) -> list[int]:
    """Where the first NAL units begin, behind their start codes."""
    found: list[int] = []
    at = data.find(b"\0\0\1")
    while at >= 0 and at + 3 < len(data) and len(found) < _NAL_UNITS:
        found.append(at + 3)
        at = data.find(b"\0\0\1", at + 3)
    return found
