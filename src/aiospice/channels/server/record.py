"""The record channel, server end: sound from the client to the guest."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel
from aiospice.errors import RemoteProtocolError
from aiospice.wire import caps, recording
from aiospice.wire.caps import RecordCap
from aiospice.wire.playback import DataMode, Format

__all__ = ["RecordServer", "SoundRecorded"]


class SoundRecorded(Event):
    """A packet of the client's sound."""

    #: `DataMode`: RAW (signed 16 bit, little endian, channels interleaved) or OPUS.
    mode: int
    #: When it was taken, ms.
    time: int
    data: bytes


class RecordServer(ServerChannel):
    """Record: ask for sound, and take it."""

    handlers: ClassVar[dict[int, str]] = {
        recording.Data.number: "_on_data",
        recording.Mode.number: "_on_mode",
        recording.StartMark.number: "_on_start_mark",
    }
    limit: ClassVar[int] = 64 << 10

    def __init__(self, key: Key, framing: Framing, client_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, client_caps)
        self.running = False
        self.mode: int = DataMode.RAW
        self.start_mark: int | None = None

    @property
    def sends_opus(self) -> bool:
        """Whether the client can send Opus."""
        return caps.has(self.client_caps, RecordCap.OPUS)

    def start(self, frequency: int, channels: int) -> None:
        """Ask for sound."""
        self.running = True
        self.start_mark = None
        self.send(recording.Start(channel_count=channels, format=Format.S16, frequency=frequency))

    def stop(self) -> None:
        """The guest wants no more."""
        if self.running:
            self.running = False
            self.send(recording.Stop())

    def volume(self, volume: tuple[int, ...], muted: bool) -> None:
        """The guest's volume, 0 to 65535 a channel."""
        if caps.has(self.client_caps, RecordCap.VOLUME):
            self.send(recording.Volume(volume=volume))
            self.send(recording.Mute(mute=int(muted)))

    def _on_mode(self, message: recording.Mode) -> None:
        if message.mode not in (DataMode.RAW, DataMode.OPUS):
            raise RemoteProtocolError(f"mode {message.mode} isn't known")
        self.mode = message.mode

    def _on_start_mark(self, message: recording.StartMark) -> None:
        self.start_mark = message.time

    def _on_data(self, message: recording.Data) -> None:
        if self.running:  # what was on its way when STOP went out is too late
            self._events.append(SoundRecorded(mode=self.mode, time=message.time, data=message.data))
