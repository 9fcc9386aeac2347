"""A server that plays a `Recording` to any client, as fast as the client takes it.

It has one session with a main, a display and a cursor channel and asks for no password. The
display's messages are the recorded bytes; SET_ACK goes before them with the window that the real
server had, and as there at most two windows are under way. A PING behind the last message tells
when the client has come to the end::

    async with ReplayServer(recording) as server:
        ...  # start a client for 127.0.0.1, port server.port
        await server.ready()
        await server.play()
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Self

from aiospice.aio.crypto import Crypto
from aiospice.channels.framing import Framing
from aiospice.errors import SessionLost, SpiceTimeout
from aiospice.link.server import LinkServer, ServerLinkPhase
from aiospice.proof.recording import message_starts
from aiospice.wire import common, display, main
from aiospice.wire.caps import bits
from aiospice.wire.header import MINI, pack_header

if TYPE_CHECKING:
    from aiospice.proof.recording import Recording
    from aiospice.wire.message import Message

__all__ = ["ReplayServer"]

#: Bytes that are given to the kernel at once, at most (one message may be more).
_PIECE = 1 << 16
_SESSION = 0x5EED
#: Ids of PINGs that follow the recording begin here.
_PING = 0x1000


class _Channel:
    """One open channel, server end."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: LinkServer
    ) -> None:
        assert link.request is not None
        self.key = (link.request.channel_type, link.request.channel_id)
        #: Numbers of the messages that the client has sent.
        self.seen: dict[int, int] = {}
        self.acks = 0
        self.pongs: set[int] = set()
        self.closed = False
        self.sent = 0
        self._mini = link.mini_header
        self._framing = Framing(self.key[0], self._mini, link.trailing)
        self._reader = reader
        self.writer = writer
        self._news = asyncio.Condition()

    async def read(self, server: ReplayServer) -> None:
        """Take what the client says until it goes."""
        while True:
            while (frame := self._framing.next()) is not None:
                number, _, _, body = frame
                self.seen[number] = self.seen.get(number, 0) + 1
                if number == common.Ack.number:
                    self.acks += 1
                elif number == common.Pong.number:
                    self.pongs.add(common.Pong.parse(body).id)
                server._on_message(self, number)
            async with self._news:
                self._news.notify_all()
            data = await self._reader.read(65536)
            if not data:
                return
            self._framing.feed(data)

    async def wait(self) -> None:
        """Wait until the client has said something more; `SessionLost` if it has gone."""
        if self.closed:
            raise SessionLost("the client has closed the channel that it is played to")
        async with self._news:
            await self._news.wait()

    async def end(self) -> None:
        """The client has gone."""
        self.closed = True
        async with self._news:
            self._news.notify_all()
        self.writer.close()

    def send(self, message: Message) -> None:
        """Send one message."""
        body = message.body()
        self.sent += 1
        self.writer.write(pack_header(self._mini, self.sent, message.number, len(body)) + body)

    async def send_recorded(self, data: bytes, start: int, end: int, count: int) -> None:
        """Send ``count`` messages that lie behind one another with mini headers."""
        if self._mini:
            self.writer.write(data[start:end])
            self.sent += count
        else:
            self.writer.write(self._long(data, start, end))
        await self.writer.drain()

    def _long(self, data: bytes, start: int, end: int) -> bytes:
        """The same messages with long headers."""
        parts = []
        while start < end:
            number, size = MINI.unpack_from(data, start)
            self.sent += 1
            body = start + MINI.size
            parts += [pack_header(False, self.sent, number, size), data[body : body + size]]
            start = body + size
        return b"".join(parts)


