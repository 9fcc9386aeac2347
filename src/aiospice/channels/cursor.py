"""The cursor channel, client end: what happens to the pointer is passed on."""

from __future__ import annotations

from aiospice.channels.base import ClientChannel
from aiospice.channels.events import Event
from aiospice.wire.message import Message

__all__ = ["CursorChannel", "CursorMessage"]


class CursorMessage(Event):
    """A message that changes the pointer's shape, place or visibility."""

    key: tuple[int, int]
    message: Message


class CursorChannel(ClientChannel):
    """Cursor: every message of the channel is handed on."""

    def _other(self, kind: type[Message], body: bytes) -> None:
        self._events.append(CursorMessage(key=self.key, message=kind.parse(body)))
