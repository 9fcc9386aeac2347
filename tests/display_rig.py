"""A display and its clients in memory: our own client's channel and screen read what is sent.

::

    rig = DisplayRig(64, 48)
    anna = rig.client()
    rig.display.fill(0, 0, 10, 10, 0xFF0000)
    rig.publish()
    rig.settle()
    rig.check()

A client may be deaf (nothing of what the kernel has for it is read), and its kernel takes at most
``pipe`` bytes meanwhile. Jobs are kept until `settle` or `work`, which runs them in any order.
"""

from __future__ import annotations

import pickle
import random
from typing import Any

from aiospice.aio.video import Decoder
from aiospice.aio.videoencode import Encoders
from aiospice.channels.display import DisplayBatch, DisplayChannel, DisplayMessage
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.display import DisplayReady, DisplayReported, DisplayServer
from aiospice.client.caches import Caches
from aiospice.client.screen import NotDrawn, Screen
from aiospice.codecs.video import VideoFrame
from aiospice.errors import AiospiceError
from aiospice.server.config import ServerConfig
from aiospice.server.encode import VideoJob
from aiospice.server.frames import Display
from aiospice.server.held import Held
from aiospice.wire import caps
from aiospice.wire.caps import DisplayCap
from aiospice.wire.message import SERVER
from aiospice.wire.registry import message_name

__all__ = ["ALL_CAPS", "DisplayRig", "RigClient"]

ALL_CAPS = caps.pack(
    (
        *(DisplayCap.SIZED_STREAM, DisplayCap.MONITORS_CONFIG, DisplayCap.COMPOSITE),
        *(DisplayCap.STREAM_REPORT, DisplayCap.LZ4_COMPRESSION, DisplayCap.PREF_COMPRESSION),
        *(DisplayCap.MULTI_CODEC, DisplayCap.CODEC_MJPEG, DisplayCap.CODEC_VP8),
        DisplayCap.PREF_VIDEO_CODEC_TYPE,
    )
)
_SERVER_CAPS = caps.pack((DisplayCap.PREF_COMPRESSION, DisplayCap.PREF_VIDEO_CODEC_TYPE))


class RigClient:
    """One client: the server's end, the pipe between, and our client's end."""

    def __init__(
        self, rig: DisplayRig, config: ServerConfig, *, compression: int = 0, number: int = 0,
        client_caps: tuple[int, ...] = ALL_CAPS, pipe: int = 1 << 18,
        video_codecs: tuple[int, ...] = (), **more: Any,
    ) -> None:  # fmt: skip
        key = (2, rig.display.id)
        self.channel = DisplayServer(key, Framing(2, True), client_caps)
        self.end = DisplayChannel(key, Framing(2, True), _SERVER_CAPS)
        self.end.compression = compression
        self.end.video_codecs = video_codecs
        self.screen = Screen(rig.display.id, Caches())
        self.screen.video_codecs = (1, 2)
        self.held = Held(rig.display, self.channel, config, **more)
        self.pipe = pipe
        self.in_pipe = bytearray()
        self.deaf = False
        #: Names of the messages that were taken, and bytes of them.
        self.sent: list[str] = []
        self.bytes = 0
        self.begun = False
        self.decoders: dict[tuple[int, int, int], Decoder] = {}
        self.jobs: list[tuple[int, Any]] = []
        self.most_waiting = 0

    def names(self, *but: str) -> list[str]:
        """What was sent since the last call, without what every session has."""
        left_out = {"SetAck", "Ping", *but}
        names, self.sent = [name for name in self.sent if name not in left_out], []
        return names


