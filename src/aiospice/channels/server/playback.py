"""The playback channel, server end: sound from the guest.

A client that doesn't read loses sound, oldest first: late sound is of no use.
"""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel
from aiospice.wire import caps, playback
from aiospice.wire.caps import PlaybackCap
from aiospice.wire.playback import DataMode

__all__ = ["PlaybackServer", "SoundFormat"]

#: Milliseconds of sound that may wait for a client.
WAITING_MS = 500

#: Samples a second, and channels.
SoundFormat = tuple[int, int]


class PlaybackServer(ServerChannel):
    """Playback: START, packets of sound, STOP."""

    handlers: ClassVar[dict[int, str]] = {}
    limit: ClassVar[int] = 4 << 10

    def __init__(self, key: Key, framing: Framing, client_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, client_caps)
        self.running: SoundFormat | None = None
        self.mode: int | None = None
        #: Packets left out because the client didn't read.
        self.dropped = 0

    @property
    def takes_opus(self) -> bool:
        """Whether the client can be sent Opus."""
        return caps.has(self.client_caps, PlaybackCap.OPUS)

    def start(self, sound: SoundFormat, mode: int, time: int) -> None:
        """The guest begins to play; ``mode`` is `DataMode` RAW or OPUS, ``time`` in ms."""
        if self.mode != mode:
            self.mode = mode
            self.send(playback.Mode(time=time, mode=mode, data=b""))
        self.running = sound
        self.send(
            playback.Start(
                channel_count=sound[1],
                format=playback.Format.S16,
                frequency=sound[0],
                time=time,
            )
        )

    def stop(self) -> None:
        """The guest has stopped."""
        if self.running is not None:
            self.running = None
            self.send(playback.Stop())

    def packet(self, data: bytes, time: int) -> None:
        """Send a packet in the mode that was told; ``time`` is when to hear it (ms)."""
        if self.running is None:
            return
        limit = self.running[0] * self.running[1] * 2 * WAITING_MS // 1000
        if self.mode == DataMode.OPUS:
            limit //= 8
        while self.queued_bytes + len(data) > limit and self._drop_oldest():
            self.dropped += 1
        self.send(playback.Data(time=time & 0xFFFFFFFF, data=data))

    def _drop_oldest(self) -> bool:
        for index, (number, body) in enumerate(self._queue):
            if number == playback.Data.number:
                del self._queue[index]
                self.queued_bytes -= len(body)
                return True
        return False

    def volume(self, volume: tuple[int, ...], muted: bool) -> None:
        """The guest's volume, 0 to 65535 a channel."""
        if caps.has(self.client_caps, PlaybackCap.VOLUME):
            self.send(playback.Volume(volume=volume))
            self.send(playback.Mute(mute=int(muted)))

    def latency(self, milliseconds: int) -> None:
        """The least delay that keeps sound together with video."""
        if caps.has(self.client_caps, PlaybackCap.LATENCY):
            self.send(playback.Latency(latency_ms=milliseconds))
