"""Opus, for sound between server and clients, through PyAV (extra ``video``).

SPICE carries Opus at 48 kHz in packets of 480 samples, 10 ms, which is also the most that spice-gtk
takes (spice-common ``common/snd_codec.c``).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from aiospice.errors import DecodeError, MissingProgram

__all__ = [
    "FREQUENCY",
    "PACKET_SAMPLES",
    "OpusCodecs",
    "OpusDecoder",
    "OpusEncoder",
    "opus_works",
]

#: The only frequency, samples a second.
FREQUENCY = 48000
#: Samples (of each channel) in one packet.
PACKET_SAMPLES = 480
#: The most bytes of a packet that are decoded (RFC 6716, section 3.4, with room).
_MAX_PACKET = 4096
_LAYOUTS = {1: "mono", 2: "stereo"}


def _av() -> Any:
    try:
        import av
    except ImportError:
        text = "Opus needs PyAV: pip install 'aiospice[video]'"
        raise MissingProgram(text) from None
    return av


def opus_works() -> bool:
    """Whether Opus can be packed and unpacked here."""
    try:
        av = _av()
        av.CodecContext.create("libopus", "w")
        av.CodecContext.create("libopus", "r")
    except (MissingProgram, ValueError, OSError):
        return False
    return True


class OpusEncoder:
    """Packs samples of any number into packets of 10 ms. `MissingProgram` without PyAV."""

    def __init__(self, channels: int = 2, bit_rate: int = 128_000) -> None:
        self.channels = channels
        self._av = _av()
        self._bit_rate = bit_rate
        self._left = b""
        self._pts = 0
        self._context = self._open()

    def _open(self) -> Any:
        context = self._av.CodecContext.create("libopus", "w")
        context.sample_rate = FREQUENCY
        context.layout = _LAYOUTS[self.channels]
        context.format = "s16"
        context.bit_rate = self._bit_rate
        context.time_base = Fraction(1, FREQUENCY)
        context.options = {"frame_duration": "10", "application": "audio"}
        context.open()
        return context

    def encode(self, samples: bytes) -> list[bytes]:
        """Take signed 16 bit samples in, channels interleaved; the packets that are full."""
        data = self._left + samples
        size = PACKET_SAMPLES * 2 * self.channels
        packets: list[bytes] = []
        end = len(data) - len(data) % size
        for at in range(0, end, size):
            frame = self._av.AudioFrame(
                format="s16", layout=_LAYOUTS[self.channels], samples=PACKET_SAMPLES
            )
            frame.sample_rate = FREQUENCY
            frame.pts = self._pts
            frame.time_base = Fraction(1, FREQUENCY)
            frame.planes[0].update(data[at : at + size])
            self._pts += PACKET_SAMPLES
            packets += [bytes(packet) for packet in self._context.encode(frame)]
        self._left = data[end:]
        return packets


class OpusDecoder:
    """Unpacks packets to signed 16 bit samples. `MissingProgram` without PyAV."""

    def __init__(self, channels: int = 2) -> None:
        self.channels = channels
        self._av = _av()
        self._context = self._av.CodecContext.create("libopus", "r")
        self._context.sample_rate = FREQUENCY
        self._context.layout = _LAYOUTS[channels]
        self._context.open()
        self._resampler = self._av.AudioResampler(
            format="s16", layout=_LAYOUTS[channels], rate=FREQUENCY
        )

    def decode(self, packet: bytes) -> bytes:
        """The packet's samples, channels interleaved; `DecodeError` if it is none."""
        if not 0 < len(packet) <= _MAX_PACKET:
            raise DecodeError(f"{len(packet)} bytes are no Opus packet", offset=0)
        try:
            frames = self._context.decode(self._av.Packet(packet))
            found = [
                bytes(out.planes[0])[: out.samples * 2 * self.channels]
                for frame in frames
                for out in self._resampler.resample(frame)
            ]
        except (self._av.FFmpegError, ValueError) as error:
            raise DecodeError(f"not an Opus packet: {error}", offset=0) from None
        return b"".join(found)


class OpusCodecs:
    """What a server's `Host` packs and unpacks sound with."""

    def encoder(self, channels: int) -> OpusEncoder:
        """A new encoder."""
        return OpusEncoder(channels)

    def decoder(self, channels: int) -> OpusDecoder:
        """A new decoder."""
        return OpusDecoder(channels)
