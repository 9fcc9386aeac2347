"""TCP relays on loopback: one that holds every byte for a time, one that writes down.

The first is for those who aren't root. It hides the handshake of TCP, which
`aiospice.proof.delay` doesn't: good enough to keep things apart in time, not to count round trips::

    async with DelayRelay(delay=0.001) as relay:
        port = await relay.to("127.0.0.1", 5900)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Self

from aiospice.aio.capture import CaptureFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["CaptureRelay", "DelayRelay"]

#: Bytes that one direction holds; then the sender isn't read.
HELD_BYTES = 1 << 20


class _Line:
    """One direction of a connection: what has been read and isn't due yet."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.delay = delay
        self.passed = 0
        self._held: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        taking = asyncio.create_task(self._take())
        try:
            await self._give()
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = b""
            with contextlib.suppress(OSError):
                data = await self._reader.read(65536)
            self._held.append((loop.time() + self.delay, data))
            self._size += len(data)
            self._news.set()
            if not data:
                return
            while self._size > HELD_BYTES:
                self._room.clear()
                await self._room.wait()

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._held:
                self._news.clear()
                await self._news.wait()
            due, data = self._held.popleft()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not data:
                with contextlib.suppress(OSError, RuntimeError):
                    self._writer.write_eof()
                return
            self._writer.write(data)
            self.passed += len(data)
            await self._writer.drain()
            self._size -= len(data)
            self._room.set()


class DelayRelay:
    """Relays connections with ``delay`` seconds one way; use it with ``async with``."""

    def __init__(self, delay: float = 0.001) -> None:
        self._delay = delay
        self._down: list[_Line] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def passed(self) -> int:
        """Bytes that have gone to clients so far."""
        return sum(line.passed for line in self._down)

    def stall(self) -> None:
        """Clients read no more of the connections that there are: a mebibyte each, then nothing."""
        for line in self._down:
            line.delay = float("inf")

    async def to(self, host: str, port: int, *, at: int = 0) -> int:
        """A port on 127.0.0.1 (``at``, else a free one) that leads to ``host`` and ``port``."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._join(reader, writer, host, port)
            except (OSError, asyncio.CancelledError):
                pass  # a connection that is gone; or `close`
            finally:
                self._tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", at)
        self._servers.append(server)
        made: int = server.sockets[0].getsockname()[1]
        return made

    async def close(self) -> None:
        """Cut everything."""
        for server in self._servers:
            server.close()
        self._servers = []
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        try:
            lines = (
                _Line(reader, far_writer, self._delay),
                _Line(far_reader, writer, self._delay),
            )
            self._down.append(lines[1])
            async with asyncio.TaskGroup() as group:
                for line in lines:
                    group.create_task(line.run())
        except* OSError:
            pass
        finally:
            far_writer.close()


class CaptureRelay:
    """Relays connections and writes them down, for who wants to know what was said to a client.

    async with CaptureRelay(folder / "run.pcapng") as relay:
        port = await relay.to(server_port)
        ...
    connections = read_connections(folder / "run.pcapng")   # of `aiospice.proof.pcap`
    """

    def __init__(self, path: Path) -> None:
        self._file = CaptureFile(path)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._file.close()

    def flush(self) -> None:
        """Write what has been seen so far."""
        self._file.flush()

    async def to(self, port: int, host: str = "127.0.0.1") -> int:
        """A port on 127.0.0.1 that leads to ``host`` and ``port``."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._join(reader, writer, host, port)
            except (OSError, asyncio.CancelledError):
                pass  # a connection that is gone; or the end
            finally:
                self._tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        made: int = server.sockets[0].getsockname()[1]
        return made

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        now = asyncio.get_running_loop().time
        self._count += 1
        number = self._count
        self._file.opened(number, "127.0.0.1", "127.0.0.1", port, now())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass(reader, far_writer, partial(self._file.sent, number)))
                group.create_task(_pass(far_reader, writer, partial(self._file.received, number)))
        except* OSError:
            pass
        finally:
            far_writer.close()
            self._file.closed(number, now())


async def _pass(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    write_down: Callable[[bytes, float], None],
) -> None:
    while data := await reader.read(1 << 18):
        write_down(data, asyncio.get_running_loop().time())
        writer.write(data)
        await writer.drain()
    writer.write_eof()
