"""The playback channel, client end: sound from the guest, packet by packet."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import ClientChannel, Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.wire import playback

__all__ = ["PlaybackChannel", "SoundPacket", "SoundStarted", "SoundStopped", "VolumeChanged"]


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


class SoundPacket(Event):
    """Samples, packed as ``mode`` says (`aiospice.wire.playback.DataMode`)."""

    channel: str
    mode: int
    #: Multimedia time at which it is to be heard, in ms.
    time: int
    data: bytes


class VolumeChanged(Event):
    """The guest's volume, 0 to 65535 a channel; empty if only ``muted`` changed."""

    channel: str
    volume: tuple[int, ...]
    muted: bool


class PlaybackChannel(ClientChannel):
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
        self.playing = False
        self.volume: tuple[int, ...] = ()
        self.muted = False
        #: Least delay in ms that keeps sound together with video.
        self.latency = 0

    def _on_data(self, message: playback.Data) -> None:
        self._events.append(
            SoundPacket(channel=self.name, mode=self.mode, time=message.time, data=message.data)
        )

    def _on_mode(self, message: playback.Mode) -> None:
        self.mode = message.mode

    def _on_start(self, message: playback.Start) -> None:
        self.playing = True
        self._events.append(
            SoundStarted(
                channel=self.name,
                channels=message.channel_count,
                frequency=message.frequency,
                format=message.format,
            )
        )

    def _on_stop(self, message: playback.Stop) -> None:
        self.playing = False
        self._events.append(SoundStopped(channel=self.name))

    def _on_volume(self, message: playback.Volume) -> None:
        self.volume = message.volume
        self._volume_changed()

    def _on_mute(self, message: playback.Mute) -> None:
        self.muted = bool(message.mute)
        self._volume_changed()

    def _volume_changed(self) -> None:
        self._events.append(VolumeChanged(channel=self.name, volume=self.volume, muted=self.muted))

    def _on_latency(self, message: playback.Latency) -> None:
        self.latency = message.latency_ms
