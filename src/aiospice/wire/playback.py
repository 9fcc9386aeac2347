"""Sound from the guest, the playback channel (spice-common ``spice.proto``)."""

from __future__ import annotations

from enum import IntEnum

from aiospice.wire.message import SERVER, Message
from aiospice.wire.record import counter, number_array, rest, u8, u16, u32

__all__ = [
    "MAX_CHANNELS",
    "MAX_FREQUENCY",
    "Data",
    "DataMode",
    "Format",
    "Latency",
    "Mode",
    "Mute",
    "Start",
    "Stop",
    "Volume",
]

_PLAYBACK = (5,)
#: What is accepted of a peer, far above what anyone sends (2 and 48000).
MAX_CHANNELS = 32
MAX_FREQUENCY = 768_000


class DataMode(IntEnum):
    """``SPICE_AUDIO_DATA_MODE_*``: how samples are packed; CELT is history."""

    INVALID = 0
    RAW = 1
    CELT_0_5_1 = 2
    OPUS = 3


class Format(IntEnum):
    """``SPICE_AUDIO_FMT_*``: S16 is signed 16 bit, little endian, channels interleaved."""

    INVALID = 0
    S16 = 1


class Data(Message, channels=_PLAYBACK, sender=SERVER, number=101):
    """Samples in the current mode, to be heard at ``time`` (ms, multimedia clock)."""

    time: int = u32()
    data: bytes = rest()


class Mode(Message, channels=_PLAYBACK, sender=SERVER, number=102):
    """How the samples of `Data` are packed from now on; ``data`` is empty for all known modes."""

    time: int = u32()
    mode: int = u16(names=DataMode)
    data: bytes = rest()


class Start(Message, channels=_PLAYBACK, sender=SERVER, number=103):
    """The guest begins to play; ``frequency`` in Hz, ``time`` in ms."""

    channel_count: int = u32(maximum=MAX_CHANNELS)
    format: int = u16(names=Format)
    frequency: int = u32(maximum=MAX_FREQUENCY)
    time: int = u32()


class Stop(Message, channels=_PLAYBACK, sender=SERVER, number=104):
    """The guest has stopped playing."""


class Volume(Message, channels=_PLAYBACK, sender=SERVER, number=105):
    """The volume of each channel, 0 to 65535."""

    nchannels: int = counter("volume", "B")
    volume: tuple[int, ...] = number_array("H", "nchannels")


class Mute(Message, channels=_PLAYBACK, sender=SERVER, number=106):
    """Not 0: be silent."""

    mute: int = u8()


class Latency(Message, channels=_PLAYBACK, sender=SERVER, number=107):
    """The least delay, in ms, that keeps sound together with video."""

    latency_ms: int = u32()
