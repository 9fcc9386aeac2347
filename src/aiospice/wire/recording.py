"""Sound to the guest, the record channel (spice-common ``spice.proto``)."""

from __future__ import annotations

from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.playback import MAX_CHANNELS, MAX_FREQUENCY, DataMode, Format
from aiospice.wire.record import counter, number_array, rest, u8, u16, u32

__all__ = [
    "Data",
    "Mode",
    "Mute",
    "Start",
    "StartMark",
    "Stop",
    "Volume",
]

_RECORD = (6,)


class Start(Message, channels=_RECORD, sender=SERVER, number=101):
    """The guest wants sound; ``frequency`` in Hz."""

    channel_count: int = u32(maximum=MAX_CHANNELS)
    format: int = u16(names=Format)
    frequency: int = u32(maximum=MAX_FREQUENCY)


class Stop(Message, channels=_RECORD, sender=SERVER, number=102):
    """The guest wants no more sound."""


class Volume(Message, channels=_RECORD, sender=SERVER, number=103):
    """The volume of each channel, 0 to 65535."""

    nchannels: int = counter("volume", "B")
    volume: tuple[int, ...] = number_array("H", "nchannels")


class Mute(Message, channels=_RECORD, sender=SERVER, number=104):
    """Not 0: the guest has muted its microphone."""

    mute: int = u8()


class Data(Message, channels=_RECORD, sender=CLIENT, number=101):
    """Samples in the current mode; ``time`` in ms."""

    time: int = u32()
    data: bytes = rest()


class Mode(Message, channels=_RECORD, sender=CLIENT, number=102):
    """How the samples of `Data` are packed from now on; ``data`` is empty for all known modes."""

    time: int = u32()
    mode: int = u16(names=DataMode)
    data: bytes = rest()


class StartMark(Message, channels=_RECORD, sender=CLIENT, number=103):
    """The answer to `Start`: `Data` follows, the first of it taken at ``time`` (ms)."""

    time: int = u32()
