"""A smartcard reader of the guest (spice-server ``server/smartcard.cpp``).

On the device a card message is a header of three big endian u32 (type, reader, length) and its
data. A device is one reader, whose number the guest doesn't know. Messages to clients are kept as
on the device, with the reader's number.
"""

from __future__ import annotations

from aiospice.devices.chardev import CharDevice, DeviceClient, GuestFailed
from aiospice.devices.rules import SMARTCARD
from aiospice.errors import DecodeError
from aiospice.wire.smartcard import (
    DEVICE_HEADER,
    MAX_CARD_DATA,
    CardError,
    CardMessage,
)

__all__ = ["SmartcardDevice"]

_TO_GUEST = frozenset(
    (CardMessage.ERROR, CardMessage.ATR, CardMessage.CARD_REMOVE, CardMessage.APDU)
)
_MESSAGE = "ClientData"


class SmartcardDevice(CharDevice):
    """A reader of number ``reader_id``; a client puts a card into it by READER_ADD."""

    def __init__(
        self, name: str = "smartcard", *, reader_id: int = 0, signals: bool = True
    ) -> None:
        super().__init__(name, SMARTCARD, signals=signals)
        self.reader_id = reader_id
        #: The guest has been told of a reader.
        self.reader_added = False
        #: The part of a card message that has been read from the guest.
        self.part = bytearray()
        #: Answers that a client has been given before it sent the same again.
        self.answered = 0

    def reset(self) -> None:
        """Forget all that waits, and the part of a message that the guest has written."""
        super().reset()
        self.part.clear()
        self.reader_added = False
        self.answered = 0

    def remove_client(self, client: int, unsent: tuple[bytes, ...] | list[bytes] = ()) -> None:
        """A client is gone, and with it the reader that the guest has been told of."""
        adds = self._unread_adds()
        super().remove_client(client, unsent)
        if not self.reader_added or self.clients:
            return
        self.reader_added = False
        if self._unread_adds() == adds:  # else the guest hasn't learned of it
            self.server_writes(self._header(CardMessage.READER_REMOVE), token=False)

    def drop_reader(self) -> None:
        """The client whose reader the guest knows doesn't come: another begins anew."""
        if self.reader_added:
            self.reader_added = False
            self.server_writes(self._header(CardMessage.READER_REMOVE), token=False)

    def write_late(self, kind: int, reader: int, data: bytes) -> None:
        """A card message that a client had sent to the source of a hand-over at last.

        It isn't here, so nobody is answered: what can't be done isn't.
        """
        if kind == CardMessage.READER_ADD:
            self.reader_added = True
            self.server_writes(self._header(kind), token=False)
        elif reader != self.reader_id or not self.reader_added:
            return
        elif kind == CardMessage.READER_REMOVE:
            self.drop_reader()
        elif kind in _TO_GUEST:
            self.server_writes(self._header(kind, len(data)) + data, token=False)

    def _unread_adds(self) -> int:
        add = self._header(CardMessage.READER_ADD)
        return sum(buffer.data == add for buffer in self.buffers)

    def _header(self, kind: int, size: int = 0) -> bytes:
        return DEVICE_HEADER.pack(kind, self.reader_id, size)

    # -- from clients to the guest -----------------------------------------------------------------

    def card_message(self, client: int, kind: int, reader: int, data: bytes, now: float) -> None:
        """A card message of a client. A reader that isn't there ends the client (`ClientDropped`).

        What can't be done is answered with an ERROR.
        """
        sender = self.clients.get(client)
        if sender is None or not self._charge(sender, DEVICE_HEADER.size + len(data), _MESSAGE):
            return
        wrong = kind == CardMessage.READER_REMOVE and not (
            self.reader_added and reader == self.reader_id
        )
        if sender.keeps:
            sender.trail.append((self.reader_added, wrong))
        if self.begun is not None and self.begun[0] == client:
            self._bring_rest(sender, kind, data)
            return
        body = b""
        if kind == CardMessage.READER_ADD:
            self.reader_added = True
            body = self._header(kind)
        elif kind == CardMessage.READER_REMOVE:
            if not wrong:
                self.reader_added = False
                body = self._header(kind)
            elif self.answered:
                self.answered -= 1
            else:
                self._answer(sender, reader, CardError.GENERAL_ERROR, now)
        elif kind in _TO_GUEST:
            if reader != self.reader_id:
                self._drop(sender, f"a message for reader {reader}, which isn't there", _MESSAGE)
                return
            body = self._header(kind, len(data)) + data
        self._add(body, sender)

    def _bring_rest(self, sender: DeviceClient, kind: int, data: bytes) -> None:
        """The rest of a message whose beginning the guest has read at another server."""
        assert self.begun is not None
        _, taken, size, head = self.begun
        if kind in (CardMessage.READER_ADD, CardMessage.READER_REMOVE):
            data = b""  # which the guest isn't told
        header = DEVICE_HEADER.pack(kind, self.reader_id, size - DEVICE_HEADER.size)
        rest = max(0, size - max(taken, DEVICE_HEADER.size))
        if len(data) != rest or header != head:
            self._drop(sender, "it is to send the rest of a message, and sends another", _MESSAGE)
            return
        if kind == CardMessage.READER_ADD:
            self.reader_added = True
        elif kind == CardMessage.READER_REMOVE:
            self.reader_added = False
        self.go_on_with(header[taken:] + data, sender)

    def _answer(self, client: DeviceClient, reader: int, code: int, now: float) -> None:
        # The code of an error of the server's own is little endian, as upstream sends it.
        header = DEVICE_HEADER.pack(CardMessage.ERROR, reader, 4)
        self._send(client, header + code.to_bytes(4, "little"), now)

    # -- from the guest to clients -----------------------------------------------------------------

    def _from_guest(self, view: memoryview, now: float) -> int:
        """Read a part of a card message; a whole one goes to the client."""
        wanted = DEVICE_HEADER.size - len(self.part)
        if wanted > 0:
            self.part += view[:wanted]
            if len(self.part) == DEVICE_HEADER.size:
                self._whole(now)
            return min(wanted, len(view))
        wanted = DEVICE_HEADER.size + self._length() - len(self.part)
        self.part += view[:wanted]
        self._whole(now)
        return min(wanted, len(view))

    def _length(self) -> int:
        return int(DEVICE_HEADER.unpack_from(self.part)[2])

    def _whole(self, now: float) -> None:
        """Pass the message on if it is whole."""
        kind, _, length = DEVICE_HEADER.unpack_from(self.part)
        if length > MAX_CARD_DATA:
            text = f"{length} bytes, the limit is {MAX_CARD_DATA}"
            self.part.clear()
            self.detach()
            error = DecodeError(text, field="length", offset=8, message="card message")
            self._events.append(GuestFailed(error))
            return
        if len(self.part) < DEVICE_HEADER.size + length:
            return
        data = bytes(self.part[DEVICE_HEADER.size :])
        self.part.clear()
        if kind != CardMessage.INIT:
            self._deliver(self._header(kind, length) + data, now)
