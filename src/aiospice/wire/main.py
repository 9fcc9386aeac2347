"""The main channel (spice-common ``spice.proto``, ``MainChannel``)."""

from __future__ import annotations

from enum import IntEnum

from aiospice.wire.channels import ChannelType
from aiospice.wire.common import LinkCode
from aiospice.wire.hold import Held, Hold, Release
from aiospice.wire.keep import Committed, Keep, Keeping, Replay, Resume
from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.record import (
    Record,
    block,
    counter,
    fixed_bytes,
    nested,
    pointer_bytes,
    record_array,
    rest,
    u8,
    u16,
    u32,
    u64,
)

__all__ = [
    "MIGRATION_VERSION",
    "AgentConnected",
    "AgentConnectedTokens",
    "AgentData",
    "AgentDisconnected",
    "AgentStart",
    "AgentToken",
    "AttachChannels",
    "ChannelId",
    "ChannelsList",
    "ClientAgentData",
    "ClientAgentToken",
    "ClientInfo",
    "ClientMigrateEnd",
    "Committed",
    "DstInfo",
    "Held",
    "Hold",
    "Init",
    "Keep",
    "Keeping",
    "MigrateBegin",
    "MigrateBeginSeamless",
    "MigrateCancel",
    "MigrateConnectError",
    "MigrateConnected",
    "MigrateConnectedSeamless",
    "MigrateDstDoSeamless",
    "MigrateDstSeamlessAck",
    "MigrateDstSeamlessNack",
    "MigrateEnd",
    "MigrateSwitchHost",
    "MouseMode",
    "MouseModeRequest",
    "MouseModes",
    "MultiMediaTime",
    "Name",
    "QualityIndicator",
    "Release",
    "Replay",
    "Resume",
    "Uuid",
]

_MAIN = (1,)
#: ``SPICE_MIGRATION_PROTOCOL_VERSION`` (spice-server ``server/migration-protocol.h``).
MIGRATION_VERSION = 1


class MouseModes(IntEnum):
    """``SPICE_MOUSE_MODE_*``: bits of what is supported, and the current one."""

    SERVER = 1
    CLIENT = 2


class ChannelId(Record):
    """One channel that the server offers."""

    type: int = u8(names=ChannelType)
    id: int = u8()


class DstInfo(Record):
    """Where the session is to go. Ports: 0 means none; upstream sends 65535 for none as well."""

    port: int = u16()
    secure_port: int = u16()
    host_size: int = counter("host", "I", maximum=4096, extra=1)
    host: bytes = pointer_bytes("host_size", terminated=True)
    cert_subject_size: int = counter("cert_subject", "I", maximum=65536, extra=1)
    cert_subject: bytes = pointer_bytes("cert_subject_size", terminated=True)


class MigrateBegin(Message, channels=_MAIN, sender=SERVER, number=101):
    """Connect to the target; semi-seamless at best."""

    destination: DstInfo = nested(DstInfo)


class MigrateCancel(Message, channels=_MAIN, sender=SERVER, number=102):
    """The migration that had begun is off: stay with the source."""


class Init(Message, channels=_MAIN, sender=SERVER, number=103):
    """The first message of a new session."""

    session_id: int = u32()
    display_channels_hint: int = u32()
    supported_mouse_modes: int = u32(flags=MouseModes)
    current_mouse_mode: int = u32(names=MouseModes)
    agent_connected: int = u32()
    agent_tokens: int = u32()
    multi_media_time: int = u32()
    ram_hint: int = u32()


class ChannelsList(Message, channels=_MAIN, sender=SERVER, number=104):
    """What may be opened; the answer to `AttachChannels`."""

    num_channels: int = counter("available", "I", maximum=4096)
    available: tuple[ChannelId, ...] = record_array(ChannelId, "num_channels")


class MouseMode(Message, channels=_MAIN, sender=SERVER, number=105):
    """The mouse mode has changed."""

    supported_modes: int = u16(flags=MouseModes)
    current_mode: int = u16(names=MouseModes)


