"""Messages that wait to leave, cut into pieces of at most 2048 bytes.

A piece never has bytes of two messages, and a message that has begun is always completed:
spice-server counts its bytes even after the agent has gone (``reds_reset_vdp`` in
``server/reds.cpp``) and takes what follows for a part of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import LocalError
from aiospice.wire.agent_stream import HEADER, MAX_AGENT_DATA, MAX_MESSAGE, PROTOCOL

if TYPE_CHECKING:
    from aiospice.wire.agent import AgentMessage

__all__ = ["Outbox", "Piece", "Tag", "restored"]

#: What a message belongs to, for who wants to count, drop or hear of it: empty for none.
Tag = tuple[str | int, ...]


class _Outgoing(NamedTuple):
    tag: Tag
    #: Header and the fields.
    front: bytes
    #: What follows: the content of a clipboard or a file, not copied.
    data: bytes

    @property
    def size(self) -> int:
        return len(self.front) + len(self.data)


class Piece(NamedTuple):
    """What leaves at once."""

    data: bytes
    tag: Tag
    #: Whether it begins, and whether it completes its message.
    first: bool
    last: bool


class Outbox:
    """A queue of messages, taken out piece by piece. Plain data."""

    def __init__(self) -> None:
        self._waiting: deque[_Outgoing] = deque()
        self._sent = 0
        #: Bytes that wait, headers included.
        self.pending = 0

    def push(self, message: AgentMessage, data: bytes = b"", *, tag: Tag = ()) -> None:
        """Add a message, with ``data`` behind its fields; `LocalError` above 1 GiB."""
        body = message.body()
        size = len(body) + len(data)
        if size > MAX_MESSAGE:
            raise LocalError(f"an agent message takes {MAX_MESSAGE} bytes, not {size}")
        front = HEADER.pack(PROTOCOL, message.number, 0, size) + body
        self._waiting.append(_Outgoing(tag, front, data))
        self.pending += len(front) + len(data)

    def pop(self) -> Piece:
        """The next piece; one without bytes if nothing waits."""
        if not self._waiting:
            return Piece(b"", (), first=False, last=False)
        message = self._waiting[0]
        start, end = self._sent, min(self._sent + MAX_AGENT_DATA, message.size)
        front = len(message.front)
        data = message.front[start:end] + message.data[max(start - front, 0) : max(end - front, 0)]
        self.pending -= len(data)
        self._sent = end
        last = end == message.size
        if last:
            self._waiting.popleft()
            self._sent = 0
        return Piece(data, message.tag, first=not start, last=last)

    def drop(self, tag: Tag | None = None) -> None:
        """Forget messages with this tag (all without one), but the rest of one that has begun."""
        kept = [
            message
            for index, message in enumerate(self._waiting)
            if (index == 0 and self._sent) or (tag is not None and message.tag != tag)
        ]
        self._waiting = deque(kept)
        self.pending = sum(message.size for message in kept) - self._sent

    def clear(self) -> None:
        """Forget everything, on a connection that is new."""
        self._waiting.clear()
        self._sent = self.pending = 0

    @property
    def waiting(self) -> int:
        """Messages that wait."""
        return len(self._waiting)

    @property
    def inside(self) -> bool:
        """Whether a message has left in part."""
        return self._sent > 0


def restored(outbox: Outbox, waiting: list[tuple[Tag, bytes, bytes]], sent: int) -> None:
    """Have these messages wait, and no others; ``sent`` bytes of the first have left."""
    outbox._waiting = deque(_Outgoing(*message) for message in waiting)
    first = outbox._waiting[0].size if waiting else 1
    if not 0 <= sent < first:
        raise LocalError(f"{sent} bytes of a message of {first} can't have left")
    outbox._sent = sent
    outbox.pending = sum(message.size for message in outbox._waiting) - sent
