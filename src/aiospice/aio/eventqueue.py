"""Events on their way to a reader who may be slow, or not there yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from aiospice.channels.events import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["EVENT_LIMIT", "EventQueue", "EventsMissed"]

#: Events kept for a reader that doesn't come; then the oldest go.
EVENT_LIMIT = 10_000


class EventsMissed(Event):
    """The reader of the events was too slow: so many were dropped."""

    count: int


class EventQueue:
    """Events for one reader."""

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self.limit = limit
        self.queue: deque[Event] = deque()
        self.missed = 0
        self.waiter: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Add an event; the oldest one goes if there are too many."""
        if len(self.queue) >= self.limit:
            self.queue.popleft()
            self.missed += 1
        self.queue.append(event)
        self.wake()

    def wake(self) -> None:
        """Have the reader look."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def read(self, ended: Callable[[], bool]) -> AsyncIterator[Event]:
        """The events, until there are none left and ``ended`` is true."""
        while True:
            if self.missed:
                missed, self.missed = self.missed, 0
                yield EventsMissed(count=missed)
            while self.queue:
                yield self.queue.popleft()
            if ended():
                return
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
            self.waiter = None
