"""Videos for tests: a moving picture, encoded by FFmpeg with the settings of a live stream."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import av
import numpy as np

from aiospice.codecs.video import H264, H265, VP8, VP9

#: Encoder and its options by codec: no frame waits for a later one, as in a live stream.
ENCODERS: dict[int, tuple[str, dict[str, str]]] = {
    VP8: ("libvpx", {"deadline": "realtime", "lag-in-frames": "0"}),
    VP9: ("libvpx-vp9", {"deadline": "realtime", "lag-in-frames": "0", "cpu-used": "8"}),
    H264: ("libx264", {"tune": "zerolatency", "preset": "ultrafast"}),
    H265: ("libx265", {"tune": "zerolatency", "preset": "ultrafast", "x265-params": "log-level=0"}),
}


def moving(step: int, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture of smooth colours, B G R and 255, which moves with each step."""
    y, x = np.mgrid[0:height, 0:width]
    made = np.full((height, width, 4), 255, np.uint8)
    made[..., 0] = np.abs((x + 4 * step) % 256 - 128) + 60
    made[..., 1] = 255 * y // height
    made[..., 2] = 255 * x // width
    return made


@cache
def encoded(codec: int, frames: int, width: int, height: int) -> tuple[bytes, ...]:
    """So many frames of that video, one packet each; only the first is a key frame."""
    name, options = ENCODERS[codec]
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.bit_rate, encoder.time_base, encoder.gop_size = 8_000_000, Fraction(1, 25), 1000
    encoder.options = options
    matrix = "ITU601" if height <= 576 else "ITU709"
    packets: list[bytes] = []
    for step in range(frames):
        whole: Any = av.VideoFrame.from_ndarray(moving(step, width, height), format="bgra")
        frame = whole.reformat(format="yuv420p", dst_colorspace=matrix)
        frame.pts = step
        frame.pict_type = 1 if not step else 0
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    assert len(packets) == frames
    return tuple(packets)


def mean_error(one: bytes, other: bytes) -> float:
    """How far the colours of two pictures of B G R and a fourth byte are apart, on average."""
    left, right = (np.frombuffer(data, np.uint8).reshape(-1, 4)[:, :3] for data in (one, other))
    return float(np.abs(left.astype(int) - right).mean())
