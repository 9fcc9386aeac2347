"""The smartcard channel, client end: card messages between readers here and the guest."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.events import Event
from aiospice.channels.tokens import FlowChannel
from aiospice.wire import smartcard

__all__ = ["CardMessageReceived", "SmartcardChannel"]


class CardMessageReceived(Event):
    """A message from the guest's side (`aiospice.wire.smartcard.CardMessage`)."""

    key: tuple[int, int]
    channel: str
    type: int
    reader_id: int
    data: bytes


class SmartcardChannel(FlowChannel):
    """Smartcard at the level of messages: no card is emulated here.

    `consumed` counts messages.
    """

    handlers: ClassVar[dict[int, str]] = {
        smartcard.Data.number: "_on_data",
        smartcard.Tokens.number: "_on_tokens",
    }
    window = 16
    interval = 4
    message_size = least_size = smartcard.DEVICE_HEADER.size + smartcard.MAX_CARD_DATA
    head_size = smartcard.DEVICE_HEADER.size

    def send_card(self, type: int, reader_id: int, data: bytes) -> None:
        """Send a card message."""
        self.send(smartcard.ClientData(type=type, reader_id=reader_id, data=data))

    def _without(self, body: bytes, partial: int) -> bytes:
        whole = smartcard.ClientData.parse(body)
        data = whole.data[partial:]
        return smartcard.ClientData(type=whole.type, reader_id=whole.reader_id, data=data).body()

    def _on_data(self, message: smartcard.Data) -> None:
        if self.flow is not None:
            self.flow.came(1, len(message.data))
        self._events.append(
            CardMessageReceived(
                key=self.key,
                channel=self.name,
                type=message.type,
                reader_id=message.reader_id,
                data=message.data,
            )
        )
