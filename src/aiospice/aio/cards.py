"""The smartcard channel of a session: card messages, read one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from aiospice.channels.smartcard import CardMessageReceived, SmartcardChannel
from aiospice.errors import AiospiceError, StateError

if TYPE_CHECKING:
    from aiospice.aio.shell import Shell

__all__ = ["Cards"]

#: Bytes for the guest that wait while `Cards.write` returns at once.
WRITE_LIMIT = 64 << 10


class Cards:
    """Card messages between readers here and the guest; made by ``Session.cards``.

    Who reads slowly slows the guest down, if the server has tokens; otherwise messages pile up.
    """

    def __init__(self, shell: Shell, key: tuple[int, int]) -> None:
        self._shell = shell
        self.key = key
        self._queue: deque[CardMessageReceived] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self._ended = False
        self._error: AiospiceError | None = None

    def _channel(self) -> SmartcardChannel | None:
        channel = self._shell.core.channels.get(self.key)
        return channel if isinstance(channel, SmartcardChannel) else None

    async def read(self) -> CardMessageReceived:
        """The next message of the guest; raises what ended the channel or the session."""
        while not self._queue:
            if self._ended:
                raise self._error or StateError("the smartcard channel is closed")
            await self._wait()
        message = self._queue.popleft()
        channel = self._channel()
        if channel is not None:
            channel.consumed(1)
            self._shell.turn()
        return message

    async def write(self, type: int, reader_id: int, data: bytes = b"") -> None:
        """Send a message (`aiospice.wire.smartcard.CardMessage`); waits while many do already."""
        while True:
            channel = self._channel()
            if channel is None or self._ended:
                raise self._error or StateError("the smartcard channel is closed")
            if channel.queued_bytes <= WRITE_LIMIT:
                break
            await self._wait()
        channel.send_card(type, reader_id, data)
        self._shell.turn()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    # -- for the session ---------------------------------------------------------------------------

    def feed(self, message: CardMessageReceived) -> None:
        """A message has come."""
        self._queue.append(message)
        self.look()

    def look(self) -> None:
        """Something has come or left."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def end(self, error: AiospiceError | None) -> None:
        """The channel or the session is gone."""
        self._ended = True
        self._error = self._error or error
        self.look()
