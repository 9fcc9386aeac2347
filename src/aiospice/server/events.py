"""What a server tells its owner. What happens to the guest are the events of the channels."""

from __future__ import annotations

from aiospice.channels.events import Event

__all__ = [
    "ClientConnected",
    "ClientDisconnected",
    "ClientRefused",
    "DeviceFailed",
    "DeviceReadable",
    "DeviceWritable",
    "MonitorsRequested",
    "ServerChannelClosed",
    "ServerChannelOpened",
]


class ClientConnected(Event):
    """A session has begun."""

    #: The session's number.
    client: int
    peer: str
    #: By SASL, else empty.
    user: str


class ClientDisconnected(Event):
    """A session has ended."""

    client: int
    peer: str
    reason: str


class ClientRefused(Event):
    """A connection did not become a channel."""

    peer: str
    #: The rule that was broken: ``ticket``, ``expired``, ``tls-only``, ``no-such-channel``, ...
    rule: str
    detail: str


class ServerChannelOpened(Event):
    """A channel of a client is open."""

    client: int
    channel: str
    peer: str


class ServerChannelClosed(Event):
    """A channel of a client is closed; ``error`` says why, None if the client just left."""

    client: int
    channel: str
    peer: str
    error: BaseException | None


class MonitorsRequested(Event):
    """A client wants monitors so: (x, y, width, height) of each, in pixels."""

    monitors: tuple[tuple[int, int, int, int], ...]


class DeviceFailed(Event):
    """The guest broke the protocol of a device, which is closed until it opens it again."""

    key: tuple[int, int]
    name: str
    error: BaseException


class DeviceReadable(Event):
    """A character device has bytes for the guest."""

    key: tuple[int, int]


class DeviceWritable(Event):
    """A character device takes bytes from the guest again."""

    key: tuple[int, int]
