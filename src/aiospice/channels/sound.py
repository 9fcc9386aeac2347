"""What the two sound channels have in common, client end: volume and mute."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import ClientChannel, Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.wire import playback, recording

__all__ = ["SoundChannel", "SoundStarted", "SoundStopped", "VolumeChanged"]


class SoundStarted(Event):
    """The guest begins to play (``playback``) or to listen (``record``)."""

    channel: str
    channels: int
    #: Samples a second.
    frequency: int
    #: `aiospice.wire.playback.Format`: 1 is signed 16 bit little endian.
    format: int


class SoundStopped(Event):
    """The guest has stopped playing or listening."""

    channel: str


class VolumeChanged(Event):
    """The guest's volume, 0 to 65535 a channel; empty if only ``muted`` was told yet."""

    channel: str
    volume: tuple[int, ...]
    muted: bool


class SoundChannel(ClientChannel):
    """Playback or record; subclasses name the numbers of their messages."""

    handlers: ClassVar[dict[int, str]] = {}

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        #: The guest plays, or listens.
        self.running = False
        self.volume: tuple[int, ...] = ()
        self.muted = False

    def _on_start(self, message: playback.Start | recording.Start) -> None:
        self.running = True
        self._events.append(
            SoundStarted(
                channel=self.name,
                channels=message.channel_count,
                frequency=message.frequency,
                format=message.format,
            )
        )

    def _on_stop(self, message: playback.Stop | recording.Stop) -> None:
        self.running = False
        self._events.append(SoundStopped(channel=self.name))

    def _on_volume(self, message: playback.Volume | recording.Volume) -> None:
        self.volume = message.volume
        self._volume_changed()

    def _on_mute(self, message: playback.Mute | recording.Mute) -> None:
        self.muted = bool(message.mute)
        self._volume_changed()

    def _volume_changed(self) -> None:
        self._events.append(VolumeChanged(channel=self.name, volume=self.volume, muted=self.muted))

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew: START will come if the guest still plays or listens."""
        self.running = False
        return super().restart(framing, server_caps)
