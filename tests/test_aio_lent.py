"""Bytes that a transport lends to its handler: whatever a read brings, none is lost or repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.test_aio_transport import BIG, Recorder, Servers

from aiospice.aio.transport import LENT_MOST, Transport, open_transport


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    async with made.stack:
        yield made


class Borrower(Recorder):
    """A handler that takes what it is lent but for some last bytes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.largest = 0

    def lent(self, view: memoryview) -> int:
        self.largest = max(self.largest, len(view))
        left = min(len(view) % 1000, self.most)
        if left < len(view):
            self.received(bytes(view[: len(view) - left]))
        return left


async def test_what_is_left_of_what_was_lent_comes_again(servers: Servers) -> None:
    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for size in (1, 999, 15_384, 50_000, 3_000_000, 616):
            writer.write(BIG[:size])
            await writer.drain()
            await asyncio.sleep(0.01)
        await reader.read()

    borrower = Borrower(999)
    transport = await open_transport(await servers.start(sends), borrower, timeout=10)
    sent = b"".join(BIG[:size] for size in (1, 999, 15_384, 50_000, 3_000_000, 616))
    await borrower.until(lambda: len(borrower.data) == len(sent))
    assert borrower.data == sent
    assert 16 * 1024 <= borrower.largest <= 1024 * 1024
    transport.abort()


class Taker(Recorder):
    """A handler that takes what it is lent in pieces of a size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.calls = 0
        self.transport: Transport | None = None

    def lent(self, view: memoryview) -> int:
        self.calls += 1
        left = len(view) % self.size
        if left < len(view):
            self.received(bytes(view[: len(view) - left]))
        self.then()
        return left

    def then(self) -> None:
        """What the handler does besides."""


@pytest.mark.parametrize("size", [262_143, 262_145, 1_000_000, 3_000_000, LENT_MOST - 1])
async def test_a_large_message_comes_in_one_piece(servers: Servers, size: int) -> None:
    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await reader.read()

    sent = BIG[: 16_000_000 // size * size]
    taker = Taker(size)
    transport = await open_transport(await servers.start(sends), taker, timeout=10)
    await taker.until(lambda: len(taker.data) == len(sent))
    assert taker.data == sent
    transport.abort()


async def test_nothing_is_read_behind_the_back_of_a_handler_that_pauses(servers: Servers) -> None:
    class Pauser(Taker):
        def then(self) -> None:
            assert self.transport is not None
            if len(self.data) > 100_000:
                self.transport.pause()

    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BIG)
        await reader.read()

    pauser = Pauser(1)
    transport = await open_transport(await servers.start(sends), pauser, timeout=10)
    pauser.transport = transport
    for _ in range(5):
        calls, before = pauser.calls, len(pauser.data)
        await pauser.until(lambda: len(pauser.data) > max(100_000, before))  # noqa: B023
        calls = pauser.calls
        await asyncio.sleep(0.05)
        assert pauser.calls == calls
        transport.resume()
    transport.abort()


async def test_nothing_is_read_behind_the_back_of_a_handler_that_ends_it(servers: Servers) -> None:
    class Ender(Taker):
        def then(self) -> None:
            assert self.transport is not None
            if len(self.data) > 1_000_000:
                self.transport.abort()

    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BIG)
        await reader.read()

    ender = Ender(1)
    ender.transport = await open_transport(await servers.start(sends), ender, timeout=10)
    assert await ender.finished() is None
    assert len(ender.data) <= 1_000_000 + (1 << 18)


async def test_what_has_come_elsewhere_is_read_at_once_and_in_order(servers: Servers) -> None:
    class Both(Taker):
        """Whose transports are read whenever one of them has brought something."""

        def then(self) -> None:
            for each in transports:
                each.read_now()

    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start in range(0, 4_000_000, 50_000):
            writer.write(BIG[start : start + 50_000])
            await writer.drain()
        await reader.read()

    transports: list[Transport] = []
    takers = [Both(700), Both(1_000_003), Recorder()]
    endpoints = [await servers.start(sends) for _ in takers]
    for endpoint, taker in zip(endpoints, takers, strict=True):
        transports += [await open_transport(endpoint, taker, timeout=10)]
    for taker, size in zip(takers, (4_000_000 // 700 * 700, 3_000_009, 4_000_000), strict=True):
        await taker.until(lambda: len(taker.data) == size)  # noqa: B023
        assert taker.data == BIG[:size]
    for transport in transports:
        transport.abort()


async def test_nothing_is_read_at_once_from_who_is_paused_or_gone(servers: Servers) -> None:
    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100)
        await writer.drain()
        if not ended:
            await reader.read()
        writer.close()

    ended: list[bool] = []
    taker = Taker(1)
    transport = await open_transport(await servers.start(sends), taker, timeout=10)
    transport.pause()
    await asyncio.sleep(0.05)
    transport.read_now()
    assert not taker.data
    transport.resume()
    transport.read_now()
    assert taker.data == b"x" * 100
    transport.read_now()
    transport.abort()
    transport.read_now()
    ended.append(True)
    taker = Taker(1)
    transport = await open_transport(await servers.start(sends), taker, timeout=10)
    await asyncio.sleep(0.05)
    transport.read_now()
    transport.read_now()
    assert await taker.finished() is None
    assert taker.data == b"x" * 100
