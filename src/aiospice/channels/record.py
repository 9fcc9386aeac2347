"""The record channel, client end: sound to the guest, packet by packet."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.sound import SoundChannel
from aiospice.errors import StateError
from aiospice.wire import playback, recording
from aiospice.wire.playback import DataMode

__all__ = ["RecordChannel"]


class RecordChannel(SoundChannel):
    """Record: `write` samples while the guest listens."""

    handlers: ClassVar[dict[int, str]] = {
        recording.Start.number: "_on_start",
        recording.Stop.number: "_on_stop",
        recording.Volume.number: "_on_volume",
        recording.Mute.number: "_on_mute",
    }

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        self._marked = False

    def write(self, data: bytes, time: int, mode: int = DataMode.RAW) -> None:
        """Send samples taken at ``time`` (multimedia clock, ms); `StateError` if nobody listens."""
        if not self.running:
            raise StateError(f"{self.name}: the guest isn't recording")
        if not self._marked:
            self._marked = True
            self.send(recording.Mode(time=time, mode=mode, data=b""))
            self.send(recording.StartMark(time=time))
        self.send(recording.Data(time=time, data=data))

    def _on_start(self, message: playback.Start | recording.Start) -> None:
        self._marked = False
        super()._on_start(message)

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew: samples for the old server are of no use."""
        self._queue.clear()
        self.queued_bytes = 0
        return super().restart(framing, server_caps)
