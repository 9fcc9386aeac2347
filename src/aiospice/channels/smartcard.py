"""The smartcard channel, client end: card messages between readers here and the guest."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import ClientChannel
from aiospice.channels.events import Event
from aiospice.wire import smartcard

__all__ = ["CardMessageReceived", "SmartcardChannel"]


class CardMessageReceived(Event):
    """A message from the guest's side (`aiospice.wire.smartcard.CardMessage`)."""

    channel: str
    type: int
    reader_id: int
    data: bytes


class SmartcardChannel(ClientChannel):
    """Smartcard at the level of messages: no card is emulated here."""

    handlers: ClassVar[dict[int, str]] = {smartcard.Data.number: "_on_data"}

    def send_card(self, type: int, reader_id: int, data: bytes) -> None:
        """Send a card message."""
        self.send(smartcard.ClientData(type=type, reader_id=reader_id, data=data))

    def _on_data(self, message: smartcard.Data) -> None:
        self._events.append(
            CardMessageReceived(
                channel=self.name,
                type=message.type,
                reader_id=message.reader_id,
                data=message.data,
            )
        )