class ReplayServer:
    """See the module's text. One client at a time; ``window`` overrides the recorded one."""

    def __init__(
        self, recording: Recording, *, window: int | None = None, paced: bool = False
    ) -> None:
        self.recording = recording
        self.window = recording.window if window is None else window
        #: Send what came together at the time it came, instead of as fast as it is taken.
        self.paced = paced
        self.port = 0
        #: Open channels by type and id.
        self.channels: dict[tuple[int, int], _Channel] = {}
        self._crypto = Crypto()
        self._key = self._crypto.make_ticket_key()
        self._news = asyncio.Condition()
        self._opened = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._pings = _PING

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self, timeout: float = 20.0) -> None:
        """Wait until a client has opened the display; `SpiceTimeout` if none does."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: self._opened)
        except TimeoutError:
            raise SpiceTimeout(f"no client opened the display within {timeout:g} s") from None

    async def play(self, timeout: float = 120.0) -> None:
        """Play everything, and wait until the client has answered the PING behind it.

        Raises `SessionLost` when the client goes before that, `SpiceTimeout`.
        """
        channel = self.channels[2, 0]
        try:
            async with asyncio.timeout(timeout):
                await self._play(channel)
        except TimeoutError:
            raise SpiceTimeout(f"the client isn't at the end after {timeout:g} s") from None
        except (ConnectionError, BrokenPipeError):
            raise SessionLost("the client has closed the channel that it is played to") from None

    async def _play(self, channel: _Channel) -> None:
        data, starts, window = self.recording.display, self.recording.starts, self.window
        first_ack, at, last = channel.acks, 0, len(starts) - 1
        if window:
            channel.send(common.SetAck(generation=1, window=window))
        for seconds, size in self._pieces():
            await asyncio.sleep(seconds)
            while at < last and starts[at] < size:
                room = last - at
                if window and (room := (channel.acks - first_ack + 2) * window - at) <= 0:
                    await channel.wait()
                    continue
                fits = bisect_right(starts, min(size, starts[at] + _PIECE)) - 1
                end = max(min(at + room, last, fits), at + 1)
                await channel.send_recorded(data, starts[at], starts[end], end - at)
                at = end
        self._pings += 1
        channel.send(common.Ping(id=self._pings, timestamp=_now(), data=b""))
        while self._pings not in channel.pongs:
            await channel.wait()

    def _pieces(self) -> list[tuple[float, int]]:
        """How long to wait, and up to which byte to play then."""
        if not self.paced:
            return [(0.0, len(self.recording.display))]
        pieces, before = [], 0.0
        for when, size in self.recording.times:
            pieces.append((when - before, size))
            before = when
        return pieces

    # -- what the client does ----------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the client has gone; or `__aexit__`
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = LinkServer(crypto=self._crypto)
        while not link.finished:
            data = await reader.read(65536)
            if data:
                link.receive(data)
            else:
                link.receive_eof()
            if link.phase is ServerLinkPhase.REQUESTED and link.request is not None:
                shown = link.request.channel_type == 2
                caps = bits(self.recording.caps) if shown else ()
                link.accept(channel_caps=caps, ticket_key=self._key)
            writer.write(link.take())
        if link.phase is not ServerLinkPhase.DONE:
            return
        channel = _Channel(reader, writer, link)
        self.channels[channel.key] = channel
        try:
            await self._begin(channel)
            await channel.read(self)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await channel.end()

    async def _begin(self, channel: _Channel) -> None:
        if channel.key[0] == 1:
            channel.send(
                main.Init(
                    session_id=_SESSION,
                    display_channels_hint=1,
                    supported_mouse_modes=main.MouseModes.SERVER,
                    current_mouse_mode=main.MouseModes.SERVER,
                    agent_connected=0,
                    agent_tokens=10,
                    multi_media_time=0,
                    ram_hint=16 << 20,
                )
            )
            # ryll 0.3 goes on when it has been asked something, as every real server does.
            channel.send(common.Ping(id=1, timestamp=_now(), data=b""))
        elif channel.key[0] == 4 and self.recording.cursor:
            data = self.recording.cursor
            await channel.send_recorded(data, 0, len(data), len(message_starts(data)) - 1)

    def _on_message(self, channel: _Channel, number: int) -> None:
        if channel.key[0] == 1 and number == main.AttachChannels.number:
            offered = [main.ChannelId(type=2, id=0)]
            if self.recording.cursor:
                offered.append(main.ChannelId(type=4, id=0))
            channel.send(main.ChannelsList(available=tuple(offered)))
        elif channel.key == (2, 0) and number == display.Init.number and not self._opened:
            self._opened = True
            task = asyncio.get_running_loop().create_task(self._tell())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


def _now() -> int:
    """Microseconds."""
    return time.monotonic_ns() // 1000
