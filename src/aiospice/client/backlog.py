"""Messages of a display that can't be carried out yet, in their order.

The first of them waits for its image; all behind it wait for the first. What came as a run of
bytes stays one, but for the few messages whose images are looked at ahead.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from aiospice.client.images import Reading
from aiospice.errors import DecodeError
from aiospice.wire.header import MINI
from aiospice.wire.message import SERVER
from aiospice.wire.registry import find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.wire.message import Message

__all__ = ["AHEAD", "Backlog", "Run", "Waiting"]

#: Messages whose images are looked at ahead.
AHEAD = 16


class Waiting:
    """A message to be carried out, and what has been read for it so far."""

    __slots__ = ("message", "outcome", "reading", "size", "told")

    def __init__(self, message: Message, size: int = 0) -> None:
        self.message = message
        self.reading = Reading()
        #: What the videos made of it, once they were told.
        self.outcome: Any = None
        self.told = False
        #: Bytes that it came in.
        self.size = size


class Run:
    """Messages with mini headers, one behind the other: ``data`` from ``at`` to ``end``."""

    __slots__ = ("at", "count", "data", "end")

    def __init__(self, data: bytes | bytearray | memoryview, count: int, at: int, end: int) -> None:
        self.data = data
        self.count = count
        self.at = at
        self.end = end


def _own(item: Waiting | Run) -> None:
    """What is kept can't be lent."""
    if isinstance(item, Run) and isinstance(item.data, memoryview):
        item.data = bytes(item.data[item.at : item.end])
        item.at, item.end = 0, len(item.data)


class Backlog:
    """See the module's text. ``messages`` and ``size`` (bytes) tell how much waits."""

    def __init__(self) -> None:
        self._items: deque[Waiting | Run] = deque()
        self.messages = 0
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._items)

    def add(self, item: Waiting | Run) -> None:
        """Put something behind all that waits."""
        _own(item)
        self._items.append(item)
        self._count(item, 1)

    def put_back(self, item: Waiting | Run) -> None:
        """Put something before all that waits."""
        _own(item)
        self._items.appendleft(item)
        self._count(item, 1)

    def take(self) -> Waiting | Run:
        """Take what comes first."""
        item = self._items.popleft()
        self._count(item, -1)
        return item

    def _count(self, item: Waiting | Run, sign: int) -> None:
        if isinstance(item, Run):
            self.messages += sign * item.count
            self.size += sign * (item.end - item.at)
        else:
            self.messages += sign
            self.size += sign * item.size

    def ahead(self) -> Iterator[Waiting]:
        """The first `AHEAD` messages, cut from their runs; ends at one that can't be read."""
        found = 0
        while found < AHEAD and found < len(self._items):
            item = self._items[found]
            if isinstance(item, Run):
                if not self._cut(found, item):
                    return
                continue
            yield item
            found += 1

    def _cut(self, place: int, run: Run) -> bool:
        """Put the first message of a run before it; an unknown one is dropped as it always is."""
        self._count(run, -1)
        try:
            number, size = MINI.unpack_from(run.data, run.at)
            begin = run.at + MINI.size
            kind = find(2, SERVER, number)
            message = None if kind is None else kind.parse(bytes(run.data[begin : begin + size]))
        except DecodeError:
            self._count(run, 1)
            return False
        run.at = begin + size
        run.count -= 1
        if run.count:
            self._count(run, 1)
        else:
            del self._items[place]
        if message is not None:
            waiting = Waiting(message, MINI.size + size)
            self._items.insert(place, waiting)
            self._count(waiting, 1)
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._items.clear()
        self.messages = self.size = 0
