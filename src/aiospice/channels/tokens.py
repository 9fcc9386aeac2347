"""Tokens of a device's channel, client end (`aiospice.wire.tokens`).

What is counted here belongs to the session and not to a connection: it moves with the channel.
``granted`` + ``due`` + ``used`` + messages in ``unread`` = ``window``, whatever happens.
"""

from __future__ import annotations

from collections import deque
from copy import copy

from aiospice.channels.base import ChannelPhase, Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.keeping import KeepingChannel
from aiospice.errors import RemoteProtocolError
from aiospice.wire.caps import has
from aiospice.wire.header import pack_header
from aiospice.wire.keep import Keep, Replay, Resume
from aiospice.wire.tokens import LEAST_MESSAGE, TOKENS, ClientTokens, Tokens

__all__ = ["Flow", "FlowChannel"]

_MOST = 0xFFFFFFFF


class Flow:
    """How many messages of data may come and go.

    ``window`` messages of at most ``size`` bytes of data may come before the reader has consumed
    one; ``interval`` consumed ones are given back together.
    """

    def __init__(self, window: int, interval: int, size: int) -> None:
        self.window = window
        self.interval = interval
        self.size = size
        #: Messages that we may send, and the largest, in bytes; 0 until the server has said.
        self.tokens = 0
        self.limit = 0
        #: Sizes of the messages that we have sent and haven't got tokens back for.
        self.sent: deque[int] = deque()
        #: Messages that the server may send.
        self.granted = 0
        #: Tokens to be told to the server now, and consumed ones kept until they are some more.
        self.due = window
        self.used = 0
        #: What has been delivered and not consumed: [units, messages] each.
        self.unread: deque[list[int]] = deque()

    def twin(self) -> Flow:
        """The same, apart from this one."""
        made = copy(self)
        made.sent = self.sent.copy()
        made.unread = deque(each.copy() for each in self.unread)
        return made

    # -- what we send --------------------------------------------------------------------------

    def told(self, count: int, size: int, least: int) -> None:
        """The server gives tokens."""
        if size < least:
            raise RemoteProtocolError(
                f"takes messages of {size} bytes only, {least} is the least", message="Tokens"
            )
        self.limit = size
        self.tokens = min(self.tokens + count, _MOST)
        for _ in range(min(count, len(self.sent))):
            self.sent.popleft()

    def left(self, size: int) -> None:
        """A message of ours has left."""
        self.tokens -= 1
        self.sent.append(size)

    # -- what we get ---------------------------------------------------------------------------

    def came(self, units: int, size: int) -> None:
        """A message with ``size`` bytes of data has come; ``units`` of it have to be consumed."""
        if size > self.size:
            raise RemoteProtocolError(
                f"a message of {size} bytes, we take {self.size} at most", message="Data"
            )
        if not self.granted:
            raise RemoteProtocolError(
                f"a message without a token: all {self.window} of the window are on their way",
                message="Data",
            )
        self.granted -= 1
        if units:
            self.unread.append([units, 1])
        else:
            self._give_back(1)

    def consumed(self, units: int) -> None:
        """The reader has consumed so much of what has come, in order."""
        while units and self.unread:
            first = self.unread[0]
            taken = min(units, first[0])
            first[0] -= taken
            units -= taken
            if not first[0]:
                self.unread.popleft()
                self._give_back(first[1])

    def _give_back(self, messages: int) -> None:
        self.used += messages
        if self.used >= self.interval:
            self.due += self.used
            self.used = 0

    def give(self) -> ClientTokens:
        """The message that tells the server what is due."""
        count, self.due = self.due, 0
        self.granted += count
        return ClientTokens(count=count, message_size=self.size)

    # -- moving --------------------------------------------------------------------------------

    def anew(self) -> Flow:
        """The state on another server that knows nothing of this one."""
        new = Flow(self.window, self.interval, self.size)
        old = sum(units for units, _ in self.unread)
        if old:  # consumed first, and no message of the new server's
            new.unread.append([old, 0])
        return new

    def back(self, then: Flow) -> None:
        """Go back to a server that knows things as they were ``then``."""
        self.tokens, self.limit, self.granted = then.tokens, then.limit, then.granted
        self.sent = then.sent
        unread = sum(messages for _, messages in self.unread)
        self.due = self.window - self.granted - self.used - unread


