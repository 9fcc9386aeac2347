"""The smartcard channel (spice-common ``spice.proto``, ``SmartcardChannel``).

On the channel the three numbers of a card message are little endian, as everywhere in SPICE; on
the guest's device the same numbers are big endian (spice-server ``server/smartcard.cpp``).
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from aiospice.wire.hold import Held, Hold, Release
from aiospice.wire.keep import Committed, Keep, Keeping, Replay, Resume
from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.record import block, counter, u32
from aiospice.wire.tokens import ClientTokens, Tokens

__all__ = [
    "DEVICE_HEADER",
    "MAX_CARD_DATA",
    "UNDEFINED_READER",
    "CardError",
    "CardMessage",
    "ClientData",
    "ClientTokens",
    "Committed",
    "Data",
    "Held",
    "Hold",
    "Keep",
    "Keeping",
    "Release",
    "Replay",
    "Resume",
    "Tokens",
]

_SMARTCARD = (8,)
#: The header on the guest's device, big endian: type, reader, bytes that follow.
DEVICE_HEADER = Struct(">III")
#: The most bytes of one card message that are accepted (an extended APDU has up to 65,545).
MAX_CARD_DATA = 128 << 10
#: Reader number of messages that belong to no reader (yet).
UNDEFINED_READER = 0xFFFFFFFF


class CardMessage(IntEnum):
    """``SPICE_VSC_MESSAGE_TYPE_*``: what a card message is about."""

    INIT = 1
    ERROR = 2
    READER_ADD = 3
    READER_REMOVE = 4
    ATR = 5
    CARD_REMOVE = 6
    APDU = 7
    FLUSH = 8
    FLUSH_COMPLETE = 9


class CardError(IntEnum):
    """The u32 in the data of `CardMessage.ERROR` (libcacard ``vscard_common.h``)."""

    SUCCESS = 0
    GENERAL_ERROR = 1
    CANNOT_ADD_MORE_READERS = 2
    CARD_ALREADY_INSERTED = 3


class Data(Message, channels=_SMARTCARD, sender=SERVER, number=101):
    """A card message from the guest (APDU) or the server (ERROR)."""

    type: int = u32(names=CardMessage)
    reader_id: int = u32()
    length: int = counter("data", "I", maximum=MAX_CARD_DATA)
    data: bytes = block("length")


class ClientData(Message, channels=_SMARTCARD, sender=CLIENT, number=101):
    """A card message from the client's readers; READER_ADD has the name, ended by NUL."""

    type: int = u32(names=CardMessage)
    reader_id: int = u32()
    length: int = counter("data", "I", maximum=MAX_CARD_DATA)
    data: bytes = block("length")
