"""The playback channel, client end: sound from the guest, packet by packet."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.sound import SoundChannel
from aiospice.wire import playback

__all__ = ["PlaybackChannel", "SoundPacket"]


class SoundPacket(Event):
    """Samples, packed as ``mode`` says (`aiospice.wire.playback.DataMode`)."""

    channel: str
    mode: int
    #: Multimedia time at which it is to be heard, in ms.
    time: int
    data: bytes


class PlaybackChannel(SoundChannel):
    """Playback: packets go on as they come; state survives a hand-over."""

    handlers: ClassVar[dict[int, str]] = {
        playback.Data.number: "_on_data",
        playback.Mode.number: "_on_mode",
        playback.Start.number: "_on_start",
        playback.Stop.number: "_on_stop",
        playback.Volume.number: "_on_volume",
        playback.Mute.number: "_on_mute",
        playback.Latency.number: "_on_latency",
    }

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        self.mode: int = playback.DataMode.RAW
        #: Least delay in ms that keeps sound together with video.
        self.latency = 0

    def _on_data(self, message: playback.Data) -> None:
        self._events.append(
            SoundPacket(channel=self.name, mode=self.mode, time=message.time, data=message.data)
        )

    def _on_mode(self, message: playback.Mode) -> None:
        self.mode = message.mode

    def _on_latency(self, message: playback.Latency) -> None:
        self.latency = message.latency_ms