class FlowChannel(KeepingChannel):
    """A channel whose data needs tokens if both sides have them."""

    #: The number of the message of data, and of `Flow`: its window, interval and size.
    data_number = 101
    window = 64
    interval = 16
    message_size = LEAST_MESSAGE
    #: The least that the server has to take in one message.
    least_size = LEAST_MESSAGE

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        #: None: the other side has no tokens, or we are waiting to know.
        self.flow = self._make_flow() if has(server_caps, TOKENS) else None
        self._flow_before: Flow | None = None

    def _make_flow(self) -> Flow:
        return Flow(self.window, self.interval, self.message_size)

    def consumed(self, units: int) -> None:
        """The reader is done with so much of what has come; tokens are given back for it."""
        if self.flow is not None:
            self.flow.consumed(units)

    def _on_tokens(self, message: Tokens) -> None:
        if self.flow is None:
            raise RemoteProtocolError("came without the capability", message="Tokens")
        self.flow.told(message.count, message.message_size, self.least_size)
        if self.copies is not None:
            self.copies.settle(self.flow.tokens)

    # -- copies --------------------------------------------------------------------------------

    def _on_keep(self, message: Keep) -> None:
        if self.flow is None:
            raise RemoteProtocolError("there are no tokens here", message="Keep")
        super()._on_keep(message)

    def _resume(self, report: Replay) -> None:
        """Go on with a target that begins where the guest is; what it hasn't taken comes first."""
        flow, copies = self.flow, self.copies
        if flow is None or copies is None:
            self._fail(RemoteProtocolError("the target has no tokens, and the source had some"))
            return
        for _ in copies.bodies:
            if flow.sent:
                flow.sent.pop()
        flow.tokens += len(copies.bodies)
        rest = copies.rest(report)
        if rest and report.partial:
            rest[0] = self._without(rest[0], report.partial)
        self._queue.extendleft((self.data_number, body) for body in reversed(rest))
        size = sum(map(len, rest))
        self.queued_bytes += size
        self._resumed(size)
        self._send_first(
            Resume(tokens=flow.tokens, granted=flow.granted, message_size=flow.size, started=1)
        )

    def _without(self, body: bytes, partial: int) -> bytes:
        """A message of data without so many bytes of it."""
        return body[partial:]

    def _resumed(self, size: int) -> None:
        """So many bytes are to be sent again. For subclasses that keep count."""

    # -- out -----------------------------------------------------------------------------------

    def _gives(self) -> bool:
        due = self.flow is not None and self.flow.due > 0
        return due and self.phase is ChannelPhase.OPEN and not self.holds_back

    @property
    def idle(self) -> bool:
        """There is nothing that `take` could ever give."""
        return not (self._urgent or self._queue or (self.flow is not None and self.flow.due > 0))

    @property
    def wants_to_send(self) -> bool:
        """Whether `take` would give something now."""
        return super().wants_to_send or self._gives()

    def _queue_may_leave(self) -> bool:
        if not super()._queue_may_leave():
            return False
        number = self._queue[0][0]
        if number == self.data_number and self.copies is not None and self.copies.full:
            return False
        return self.flow is None or self.flow.tokens > 0 or number != self.data_number

    def take(self) -> bytes:
        """The next message with its header; tokens go ahead of data."""
        if not self._urgent and self._gives():
            assert self.flow is not None
            message = self.flow.give()
            body = message.body()
            self.sent += 1
            return pack_header(self.framing.mini, self.sent, message.number, len(body)) + body
        return super().take()

    def _left(self, number: int, body: bytes) -> None:
        if self.flow is not None and number == self.data_number:
            self.flow.left(len(body))
            self._copy(body)

    # -- moving --------------------------------------------------------------------------------

    def switch(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """Go on with the target: tokens go on as well if it has them."""
        self._flow_before = None if self.flow is None else self.flow.twin()
        report = self.replay
        super().switch(framing, server_caps)
        if not has(server_caps, TOKENS):
            self.flow = None
        elif self.flow is None:
            self.flow = self._make_flow()
        if report is not None:
            self._resume(report)
        else:
            self.copies = None

    def switch_back(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """The source goes on, and so does what it knew of tokens."""
        super().switch_back(framing, server_caps)
        self.copies = None
        then, self._flow_before = self._flow_before, None
        if then is None or self.flow is None:
            self.flow = then
        else:
            self.flow.back(then)

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew: the other server tells its own tokens, and is told ours."""
        self.copies = None
        if not has(server_caps, TOKENS):
            self.flow = None
        else:
            self.flow = self._make_flow() if self.flow is None else self.flow.anew()
        return super().restart(framing, server_caps)
