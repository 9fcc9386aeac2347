"""Character devices: usbredir, port and webdav channels (spice-common ``spice.proto``,
``SpicevmcChannel``, ``PortChannel``)."""

from __future__ import annotations

from enum import IntEnum

from aiospice.wire.channels import CHANNEL_LIMITS
from aiospice.wire.hold import Held, Hold, Release
from aiospice.wire.keep import Committed, Keep, Keeping, Replay, Resume
from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.record import counter, pointer_bytes, rest, u8, u32, when
from aiospice.wire.tokens import ClientTokens, Tokens

__all__ = [
    "MAX_UNCOMPRESSED",
    "ClientCompressedData",
    "ClientData",
    "ClientPortEvent",
    "ClientTokens",
    "Committed",
    "CompressedData",
    "Compression",
    "Data",
    "Held",
    "Hold",
    "Keep",
    "Keeping",
    "PortEvent",
    "PortEvents",
    "PortInit",
    "Release",
    "Replay",
    "Resume",
    "Tokens",
]

_VMC = (9, 10, 11)
_PORTS = (10, 11)
#: The largest ``uncompressed_size`` that is accepted: as much as one `Data` may bring.
MAX_UNCOMPRESSED = CHANNEL_LIMITS[10]


class Compression(IntEnum):
    """``SPICE_DATA_COMPRESSION_TYPE_*``; LZ4 is one block, without a frame."""

    NONE = 0
    LZ4 = 1


class PortEvents(IntEnum):
    """``SPICE_PORT_EVENT_*``."""

    OPENED = 0
    CLOSED = 1
    BREAK = 2


class Data(Message, channels=_VMC, sender=SERVER, number=101):
    """Bytes from the guest. Where one message ends and the next begins has no meaning."""

    data: bytes = rest()


class CompressedData(Message, channels=_VMC, sender=SERVER, number=102):
    """Compressed bytes from the guest."""

    type: int = u8(names=Compression)
    uncompressed_size: int = when(
        lambda values: values["type"] != Compression.NONE,
        u32(maximum=MAX_UNCOMPRESSED),
        absent=0,
    )
    data: bytes = rest()


class PortInit(Message, channels=_PORTS, sender=SERVER, number=201):
    """The first message of a port: its name, and whether the guest has it open."""

    name_size: int = counter("name", "I", maximum=4096, extra=1)
    name: bytes = pointer_bytes("name_size", terminated=True)
    opened: int = u8()


class PortEvent(Message, channels=_PORTS, sender=SERVER, number=202):
    """The guest has opened or closed the port."""

    event: int = u8(names=PortEvents)


class ClientData(Message, channels=_VMC, sender=CLIENT, number=101):
    """Bytes to the guest."""

    data: bytes = rest()


class ClientCompressedData(Message, channels=_VMC, sender=CLIENT, number=102):
    """Compressed bytes to the guest."""

    type: int = u8(names=Compression)
    uncompressed_size: int = when(
        lambda values: values["type"] != Compression.NONE,
        u32(maximum=MAX_UNCOMPRESSED),
        absent=0,
    )
    data: bytes = rest()


class ClientPortEvent(Message, channels=_PORTS, sender=CLIENT, number=201):
    """The client has opened or closed the port, or sends a break."""

    event: int = u8(names=PortEvents)
