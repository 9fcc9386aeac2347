"""What a character device tells its owner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiospice.errors import DecodeError, RemoteProtocolError

__all__ = [
    "ClientDropped",
    "DeviceEvent",
    "GuestFailed",
    "MessagesTaken",
    "OfferAgain",
    "TokensReturned",
]


class DeviceEvent:
    """What a device tells its owner; plain data."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class TokensReturned(DeviceEvent):
    """The client may send so many more messages: tell it."""

    client: int
    count: int


@dataclass(frozen=True, slots=True)
class MessagesTaken(DeviceEvent):
    """The guest has taken so many messages of a client that keeps copies, in all."""

    client: int
    count: int


@dataclass(frozen=True, slots=True)
class ClientDropped(DeviceEvent):
    """The client broke a rule: end its channel, and remove it."""

    client: int
    error: RemoteProtocolError


@dataclass(frozen=True, slots=True)
class GuestFailed(DeviceEvent):
    """The guest end broke its protocol and is detached: it has to close and open its port."""

    error: DecodeError


@dataclass(frozen=True, slots=True)
class OfferAgain(DeviceEvent):
    """The guest, which can't signal, may take more by now."""
