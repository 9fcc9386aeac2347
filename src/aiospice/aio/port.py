"""A character device as a stream of bytes that survives migrations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiospice.channels.vmc import PortChannel, VmcChannel
from aiospice.client.session import SessionPhase
from aiospice.errors import AiospiceError, ConnectError, SessionLost, StateError

if TYPE_CHECKING:
    from aiospice.aio.shell import Shell

__all__ = ["Port"]

#: Bytes from the guest that are kept for a reader; then the connection isn't read. (A server with
#: tokens sends no more than a window, and its connection is read all the time.)
READ_LIMIT = 256 << 10
#: Bytes for the guest that wait for the socket while `Port.write` returns at once.
WRITE_LIMIT = 64 << 10
#: How long an end without a reason is doubted, in seconds: when a server dies, its connections
#: end in order as well, main's perhaps after the others.
DOUBT_SECONDS = 0.5


class Port:
    """One port, usbredir or webdav channel; made by ``Session.port`` and ``Session.device``."""

    def __init__(self, shell: Shell, key: tuple[int, int]) -> None:
        self._shell = shell
        self.key = key
        self._buffer = bytearray()
        self._eof = False
        self._error: AiospiceError | None = None
        self._doubt: asyncio.TimerHandle | None = None
        self._readers: list[asyncio.Future[None]] = []
        self._writers: list[asyncio.Future[None]] = []
        self._lock = asyncio.Lock()
        #: Drop what comes instead of keeping it (nobody reads this device).
        self.discard = False

    def __repr__(self) -> str:
        return f"Port({self.name!r}, {'open' if self.opened else 'closed'})"

    @property
    def _channel(self) -> VmcChannel | None:
        channel = self._shell.core.channels.get(self.key)
        return channel if isinstance(channel, VmcChannel) else None

    @property
    def name(self) -> str:
        """The port's name, empty for devices without one."""
        channel = self._channel
        return (channel.port_name or "") if isinstance(channel, PortChannel) else ""

    @property
    def opened(self) -> bool:
        """Whether the guest has the port open; what is written before waits here."""
        channel = self._channel
        return channel is not None and channel.gate_open

    # -- for the user ------------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to the guest; returns once most of them have gone to the socket.

        Waits while the socket takes no more (the guest doesn't read), the guest has the port
        closed, or the session is moving. What is written by then goes on to the next server.
        Raises what ended the session or the channel.
        """
        view = memoryview(data).cast("B")
        async with self._lock:
            for start in range(0, len(view), WRITE_LIMIT):
                channel = await self._usable()
                channel.write(view[start : start + WRITE_LIMIT])
                self._shell.turn()
                while (await self._usable()).queued_bytes > WRITE_LIMIT // 2:
                    await self._wait(self._writers)

    async def drain(self) -> None:
        """Wait until all that was written has been taken by the kernel."""
        while True:
            channel = await self._usable()
            if not channel.queued_bytes and not self._shell.unsent(
                self._shell.core.at.get(self.key)
            ):
                return
            await self._wait(self._writers)

    async def read(self, limit: int = 65536) -> bytes:
        """At least one byte from the guest, at most ``limit``; b"" if the channel has ended.

        Raises what ended the session, after all that had come was read.
        """
        while not self._buffer:
            if self._eof:
                if self._error is not None:
                    raise self._error
                return b""
            await self._wait(self._readers)
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        self._consumed(len(data))
        if len(self._buffer) < READ_LIMIT // 2 and self.key in self._shell.core.stopped:
            self._shell.core.go_on_reading(self.key)
            self._shell.turn()
        return data

    async def readexactly(self, count: int) -> bytes:
        """``count`` bytes from the guest; `SessionLost` if the channel ends before."""
        parts = bytearray()
        while len(parts) < count:
            data = await self.read(count - len(parts))
            if not data:
                raise SessionLost(
                    f"{self.name or self.key}: the channel ended after {len(parts)} of "
                    f"{count} bytes"
                )
            parts += data
        return bytes(parts)

    async def _usable(self) -> VmcChannel:
        while True:
            channel = self._channel
            if channel is not None and not self._eof:
                return channel
            if self._eof or self._doubt is None:
                raise self._error or StateError(f"{self.name or self.key}: the channel is closed")
            await self._wait(self._writers)

    async def _wait(self, waiters: list[asyncio.Future[None]]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in waiters:
                waiters.remove(waiter)

    # -- for the session ---------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes have come from the guest."""
        if self.discard:
            self._consumed(len(data))
            return
        self._buffer += data
        channel = self._channel
        if len(self._buffer) > READ_LIMIT and (channel is None or channel.flow is None):
            self._shell.core.stop_reading(self.key)
        _wake(self._readers)

    def _consumed(self, count: int) -> None:
        """Give tokens back for bytes that aren't kept any more."""
        channel = self._channel
        if channel is not None and channel.flow is not None:
            channel.consumed(count)
            if channel.flow.due:
                self._shell.turn()

    def drop(self) -> None:
        """Nobody wants the bytes of this device."""
        self.discard = True
        self._consumed(len(self._buffer))
        self._buffer.clear()
        self._shell.core.go_on_reading(self.key)
        self._shell.turn()

    def end(self, error: AiospiceError | None) -> None:
        """The channel or the session is gone; None: without a reason."""
        if error is None and self._shell.core.phase is not SessionPhase.CLOSED:
            if self._doubt is None:
                loop = asyncio.get_running_loop()
                self._doubt = loop.call_later(DOUBT_SECONDS, self._ended, None)
            return
        self._ended(error)

    def _ended(self, error: AiospiceError | None) -> None:
        if self._doubt is not None:
            self._doubt.cancel()
        if not self._eof:
            self._eof = True
            # It could be reached until now, so what broke is the session.
            self._error = SessionLost(str(error)) if isinstance(error, ConnectError) else error
        _wake(self._readers)
        _wake(self._writers)

    def look(self) -> None:
        """Something has left the queue, or the port has changed."""
        if self._writers:
            _wake(self._writers)


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
