"""The messages that every channel has (spice-common ``spice.proto``, ``BaseChannel``)."""

from __future__ import annotations

from enum import IntEnum

from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.record import (
    Record,
    block,
    counter,
    record_array,
    rest,
    u8,
    u32,
    u64,
)

__all__ = [
    "Ack",
    "AckSync",
    "ClientDisconnecting",
    "ClientMigrateData",
    "Disconnecting",
    "LinkCode",
    "List",
    "Migrate",
    "MigrateData",
    "MigrateFlags",
    "MigrateFlushMark",
    "Notify",
    "NotifySeverity",
    "NotifyVisibility",
    "Ping",
    "Pong",
    "SetAck",
    "WaitForChannel",
    "WaitForChannels",
]

_ALL = (0,)


class LinkCode(IntEnum):
    """``SPICE_LINK_ERR_*``, the result of a link and the reason of a disconnect."""

    OK = 0
    ERROR = 1
    INVALID_MAGIC = 2
    INVALID_DATA = 3
    VERSION_MISMATCH = 4
    NEED_SECURED = 5
    NEED_UNSECURED = 6
    PERMISSION_DENIED = 7
    BAD_CONNECTION_ID = 8
    CHANNEL_NOT_AVAILABLE = 9


class MigrateFlags(IntEnum):
    """``SPICE_MIGRATE_*``."""

    NEED_FLUSH = 1
    NEED_DATA_TRANSFER = 2


class NotifySeverity(IntEnum):
    """``SPICE_NOTIFY_SEVERITY_*``."""

    INFO = 0
    WARN = 1
    ERROR = 2


class NotifyVisibility(IntEnum):
    """``SPICE_NOTIFY_VISIBILITY_*``."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2


class WaitForChannel(Record):
    """A point in another channel's stream of messages."""

    channel_type: int = u8()
    channel_id: int = u8()
    message_serial: int = u64()


class Migrate(Message, channels=_ALL, sender=SERVER, number=1):
    """The channel moves to the target; the flags say what to do before."""

    flags: int = u32(flags=MigrateFlags)


class MigrateData(Message, channels=_ALL, sender=SERVER, number=2):
    """The source's record, to be handed to the target as it is (`aiospice.wire.handover`)."""

    data: bytes = rest()


class SetAck(Message, channels=_ALL, sender=SERVER, number=3):
    """Acknowledge every ``window`` messages from now on."""

    generation: int = u32()
    window: int = u32()


class Ping(Message, channels=_ALL, sender=SERVER, number=4):
    """To be answered by a `Pong` with the same ``id`` and ``timestamp``."""

    id: int = u32()
    timestamp: int = u64()
    data: bytes = rest()


class WaitForChannels(Message, channels=_ALL, sender=SERVER, number=5):
    """Nothing behind this may be done before other channels have come to the given points."""

    num_waits: int = counter("waits", "B")
    waits: tuple[WaitForChannel, ...] = record_array(WaitForChannel, "num_waits")


class Disconnecting(Message, channels=_ALL, sender=SERVER, number=6):
    """The server is about to close this channel."""

    time_stamp: int = u64()
    reason: int = u32(names=LinkCode)


class Notify(Message, channels=_ALL, sender=SERVER, number=7):
    """Text for the user. It comes from the peer: escape it before a terminal sees it."""

    time_stamp: int = u64()
    severity: int = u32(names=NotifySeverity)
    visibility: int = u32(names=NotifyVisibility)
    what: int = u32()
    message_size: int = counter("text", "I")
    text: bytes = block("message_size")


class List(Message, channels=_ALL, sender=SERVER, number=8):
    """Several messages in one (`aiospice.wire.header.read_sub_messages`)."""

    data: bytes = rest()


class AckSync(Message, channels=_ALL, sender=CLIENT, number=1):
    """The answer to `SetAck`: acknowledgements of that generation follow."""

    generation: int = u32()


class Ack(Message, channels=_ALL, sender=CLIENT, number=2):
    """Another ``window`` messages have been read."""


class Pong(Message, channels=_ALL, sender=CLIENT, number=3):
    """The answer to `Ping`."""

    id: int = u32()
    timestamp: int = u64()


class MigrateFlushMark(Message, channels=_ALL, sender=CLIENT, number=4):
    """The last message to the source before its record: all before it has been sent."""


class ClientMigrateData(Message, channels=_ALL, sender=CLIENT, number=5):
    """The source's record, handed to the target."""

    data: bytes = rest()


class ClientDisconnecting(Message, channels=_ALL, sender=CLIENT, number=6):
    """The client is about to close this channel."""

    time_stamp: int = u64()
    reason: int = u32(names=LinkCode)
