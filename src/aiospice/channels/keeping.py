"""Copies of what a client has sent, until the guest has taken it (`aiospice.wire.keep`)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from aiospice.channels.base import ClientChannel
from aiospice.channels.events import Event
from aiospice.errors import RemoteProtocolError
from aiospice.wire.keep import Keeping

if TYPE_CHECKING:
    from aiospice.channels.base import Key
    from aiospice.channels.framing import Framing
    from aiospice.wire.keep import Committed, Keep, Replay

__all__ = ["KEEP_BYTES", "Copies", "CopiesGivenUp", "KeepingChannel"]

#: Bytes of copies that one channel keeps: a window of ours is no more on any device.
KEEP_BYTES = (2 << 20) + (4 << 10)


class CopiesGivenUp(Event):
    """Copies would be more than are kept, so a channel keeps none: it can't send them again."""

    channel: str


class Copies:
    """The messages of one channel that the guest may not have taken, oldest first. Plain data.

    ``window``: messages whose tokens all sides have together. What isn't ours to send is on its
    way, unread, or read and its token not given back: these are the newest messages, so whatever
    is older than that many has been taken.
    """

    def __init__(self, window: int, limit: int = KEEP_BYTES) -> None:
        self.window = window
        self.limit = limit
        #: Messages that were kept once, and aren't any more.
        self.taken = 0
        self.bodies: deque[bytes] = deque()
        self.size = 0
        #: The server has been told that there would be too many.
        self.over = False

    def add(self, body: bytes) -> bool:
        """A message leaves; whether that is news of too much for the server."""
        self.bodies.append(body)
        self.size += len(body)
        news = self.size > self.limit and not self.over
        self.over = self.over or news
        return news

    @property
    def full(self) -> bool:
        """No more may leave before the server has said what is to become of it."""
        return self.over and self.size > self.limit

    def settle(self, tokens: int) -> None:
        """We have so many of the window's tokens, so the others' messages are the newest."""
        while len(self.bodies) > max(0, self.window - tokens):
            self._drop()

    def committed(self, messages: int) -> None:
        """The guest has taken so many in all."""
        if messages > self.taken + len(self.bodies):
            raise RemoteProtocolError(
                f"{messages} messages, and {self.taken + len(self.bodies)} were sent",
                message="Committed",
            )
        while self.taken < messages:
            self._drop()

    def _drop(self) -> None:
        self.taken += 1
        self.size -= len(self.bodies.popleft())

    def check(self, report: Replay, head: int) -> None:
        """Refuse a report that can't be so. ``head``: bytes of a body that aren't data."""
        place = report.messages - self.taken
        if not 0 <= place <= len(self.bodies):
            raise RemoteProtocolError(
                f"{report.messages} messages; {self.taken} were taken before, and "
                f"{self.taken + len(self.bodies)} sent",
                message="Replay",
            )
        size = len(self.bodies[place]) - head if place < len(self.bodies) else 0
        if report.partial and report.partial >= size:
            raise RemoteProtocolError(
                f"{report.partial} bytes of a message that has {size}", message="Replay"
            )

    def rest(self, report: Replay) -> list[bytes]:
        """What the guest hasn't taken, whole messages; they aren't kept any more."""
        found = list(self.bodies)[report.messages - self.taken :]
        self.restart()
        return found

    def restart(self) -> None:
        """Nothing has been sent."""
        self.taken = self.size = 0
        self.bodies.clear()
        self.over = False


class KeepingChannel(ClientChannel):
    """A channel that may be asked for copies of the data that it sends."""

    #: Bytes of a message of data that aren't the device's.
    head_size = 0

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        #: What the guest may not have taken, None: nobody wants copies.
        self.copies: Copies | None = None

    def _copy(self, body: bytes) -> None:
        """A message of data leaves."""
        if self.copies is not None and self.copies.add(body):
            self._send_first(Keeping(on=0))

    def _on_keep(self, message: Keep) -> None:
        if not message.window:
            if self.copies is not None and self.copies.over:
                self._events.append(CopiesGivenUp(channel=self.name))
            self.copies = None
        elif self.copies is None:
            self.copies = Copies(message.window)
            self._send_first(Keeping(on=1))
        else:
            self.copies.window = message.window

    def _on_committed(self, message: Committed) -> None:
        if self.copies is None:
            super()._on_committed(message)
        else:
            self.copies.committed(message.messages)

    def _on_replay(self, message: Replay) -> None:
        if self.copies is None:
            raise RemoteProtocolError("no copies are kept", message="Replay")
        self.copies.check(message, self.head_size)
        super()._on_replay(message)
