"""The record channel, client end: sound to the guest, packet by packet."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import ClientChannel, Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.playback import SoundStarted, SoundStopped, VolumeChanged
from aiospice.errors import StateError
from aiospice.wire import recording
from aiospice.wire.playback import DataMode

__all__ = ["RecordChannel"]


class RecordChannel(ClientChannel):
    """Record: `write` samples while the guest listens."""

    handlers: ClassVar[dict[int, str]] = {
        recording.Start.number: "_on_start",
        recording.Stop.number: "_on_stop",
        recording.Volume.number: "_on_volume",
        recording.Mute.number: "_on_mute",
    }

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        self.listening = False
        self.volume: tuple[int, ...] = ()
        self.muted = False
        self._marked = False

    def write(self, data: bytes, time: int, mode: int = DataMode.RAW) -> None:
        """Send samples taken at ``time`` (multimedia clock, ms); `StateError` if nobody listens."""
        if not self.listening:
            raise StateError(f"{self.name}: the guest isn't recording")
        if not self._marked:
            self._marked = True
            self.send(recording.Mode(time=time, mode=mode, data=b""))
            self.send(recording.StartMark(time=time))
        self.send(recording.Data(time=time, data=data))

    def _on_start(self, message: recording.Start) -> None:
        self.listening = True
        self._marked = False
        self._events.append(
            SoundStarted(
                channel=self.name,
                channels=message.channel_count,
                frequency=message.frequency,
                format=message.format,
            )
        )

    def _on_stop(self, message: recording.Stop) -> None:
        self.listening = False
        self._events.append(SoundStopped(channel=self.name))

    def _on_volume(self, message: recording.Volume) -> None:
        self.volume = message.volume
        self._volume_changed()

    def _on_mute(self, message: recording.Mute) -> None:
        self.muted = bool(message.mute)
        self._volume_changed()

    def _volume_changed(self) -> None:
        self._events.append(VolumeChanged(channel=self.name, volume=self.volume, muted=self.muted))

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew: START will come if the guest still listens."""
        self.listening = False
        self._queue.clear()
        self.queued_bytes = 0
        return super().restart(framing, server_caps)
