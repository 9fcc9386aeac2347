"""One connection to a server: a link at first, a channel then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiospice.channels.server.base import ServerChannel
    from aiospice.link.server import LinkServer
    from aiospice.server.config import Peer

__all__ = ["Connection"]


@dataclass(slots=True, eq=False)
class Connection:
    """Plain data; the core moves it along."""

    number: int
    peer: Peer
    #: The link, until it is done or refused.
    link: LinkServer | None
    #: When the link must be done.
    deadline: float
    channel: ServerChannel | None = None
    #: The session's number, 0 before there is one.
    client: int = 0
    #: It is to be closed; what `take` still gives goes out before.
    closing: bool = False
    #: The shell has been asked to stop reading.
    paused: bool = False
    #: A ticket key has been asked for.
    key_wanted: bool = False
    #: Since when it has something to send and nothing was taken, None otherwise.
    stuck_since: float | None = None
    #: Bytes that left and came.
    sent_bytes: int = 0
    received_bytes: int = 0
    #: Bytes that left here and that the kernel has not taken, when it broke.
    unwritten: int = 0
