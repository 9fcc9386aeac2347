"""Messages that nothing is done with: counted and told, at either end of a channel."""

from __future__ import annotations

from aiospice.channels.events import MessageIgnored, UnknownMessage
from aiospice.events import Event

__all__ = ["CountsUnused"]

#: Bytes of a body that an event shows.
_HEAD = 32


class CountsUnused:
    """Mixed into a channel: how many of each unknown number, and of each name, have come."""

    name: str
    unknown: dict[int, int]
    ignored: dict[str, int]
    _events: list[Event]

    def _not_known(self, number: int, body: bytes) -> None:
        self.unknown[number] = self.unknown.get(number, 0) + 1
        self._events.append(
            UnknownMessage(
                channel=self.name,
                number=number,
                count=self.unknown[number],
                size=len(body),
                head=body[:_HEAD],
            )
        )

    def _ignored(self, message: str, reason: str, body: bytes) -> None:
        self.ignored[message] = self.ignored.get(message, 0) + 1
        self._events.append(
            MessageIgnored(
                channel=self.name,
                message=message,
                reason=reason,
                count=self.ignored[message],
                head=body[:_HEAD],
            )
        )
