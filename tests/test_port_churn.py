"""Clients come, don't read, and go, while the guest writes to a port: no byte is lost or doubled.

The guest writes numbers without an end. What a client was handed is its own; the next one goes on
exactly there. spice-server 0.15.1 crashes when a client goes like that.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.serve_rig import eventually, port_of

import aiospice
from aiospice.aio.crypto import Crypto
from aiospice.link.client import LinkClient, LinkPhase
from aiospice.server.guest import Guest, Host, HostDevice
from aiospice.wire.header import FULL, MINI

if TYPE_CHECKING:
    from aiospice.aio.serve import Server
    from aiospice.devices.chardev import CharDevice

NAME = "org.aiospice.numbers"
MAIN, PORT = (1, 0), (10, 0)
_INIT, _DATA = 103, 101
#: The most that the kernel keeps of a connection (``net.ipv4.tcp_wmem`` and ``tcp_rmem``).
SOCKETS = 16 << 20
#: Numbers a write.
_CHUNK = 3000


class Numbers(Guest):
    """Writes 0, 1, 2, ... of four bytes each to a port, as fast as they are taken."""

    name = "numbers"

    def __init__(self) -> None:
        self.position = 0

    def attach(self, host: Host) -> None:
        self.port = host.port(NAME)
        self.port.opened = True
        self.device_writable(self.port)

    def device_writable(self, device: HostDevice) -> None:
        while True:
            data = stream(self.position, 4 * _CHUNK)
            taken = device.write(data)
            self.position += taken
            if taken < len(data):
                break


def stream(start: int, size: int) -> bytes:
    """A part of what the guest writes."""
    first, last = start // 4, (start + size) // 4 + 1
    return np.arange(first, last, dtype=">u4").tobytes()[start % 4 :][:size]


def place(data: bytes) -> int:
    """Where in the guest's stream these bytes are; AssertionError if they are no piece of it."""
    for odd in range(4):
        part = data[odd : odd + 8]
        first, second = struct.unpack(">2I", part)
        start: int = 4 * first - odd
        if second == first + 1 and start >= 0 and data == stream(start, len(data)):
            return start
    raise AssertionError(f"{len(data)} bytes, from {data[:16].hex()} on, have a gap")


class Channel:
    """One channel on a socket with small buffers, which is read only when it is asked to be."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got = bytearray()
        self.mini = True

    @classmethod
    async def open(cls, port: int, key: tuple[int, int], session: int = 0) -> Channel:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        link = LinkClient(
            connection_id=session, channel_type=key[0], channel_id=key[1], crypto=Crypto()
        )
        link.start()
        while not link.finished:
            await loop.sock_sendall(sock, link.take())
            if not link.finished:
                data = await loop.sock_recv(sock, 4096)
                assert data, f"the server closed {key}"
                link.receive(data)
        assert link.phase is LinkPhase.DONE, link.error
        channel = cls(sock)
        channel.mini = link.mini_header
        channel.got += link.trailing
        return channel

    async def read(self, limit: int = 1 << 30) -> bool:
        """Read so many bytes more, or until the end; False at the end."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while limit > 0 and (data := await loop.sock_recv(self.sock, min(limit, 65536))):
                self.got += data
                limit -= len(data)
        return limit <= 0

    def messages(self) -> list[tuple[int, bytes]]:
        """The whole messages that have come."""
        found, at = [], 0
        head = MINI if self.mini else FULL
        while at + head.size <= len(self.got):
            fields = head.unpack_from(self.got, at)
            number, size = fields if self.mini else fields[1:3]
            end = at + head.size + size
            if end > len(self.got):
                break
            found.append((number, bytes(self.got[end - size : end])))
            at = end
        return found

    def data(self) -> bytes:
        """The guest's bytes in them."""
        return b"".join(body for number, body in self.messages() if number == _DATA)

    def close(self) -> None:
        self.sock.close()


