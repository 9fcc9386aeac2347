"""What a server writes into its log: one line an event, never a secret, never a flood.

Keys, clipboard and bytes of devices are not logged, nor is what was sent as a ticket. What peers
chose (names, errors that quote them) is made fit for one line.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiospice.channels.events import Event

__all__ = ["LINES_PER_SECOND", "ServerLog"]

#: Refusals that are written one by one within a second; of the rest their number is.
LINES_PER_SECOND = 20


class ServerLog:
    """Writes events of a server to ``logger``; ``now`` is any clock in seconds."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._second = 0.0
        self._lines = 0
        self._left_out = 0
        self._tellers = {
            "ClientConnected": self._connected,
            "ClientDisconnected": self._disconnected,
            "ServerChannelClosed": self._channel_closed,
            "ClientRefused": self._refused,
        }

    def tell(self, event: Event, now: float) -> None:
        """Write a line if the event is worth one."""
        teller = self._tellers.get(type(event).__name__)
        if teller is not None:
            teller(event, now)

    def _connected(self, event: Any, now: float) -> None:
        user = f" as {tame(event.user)}" if event.user else ""
        self._logger.info("%s: client %d connected%s", event.peer, event.client, user)

    def _disconnected(self, event: Any, now: float) -> None:
        self._logger.info("%s: client %d is gone: %s", event.peer, event.client, tame(event.reason))

    def _channel_closed(self, event: Any, now: float) -> None:
        if event.error is not None:
            self._logger.warning(
                "%s: %s of client %d was closed: %s",
                event.peer,
                event.channel,
                event.client,
                tame(str(event.error)),
            )

    def _refused(self, event: Any, now: float) -> None:
        if now - self._second >= 1.0:
            self.close(now)
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES_PER_SECOND:
            self._left_out += 1
            return
        self._logger.warning("%s: refused (%s): %s", event.peer, event.rule, tame(event.detail))

    def close(self, now: float) -> None:
        """Write how many lines were left out."""
        if self._left_out:
            self._logger.warning("%d more links were refused", self._left_out)
            self._left_out = 0


def tame(text: str) -> str:
    """Make a text that may quote a peer fit for one line."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= 300 else text[:300] + "..."
