"""Encoders of VP8: PyAV's, one for each video of a client, off the event loop.

An encoder remembers the frames before, so it is no plain data and stands outside of the core. The
core asks for one frame of a video at a time. An encoder that isn't there (the core was picked up by
another shell, or it was put away) is made anew and begins with a key frame, which every decoder
follows.

PyAV is the extra ``aiospice[video]`` and is imported in a thread when the first frame comes.
"""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

from aiospice.aio.video import _library, colours_of
from aiospice.codecs.video import VP8
from aiospice.errors import AiospiceError, LocalError
from aiospice.server.encode import Encoded, VideoJob

__all__ = ["MAX_ENCODERS", "Encoders", "vp8_works"]

#: Encoders that are kept; the one that was used least of late goes.
MAX_ENCODERS = 16
#: Ticks a second of an encoder's clock.
_CLOCK = 1000


def vp8_works() -> bool:
    """Whether VP8 can be encoded here: PyAV is there (it isn't imported)."""
    from importlib.util import find_spec

    try:
        return find_spec("av") is not None
    except ValueError:  # it is marked as missing
        return False


class _Encoder:
    """Encodes the frames of one video, in order. Not for two threads at once."""

    def __init__(self, av: Any, job: VideoJob) -> None:
        self.size = (job.width, job.height)
        self.bits = job.bits
        context = av.CodecContext.create("libvpx", "w")
        context.width, context.height = self.size
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, _CLOCK)
        context.framerate = Fraction(30)
        context.bit_rate = job.bits
        context.gop_size = 9999
        context.thread_count = 1
        context.options = {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "error-resilient": "1",
            "auto-alt-ref": "0",
            "max-intra-rate": "600",
        }
        self._context = context
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._last = -1

    def fits(self, job: VideoJob) -> bool:
        """Whether it is one for such frames."""
        return self.size == (job.width, job.height) and self.bits == job.bits

    def encode(self, av: Any, job: VideoJob) -> bytes:
        """The next frame; empty where the encoder leaves it out."""
        import numpy as np

        rows = np.frombuffer(job.pixels, np.uint8).reshape(job.height, job.width, 4)
        picture = av.VideoFrame.from_ndarray(rows, format="bgra")
        shown = self._reformatter.reformat(
            picture,
            format="yuv420p",
            dst_colorspace=colours_of(VP8, 2, job.height),
            src_color_range=2,
            dst_color_range=1,
            threads=1,
        )
        self._last = shown.pts = max(self._last + 1, job.time)
        shown.time_base = Fraction(1, _CLOCK)
        return b"".join(bytes(packet) for packet in self._context.encode(shown))


class Encoders:
    """The encoders of a server; `run` is called in threads, once at a time for each video."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._encoders: dict[tuple[int, int, int], _Encoder] = {}

    def __len__(self) -> int:
        return len(self._encoders)

    def run(self, job: VideoJob) -> Encoded | AiospiceError:
        """Encode a frame. What PyAV raises, and that it is missing, is returned."""
        try:
            av = _library()
            with self._lock:
                encoder = self._encoders.pop(job.key, None)
            if encoder is None or not encoder.fits(job):
                encoder = _Encoder(av, job)
            data = encoder.encode(av, job)
        except AiospiceError as error:
            return error
        except Exception as error:  # whatever a library raises, the frame is answered
            return LocalError(f"a frame that PyAV fails at: {error!r}")
        with self._lock:
            self._encoders[job.key] = encoder
            while len(self._encoders) > MAX_ENCODERS:
                del self._encoders[next(iter(self._encoders))]
        return Encoded(job.type, data)

    def close(self) -> None:
        """Put all encoders away."""
        with self._lock:
            self._encoders.clear()