class Visitor:
    """A client with a main channel and the port."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def come(self) -> Visitor:
        self.main = await Channel.open(self.port, MAIN)
        while not (found := [body for number, body in self.main.messages() if number == _INIT]):
            assert await self.main.read(1)
        self.session = int.from_bytes(found[0][:4], "little")
        await self.open()
        return self

    async def open(self) -> None:
        """Open the port, maybe again."""
        self.numbers = await Channel.open(self.port, PORT, self.session)

    def leave(self) -> None:
        self.numbers.close()
        self.main.close()


class Churn:
    """Visitors, one after another, and what each of them got of the guest's stream."""

    def __init__(self, server: Server, guest: Numbers) -> None:
        self.server = server
        self.guest = guest
        self.visits = 0
        self.received = 0
        #: Bytes that visitors who left were handed and hadn't read.
        self.unread = 0
        #: Where the stream must go on with the next visitor.
        self.next = 0
        #: The channel whose part of the stream hasn't been looked at.
        self.last: Channel | None = None

    @property
    def device(self) -> CharDevice:
        """The port."""
        return self.server._shell.core.port(NAME).core

    async def arrive(self) -> Visitor:
        """Somebody comes; who is there already is taken over, and reads all that it was handed."""
        visitor = await Visitor(port_of(self.server)).come()
        if self.last is not None:
            await self.last.read()
            self.settle(await self.end_of(self.last))
        self.begin(visitor)
        return visitor

    def begin(self, visitor: Visitor) -> None:
        self.visits += 1
        self.last = visitor.numbers

    async def full(self) -> None:
        """Nobody reads, so the guest has to stop."""
        await eventually(lambda: self.device.clients and not self.device.guest_may_write)

    async def end_of(self, channel: Channel) -> int:
        """Where the part ends that a channel got; it is a piece of the stream, in its place."""
        data = channel.data()
        self.received += len(data)
        if len(data) >= 8:
            start = place(data)
            assert start == self.next, f"visit {self.visits}: {start - self.next} bytes off"
        return self.next + len(data)

    def settle(self, handed: int) -> None:
        """The last visitor was handed the stream up to there."""
        self.last = None
        self.next = handed

    async def gone(self) -> None:
        """The last visitor has gone: the rest of the stream is the server's to keep."""
        assert self.last is not None
        await eventually(lambda: not self.device.clients)
        end = await self.end_of(self.last)
        handed = self.guest.position - sum(map(len, self.device.backlog))
        assert handed >= end, f"visit {self.visits}: {end - handed} bytes would come twice"
        assert handed <= end + SOCKETS, f"visit {self.visits}: {handed - end} bytes are gone"
        self.unread += handed - end
        self.settle(handed)


async def taken_over(churn: Churn) -> None:
    """It reads nothing until another client takes over, who takes its time, too."""
    await churn.arrive()
    await churn.full()


async def leaves_unread(churn: Churn) -> None:
    """It leaves without having read a byte."""
    visitor = await churn.arrive()
    await churn.full()
    visitor.leave()
    await churn.gone()


async def leaves_midway(churn: Churn) -> None:
    """It reads for a while, and leaves in the middle of a message, while the guest writes."""
    visitor = await churn.arrive()
    await visitor.numbers.read(random.Random(churn.visits).randrange(1, 100_000))
    visitor.leave()
    await churn.gone()


async def reopens(churn: Churn) -> None:
    """It closes the port only, and opens it again."""
    visitor = await churn.arrive()
    await visitor.numbers.read(5000)
    visitor.numbers.close()
    await churn.gone()
    await visitor.open()
    churn.begin(visitor)
    await visitor.numbers.read(20_000)


async def main_first(churn: Churn) -> None:
    """Its main channel breaks, the port's socket stays."""
    visitor = await churn.arrive()
    await churn.full()
    visitor.main.close()
    await eventually(lambda: not churn.device.clients)
    await visitor.numbers.read()
    await churn.gone()
    visitor.leave()


WAYS = (taken_over, leaves_unread, leaves_midway, reopens, main_first)


async def run(times: int) -> Churn:
    """Have clients come and go."""
    guest = Numbers()
    async with asyncio.timeout(60 + times), aiospice.serve(guest, port=0) as server:
        churn = Churn(server, guest)
        while churn.visits < times:
            for way in WAYS:
                await way(churn)
        visitor = await churn.arrive()
        await visitor.numbers.read(200_000)
        visitor.leave()
        await churn.gone()
        assert not server.closed
        assert not server._shell.core.sessions
    return churn


async def test_clients_that_go_without_reading_leave_the_stream_whole() -> None:
    churn = await run(100)
    assert churn.received > 10 << 20


@pytest.mark.soak
async def test_a_thousand_clients_that_go_without_reading() -> None:
    churn = await run(1000)
    print(f"\n{churn.visits} visits: {churn.received} bytes read, {churn.unread} left unread")
