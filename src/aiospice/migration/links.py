"""A connection that is being opened for a channel, and waits for it once it is linked."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from aiospice.channels.framing import Framing
from aiospice.link.client import LinkClient, LinkPhase
from aiospice.wire.header import pack_header

if TYPE_CHECKING:
    from aiospice.channels.base import Key
    from aiospice.effects import Endpoint
    from aiospice.errors import AiospiceError
    from aiospice.wire.message import Message

__all__ = ["PARKED_LIMIT", "ChannelLink", "LinkStage", "Numbers"]

#: Bytes that a linked connection may bring before its channel is on it; then it isn't read.
PARKED_LIMIT = 256 << 10


class Numbers:
    """Hands out the numbers of a session's connections."""

    def __init__(self) -> None:
        self.last = 0

    def next(self) -> int:
        """A number that no connection has had."""
        self.last += 1
        return self.last


class LinkStage(Enum):
    """How far a `ChannelLink` has come."""

    OPENING = "opening"
    LINKING = "linking"
    UP = "up"
    CLOSED = "closed"


class ChannelLink:
    """One connection for one channel, from the first packet to the open channel."""

    def __init__(
        self,
        numbers: Numbers,
        key: Key,
        endpoint: Endpoint,
        arguments: dict[str, Any],
        secure_endpoint: Endpoint | None = None,
    ) -> None:
        """``arguments`` are those of `LinkClient` but channel and ``secure``."""
        self._numbers = numbers
        self.number = numbers.next()
        self.key = key
        self.endpoint = endpoint
        #: Where to go instead when the server wants TLS for this channel.
        self.secure_endpoint = secure_endpoint
        self._arguments = arguments
        self.link = LinkClient(
            channel_type=key[0], channel_id=key[1], secure=endpoint.tls, **arguments
        )
        self.stage = LinkStage.OPENING
        self.framing: Framing | None = None
        self.paused = False
        #: When the step that is under way has taken too long.
        self.deadline: float | None = None
        self._out: deque[bytes] = deque()
        self._sent = 0

    @property
    def name(self) -> str:
        """The channel as in ``display:0``."""
        return self.link.name

    @property
    def awaits_reply(self) -> bool:
        """Whether the server has not said anything to the link yet."""
        return self.link.phase is LinkPhase.LINK_SENT

    @property
    def with_server(self) -> bool:
        """Whether all has been said that the server needs to open the channel, and it hasn't."""
        return self.link.phase in (LinkPhase.AUTHENTICATING, LinkPhase.RESULT_AWAITED)

    def __repr__(self) -> str:
        return f"ChannelLink({self.number}, {self.name}, {self.endpoint}, {self.stage.value})"

    def secured(self) -> ChannelLink | None:
        """The same link anew, over TLS; None if there is no TLS port, or this was it."""
        if self.secure_endpoint is None or self.endpoint.tls:
            return None
        return ChannelLink(self._numbers, self.key, self.secure_endpoint, self._arguments)

    def proceed(self) -> None:
        """End the hold of this link and of the one that may take its place."""
        self._arguments["hold"] = False
        self.link.proceed()

    def connected(self, now: float, timeout: float) -> None:
        """The connection is up: begin the link."""
        self.stage = LinkStage.LINKING
        self.deadline = now + timeout
        self.link.start()

    def received(self, data: bytes | memoryview) -> AiospiceError | None:
        """Take bytes of the link, or of the channel to come; returns why the link failed."""
        if self.framing is not None:
            self.framing.feed(data)
            return None
        self.link.receive(data)
        if self.link.phase is LinkPhase.DONE:
            self.stage = LinkStage.UP
            self.deadline = None
            self.framing = Framing(self.key[0], self.link.mini_header, self.link.trailing)
            self.link.trailing = b""
            self._arguments = {}
        return self.link.error

    def send(self, message: Message) -> None:
        """Send a message of the channel before the channel itself is on this connection."""
        assert self.framing is not None
        body = message.body()
        self._sent += 1
        header = pack_header(self.framing.mini, self._sent, message.number, len(body))
        self._out.append(header + body)

    @property
    def wants_to_send(self) -> bool:
        """Whether `take` would give something now."""
        return bool(self._out or self.link._out)

    def take(self) -> bytes:
        """Bytes to send: the link's, then messages one at a time."""
        return self.link.take() or (self._out.popleft() if self._out else b"")

    @property
    def secret_from(self) -> int:
        """From which byte of the next `take` on its bytes are secret (a ticket), -1: none.

        The four bytes of the chosen mechanism may be seen.
        """
        secret = self.link.phase in (LinkPhase.AUTHENTICATING, LinkPhase.RESULT_AWAITED)
        return 4 if secret else -1
