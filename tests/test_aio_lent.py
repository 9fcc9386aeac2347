"""Bytes that a transport lends to its handler: whatever a read brings, none is lost or repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.test_aio_transport import BIG, Recorder, Servers

from aiospice.aio.transport import open_transport


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