class MultiMediaTime(Message, channels=_MAIN, sender=SERVER, number=106):
    """The server's multimedia clock, in ms, wrapping at 2**32."""

    time: int = u32()


class AgentConnected(Message, channels=_MAIN, sender=SERVER, number=107):
    """The guest's agent is there; the tokens of before go on."""


class AgentDisconnected(Message, channels=_MAIN, sender=SERVER, number=108):
    """The guest's agent is gone."""

    error_code: int = u32(names=LinkCode)


class AgentData(Message, channels=_MAIN, sender=SERVER, number=109):
    """A piece of the agent's stream (`aiospice.wire.agent`)."""

    data: bytes = rest()


class AgentToken(Message, channels=_MAIN, sender=SERVER, number=110):
    """So many more `ClientAgentData` may be sent."""

    num_tokens: int = u32()


class MigrateSwitchHost(Message, channels=_MAIN, sender=SERVER, number=111):
    """The machine has moved: start over there."""

    destination: DstInfo = nested(DstInfo)


class MigrateEnd(Message, channels=_MAIN, sender=SERVER, number=112):
    """The machine has moved: go on with the target, semi-seamless."""


class Name(Message, channels=_MAIN, sender=SERVER, number=113):
    """The machine's name."""

    name_size: int = counter("name", "I", maximum=65536)
    name: bytes = block("name_size")


class Uuid(Message, channels=_MAIN, sender=SERVER, number=114):
    """The machine's UUID."""

    uuid: bytes = fixed_bytes(16)


class AgentConnectedTokens(Message, channels=_MAIN, sender=SERVER, number=115):
    """The guest's agent is there, and so many `ClientAgentData` may be sent."""

    num_tokens: int = u32()


class MigrateBeginSeamless(Message, channels=_MAIN, sender=SERVER, number=116):
    """Connect to the target; the source can hand the session over whole."""

    destination: DstInfo = nested(DstInfo)
    src_mig_version: int = u32()


class MigrateDstSeamlessAck(Message, channels=_MAIN, sender=SERVER, number=117):
    """The target can take the session over whole."""


class MigrateDstSeamlessNack(Message, channels=_MAIN, sender=SERVER, number=118):
    """The target can't; semi-seamless then."""


class ClientInfo(Message, channels=_MAIN, sender=CLIENT, number=101):
    """Declared, sent by nobody."""

    cache_size: int = u64()


class MigrateConnected(Message, channels=_MAIN, sender=CLIENT, number=102):
    """Connected to the target, for a semi-seamless hand-over."""


class MigrateConnectError(Message, channels=_MAIN, sender=CLIENT, number=103):
    """The target could not be connected to."""


class AttachChannels(Message, channels=_MAIN, sender=CLIENT, number=104):
    """Asks for the `ChannelsList`."""


class MouseModeRequest(Message, channels=_MAIN, sender=CLIENT, number=105):
    """Asks for a mouse mode."""

    mode: int = u16(names=MouseModes)


class AgentStart(Message, channels=_MAIN, sender=CLIENT, number=106):
    """The client takes up with the agent; the server may send so many `AgentData`."""

    num_tokens: int = u32()


class ClientAgentData(Message, channels=_MAIN, sender=CLIENT, number=107):
    """A piece of the client's stream to the agent; costs one token."""

    data: bytes = rest()


class ClientAgentToken(Message, channels=_MAIN, sender=CLIENT, number=108):
    """The server may send so many more `AgentData`."""

    num_tokens: int = u32()


class ClientMigrateEnd(Message, channels=_MAIN, sender=CLIENT, number=109):
    """To the target, semi-seamless: now I am yours, send `Init`."""


class MigrateDstDoSeamless(Message, channels=_MAIN, sender=CLIENT, number=110):
    """To the target: take the session over whole; the source's migration version."""

    src_version: int = u32()


class MigrateConnectedSeamless(Message, channels=_MAIN, sender=CLIENT, number=111):
    """Connected to the target, which agreed to take the session over whole."""


class QualityIndicator(Message, channels=_MAIN, sender=CLIENT, number=112):
    """Declared, with a body that nobody defines."""

    data: bytes = rest()