class DisplayRig:
    """See the module's text."""

    def __init__(self, width: int, height: int, seed: int = 0, **config: Any) -> None:
        self.display = Display(0, width, height)
        self.config = ServerConfig(**config)
        self.clients: list[RigClient] = []
        self.now = 100.0
        self.chance = random.Random(seed)
        #: Pickle everything now and then.
        self.freezes = False
        self.encoders = Encoders()

    def client(self, config: ServerConfig | None = None, **how: Any) -> RigClient:
        """One more client."""
        client = RigClient(self, config or self.config, **how)
        self.clients.append(client)
        client.end.start()
        self.step(client)
        return client

    def leave(self, client: RigClient) -> None:
        """A client goes."""
        client.held.close()
        self.clients.remove(client)

    def publish(self) -> None:
        """The guest's turn is over."""
        self.display.publish(self.now)
        for client in self.clients:
            self.step(client)

    def freeze(self) -> None:
        """Carry on with a copy of the server's state."""
        state = [(client.channel, client.held, client.jobs) for client in self.clients]
        self.display, state = pickle.loads(pickle.dumps((self.display, state)))
        for client, (channel, held, jobs) in zip(self.clients, state, strict=True):
            client.channel, client.held, client.jobs = channel, held, jobs

    # -- between the two ends --------------------------------------------------------------------

    def step(self, client: RigClient) -> None:
        """Bytes travel both ways as far as they can."""
        if self.freezes and self.chance.random() < 0.1:
            self.freeze()
        for _ in range(100_000):
            client.held.pump(self.now)
            self._collect()
            moved = self._down(client)
            moved = self._up(client) or moved
            if not moved:
                return
        raise AssertionError("no end")

    def _collect(self) -> None:
        for client in self.clients:
            client.jobs += client.held.jobs()

    def _down(self, client: RigClient) -> bool:
        moved = False
        channel = client.channel
        client.most_waiting = max(client.most_waiting, channel.queued_bytes)
        while channel.wants_to_send and len(client.in_pipe) < client.pipe:
            data = channel.take()
            self._note(client, data)
            client.in_pipe += data
            moved = True
        if client.deaf or not client.in_pipe:
            return moved
        data, client.in_pipe = bytes(client.in_pipe), bytearray()
        for event in client.end.receive(data, self.now):
            self._apply(client, event)
        if client.end.error is not None:
            raise client.end.error
        return True

    def _note(self, client: RigClient, data: bytes) -> None:
        at = 0
        client.bytes += len(data)
        while at < len(data):
            number = int.from_bytes(data[at : at + 2], "little")
            at += 6 + int.from_bytes(data[at + 2 : at + 6], "little")
            client.sent.append(message_name(2, SERVER, number))

    def _apply(self, client: RigClient, event: Event) -> None:
        screen = client.screen
        screen.tick(self.now, int(self.now * 1000) & 0xFFFFFFFF)
        happened: list[Event] = []
        if isinstance(event, DisplayMessage):
            happened = screen.apply(event.message)
        elif isinstance(event, DisplayBatch):
            happened = screen.apply_batch(event.data, event.begin, event.end, event.count)
        while jobs := screen.take_jobs():
            for number, job in jobs:
                happened += screen.computed(number, self._decoded(client, job))
        for one in happened:
            assert not isinstance(one, NotDrawn), one
        for report in screen.take_reports():
            client.end.send(report)

    def _decoded(self, client: RigClient, job: Any) -> Any:
        if isinstance(job, VideoFrame):
            decoder = client.decoders.setdefault(job.key, Decoder(job.codec))
            return decoder.decode(job)
        return job.run()

    def _up(self, client: RigClient) -> bool:
        data = b""
        while more := client.end.take():
            data += more
        if not data:
            return False
        for event in client.channel.receive(data, self.now):
            if isinstance(event, (DisplayReady, DisplayReported)):
                client.begun = True
            client.held.handle(event, self.now)
        if client.channel.error is not None:
            raise client.channel.error
        assert client.channel.phase is ServerPhase.OPEN
        return True

    # -- time and work ---------------------------------------------------------------------------

    def work(self, count: int = 1 << 30) -> int:
        """Run jobs, in any order; tells how many."""
        done = 0
        while done < count:
            waiting = [client for client in self.clients if client.jobs]
            if not waiting:
                return done
            client = self.chance.choice(waiting)
            id, job = client.jobs.pop(self.chance.randrange(len(client.jobs)))
            result = self.encoders.run(job) if isinstance(job, VideoJob) else job.run()
            assert not isinstance(result, AiospiceError)
            client.held.computed(id, result, self.now)
            done += 1
            for other in self.clients:
                self.step(other)
        return done

    def pass_time(self, seconds: float) -> None:
        """Let time pass, waking whoever wants that."""
        end = self.now + seconds
        for _ in range(10_000):
            times = [client.held.next_wake() for client in self.clients]
            due = min((time for time in times if time is not None), default=end)
            if due >= end:
                break
            self.now = max(self.now, due)
            for client in self.clients:
                time = client.held.next_wake()
                if time is not None and time <= self.now:
                    client.held.wake(self.now)
                self.step(client)
            self.work()
        self.now = end

    def settle(self, seconds: float = 0.0) -> None:
        """Everybody reads everything, all work is done, and so much time passes."""
        for client in self.clients:
            client.deaf = False
        while True:
            for client in self.clients:
                self.step(client)
            if not self.work():
                break
        self.pass_time(max(seconds, 0.001))

    def check(self) -> None:
        """Every client shows what the guest has drawn."""
        import numpy as np

        want = self.display.array[:, :, :3]
        for client in self.clients:
            picture = client.screen.snapshot()
            got = np.frombuffer(picture.bgrx, np.uint8)
            got = got.reshape(picture.height, picture.width, 4)[:, :, :3]
            assert got.shape == want.shape
            assert np.array_equal(got, want), np.argwhere((got != want).any(axis=2))[:5]
