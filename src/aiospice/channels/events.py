"""What every channel may tell; `aiospice.events` has what an event is."""

from __future__ import annotations

from aiospice.events import Event, kind_of

__all__ = [
    "ChannelClosing",
    "Event",
    "MessageIgnored",
    "Notified",
    "UnknownMessage",
    "kind_of",
]


class UnknownMessage(Event):
    """A message of a number that isn't declared: counted and passed over."""

    #: ``display:0`` and the like.
    channel: str
    number: int
    #: How many of its kind have come on this channel, this one included.
    count: int
    #: Bytes of its body.
    size: int
    #: The first bytes of its body, at most 32.
    head: bytes


class MessageIgnored(Event):
    """A declared message that nothing is done with, and why."""

    channel: str
    message: str
    reason: str
    #: How many of its kind have come on this channel, this one included.
    count: int
    #: The first bytes of its body, at most 32.
    head: bytes


class Notified(Event):
    """Text that the server wants the user to see. It comes from the peer: escape it."""

    channel: str
    #: 0 information, 1 warning, 2 error.
    severity: int
    text: str


class ChannelClosing(Event):
    """The server is about to close the channel, for the reason given (a link code)."""

    channel: str
    reason: int
