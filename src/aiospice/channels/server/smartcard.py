"""The smartcard channel, server end: card messages between the guest's readers and the client's."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.events import Event
from aiospice.channels.server.vmc import DeviceServer
from aiospice.errors import LocalError
from aiospice.wire import smartcard

__all__ = ["CardWritten", "SmartcardServer"]


class CardWritten(Event):
    """A card message of the client (`smartcard.CardMessage`)."""

    type: int
    reader_id: int
    data: bytes


class SmartcardServer(DeviceServer):
    """Smartcard at the level of messages; data to be sent is as on the guest's device."""

    handlers: ClassVar[dict[int, str]] = {
        smartcard.ClientData.number: "_on_data",
        smartcard.ClientTokens.number: "_on_tokens",
    }
    data_number: ClassVar[int] = smartcard.Data.number
    limit: ClassVar[int] = smartcard.DEVICE_HEADER.size + smartcard.MAX_CARD_DATA
    least_size: ClassVar[int] = limit
    flow_limit: ClassVar[int] = limit

    def _pack(self, data: bytes) -> tuple[int, bytes]:
        kind, reader, size = smartcard.DEVICE_HEADER.unpack_from(data)
        body = data[smartcard.DEVICE_HEADER.size :]
        if size != len(body):
            raise LocalError(f"a card message of {len(body)} bytes says {size}")
        message = smartcard.Data(type=kind, reader_id=reader, data=body)
        return message.number, message.body()

    def _on_data(self, message: smartcard.ClientData) -> None:
        self._read_one(len(message.data))
        self._events.append(
            CardWritten(type=message.type, reader_id=message.reader_id, data=message.data)
        )
