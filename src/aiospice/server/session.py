"""One client's session: its channels, and what a newly opened one is told first."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiospice.server.kept import ClientCaches
from aiospice.wire.caps import DisplayCap, InputsCap, MainCap, PlaybackCap, RecordCap, VmcCap
from aiospice.wire.tokens import TOKENS

if TYPE_CHECKING:
    from aiospice.channels.server.base import ServerChannel
    from aiospice.server.connection import Connection
    from aiospice.server.held import Held

__all__ = ["ServerSession", "capabilities", "channel_class"]

Key = tuple[int, int]

#: The module and the class of each channel type's server end.
_CLASSES = {
    1: ("main", "MainServer"),
    2: ("display", "DisplayServer"),
    3: ("inputs", "InputsServer"),
    4: ("cursor", "CursorServer"),
    5: ("playback", "PlaybackServer"),
    6: ("record", "RecordServer"),
    8: ("smartcard", "SmartcardServer"),
    9: ("vmc", "VmcServer"),
    10: ("vmc", "PortServer"),
    11: ("vmc", "PortServer"),
}

_CAPS: dict[int, tuple[int, ...]] = {
    1: (
        MainCap.SEMI_SEAMLESS_MIGRATE,
        MainCap.NAME_AND_UUID,
        MainCap.AGENT_CONNECTED_TOKENS,
        MainCap.SEAMLESS_MIGRATE,
    ),
    2: (
        DisplayCap.MONITORS_CONFIG,
        DisplayCap.STREAM_REPORT,
        DisplayCap.PREF_COMPRESSION,
        DisplayCap.PREF_VIDEO_CODEC_TYPE,
        DisplayCap.LZ4_COMPRESSION,
    ),
    3: (InputsCap.KEY_SCANCODE,),
    5: (PlaybackCap.VOLUME,),
    6: (RecordCap.VOLUME,),
    8: (TOKENS,),
    9: (VmcCap.DATA_COMPRESS_LZ4, TOKENS),
    10: (VmcCap.DATA_COMPRESS_LZ4, TOKENS),
    11: (VmcCap.DATA_COMPRESS_LZ4, TOKENS),
}


def channel_class(channel_type: int) -> type[ServerChannel]:
    """The class of a channel type's server end; `KeyError` for types that there are none of."""
    module, name = _CLASSES[channel_type]
    found: type[ServerChannel] = getattr(import_module(f"aiospice.channels.server.{module}"), name)
    return found


def capabilities(channel_type: int, *, opus: bool) -> tuple[int, ...]:
    """Our capabilities on a channel of that type, as bit numbers."""
    found = _CAPS.get(channel_type, ())
    if opus and channel_type == 5:
        found += (PlaybackCap.OPUS,)
    if opus and channel_type == 6:
        found += (RecordCap.OPUS,)
    return found


class ServerSession:
    """A client. Plain data; the core acts on it."""

    def __init__(self, id: int, peer: str, user: str, ticket: str | None, now: float) -> None:
        self.id = id
        self.peer = peer
        #: By SASL, else empty.
        self.user = user
        #: What its other channels have to show.
        self.ticket = ticket
        self.since = now
        self.channels: dict[Key, ServerChannel] = {}
        self.connections: dict[Key, Connection] = {}
        self.helds: dict[int, Held] = {}
        #: What the client keeps of what its display channels were sent.
        self.caches = ClientCaches()
        #: The mouse mode that the client asked for.
        self.mode_wanted: int | None = None
        #: Main has been told of an agent, and the client took up with it.
        self.agent_told = False
        self.pinged_at = now
        #: It has been told to go to the machine's new server.
        self.leaving = False

    def add(self, connection: Connection, channel: ServerChannel) -> None:
        """A channel is open."""
        self.channels[channel.key] = channel
        self.connections[channel.key] = connection

    def drop(self, key: Key) -> None:
        """A channel is gone."""
        self.channels.pop(key, None)
        self.connections.pop(key, None)
        if key[0] == 2:
            held = self.helds.pop(key[1], None)
            if held is not None:
                held.close()

    def status(self, now: float) -> dict[str, Any]:
        """JSON-able: who, since when, and its channels."""
        return {
            "client": self.id,
            "peer": self.peer,
            "user": self.user,
            "seconds": round(now - self.since, 3),
            "channels": [self._channel_status(key) for key in sorted(self.channels)],
        }

    def _channel_status(self, key: Key) -> dict[str, Any]:
        channel, connection = self.channels[key], self.connections[key]
        trip = channel.round_trip
        return {
            "channel": channel.name,
            "peer": connection.peer.address,
            "tls": connection.peer.secure,
            "sent_messages": channel.serial,
            "sent_bytes": connection.sent_bytes,
            "received_messages": channel.received,
            "received_bytes": connection.received_bytes,
            "queued_messages": channel.queued,
            "queued_bytes": channel.queued_bytes,
            "unacknowledged": channel.unacked,
            "round_trip_ms": None if trip is None else round(trip * 1000, 3),
            "reading_paused": channel.reading_paused,
        }
