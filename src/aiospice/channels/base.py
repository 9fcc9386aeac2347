"""An open channel, client end: what all channels have in common.

A channel outlives its connections. `ClientChannel` holds the queue of what is still to be sent,
the count of messages received, the acknowledgement window and the phase of a hand-over; the
`Framing` inside belongs to the connection that it is on and is exchanged when the session moves.

The hand-over, as spice-server drives it (``server/red-channel-client.cpp``)::

    OPEN --MIGRATE--> (flag 1: FLUSH_MARK goes out ahead of the queue)
         --flag 2---> AWAITING_DATA --MIGRATE_DATA--> FROZEN
         --no flag 2--------------------------------> FROZEN
    FROZEN --switch(target)--> OPEN   (MIGRATE_DATA first, then the queue)
    any --restart(target)--> OPEN     (everything of the old connection is gone)
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from aiospice.channels.events import ChannelClosing, Event, Notified
from aiospice.channels.framing import Framing
from aiospice.channels.unused import CountsUnused
from aiospice.errors import AiospiceError, RemoteProtocolError
from aiospice.wire import common
from aiospice.wire.channels import channel_name
from aiospice.wire.header import pack_header, read_sub_messages
from aiospice.wire.hold import Held, Hold, Release
from aiospice.wire.keep import Committed, Keep, Replay
from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.registry import find, message_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ChannelPhase", "ClientChannel", "Key"]

#: Channel type and id.
Key = tuple[int, int]

#: Messages up to this number are of the base channel and belong to one connection.
_BASE_LAST = 100
#: Answers that wait for a peer that asks and doesn't read; more end the channel.
ANSWER_LIMIT = 10_000
#: Answers that leave together, unless they are long.
ANSWERS_AT_ONCE = 64
_SHORT = 64
#: How long a server may hold a channel back (`aiospice.wire.hold`), in seconds.
HELD_SECONDS = 30.0
_ACK = common.Ack().body()
_MIGRATE = common.Migrate.number
_MIGRATE_DATA = common.MigrateData.number


class ChannelPhase(Enum):
    """Where a channel is between two connections."""

    OPEN = "open"
    AWAITING_DATA = "awaiting-data"
    FROZEN = "frozen"
    CLOSED = "closed"


class ClientChannel(CountsUnused):
    """One channel of a session, client end; subclasses add what their channel's messages do."""

    #: What to do with each message above 100, by its number.
    handlers: ClassVar[dict[int, str]] = {}

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        self.key = key
        self.name = channel_name(*key)
        self.framing = framing
        self.server_caps = server_caps
        self.phase = ChannelPhase.OPEN
        #: The session has a target for this channel, so that MIGRATE may come.
        self.may_migrate = False
        self.error: AiospiceError | None = None
        #: Messages received; display servers count on it (WAIT_FOR_CHANNELS).
        self.serial = 0
        self.sent = 0
        #: Messages that nothing was done with: how many of each unknown number, and name.
        self.unknown: dict[int, int] = {}
        self.ignored: dict[str, int] = {}
        #: Points of other channels that must be reached before reading goes on.
        self.waits: tuple[common.WaitForChannel, ...] = ()
        #: Flags of the MIGRATE that is being followed, and the record that came with it.
        self.migrate_flags = 0
        self.migrate_data: bytes | None = None
        #: When MIGRATE came, None outside a hand-over.
        self.migrate_since: float | None = None
        self._ack_window = 0
        self._ack_left = 0
        self._urgent: deque[tuple[int, bytes]] = deque()
        self._queue: deque[tuple[int, bytes]] = deque()
        self.queued_bytes = 0
        #: Whether the queue may leave at all (a port waits for the guest to open it).
        self.gate_open = True
        #: The session is leaving this server: what is queued is for the next one.
        self.suspended = False
        #: The server holds us back: nothing of the queue leaves, until then at most.
        self.held_until: float | None = None
        #: The source has said how far the guest is: the rest is to be sent to the target.
        self.replay: Replay | None = None
        #: The target is to be told what is shown here, before anything else.
        self.shows_due = False
        #: What is left of a message with sub-messages (number, body), and that message's serial.
        self._parts: deque[tuple[int, bytes]] = deque()
        self._parts_serial = 0
        self._events: list[Event] = []
        self._now = 0.0

    # -- out ---------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue a message; it leaves on whatever connection the channel is on by then."""
        body = message.body()
        self._queue.append((message.number, body))
        self.queued_bytes += len(body)

    def _send_first(self, message: Message) -> None:
        """Answer ahead of the queue, on this connection or never."""
        self._answer_first(message.number, message.body())

    def _answer_first(self, number: int, body: bytes) -> None:
        if len(self._urgent) >= ANSWER_LIMIT:
            self._asks_too_much(number)
        self._urgent.append((number, body))

    def _reply(self, message: Message) -> None:
        """Answer in the queue, behind what has been sent."""
        number = message.number
        if len(self._queue) >= ANSWER_LIMIT:
            waiting = sum(1 for queued, _ in self._queue if queued == number)
            if waiting >= ANSWER_LIMIT:
                self._asks_too_much(number)
        self.send(message)

    def _asks_too_much(self, number: int) -> None:
        name = message_name(self.key[0], CLIENT, number)
        raise RemoteProtocolError(
            f"the server asks and does not read: {ANSWER_LIMIT} answers ({name}) wait for it"
        )

    @property
    def idle(self) -> bool:
        """There is nothing that `take` could ever give."""
        return not (self._urgent or self._queue)

    @property
    def wants_to_send(self) -> bool:
        """Whether `take` would give something now."""
        if self.phase is ChannelPhase.CLOSED:
            return False
        return bool(self._urgent) or (bool(self._queue) and self._queue_may_leave())

    def _queue_may_leave(self) -> bool:
        may = self.phase is ChannelPhase.OPEN and self.gate_open and not self.holds_back
        return may and bool(self._queue)

    def take(self) -> bytes:
        """The next message with its header, b"" if there is none that may leave now.

        One at a time: what has not been taken can still go to another server. But answers that
        wait for this one come together, since each write to a socket costs more than they do.
        """
        if self._urgent and self.phase is not ChannelPhase.CLOSED:
            return self._take_answers()
        if self._queue_may_leave():
            number, body = self._queue.popleft()
            self.queued_bytes -= len(body)
            self._left(number, body)
            self.sent += 1
            return pack_header(self.framing.mini, self.sent, number, len(body)) + body
        return b""

    def _take_answers(self) -> bytes:
        parts: list[bytes] = []
        for _ in range(min(len(self._urgent), ANSWERS_AT_ONCE)):
            number, body = self._urgent.popleft()
            self.sent += 1
            parts += (pack_header(self.framing.mini, self.sent, number, len(body)), body)
            if len(body) > _SHORT:
                break
        return b"".join(parts)

    def _left(self, number: int, body: bytes) -> None:
        """A queued message is about to leave. For subclasses that keep count."""

    @property
    def holds_back(self) -> bool:
        """Nothing of our own may leave for this server now."""
        return self.suspended or self.held_until is not None

    # -- in ----------------------------------------------------------------------------------

    @property
    def between_messages(self) -> bool:
        """What comes next is the beginning of a message, and may be read."""
        whole = self.phase is ChannelPhase.OPEN and not self.waits and not self._parts
        return whole and self.framing.drained

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> list[Event]:
        """Take bytes in and return what they meant. Never raises: see ``error``."""
        self._now = now
        if data:
            self.framing.feed(data)
        try:
            while self.phase is not ChannelPhase.CLOSED and not self.waits:
                if self._parts:
                    self._next_part()
                    continue
                if self.framing.drained:
                    break
                if self.phase is ChannelPhase.FROZEN:
                    break  # the source may still cancel, and go on here before we know of it
                if self.phase is ChannelPhase.OPEN and self._take_run():
                    continue
                frame = self.framing.next()
                if frame is None:
                    break
                self._frame(*frame)
        except AiospiceError as error:
            self._fail(error)
        events, self._events = self._events, []
        return events

    def released(self, now: float) -> list[Event]:
        """The points that were waited for are reached: go on reading."""
        self.waits = ()
        return self.receive(b"", now)

    def _fail(self, error: AiospiceError) -> None:
        if isinstance(error, RemoteProtocolError) and not error.where:
            error.where = self.name
        self.error = error
        self.phase = ChannelPhase.CLOSED

    def _frame(self, number: int, serial: int, sub_list: int, body: bytes) -> None:
        if number != common.List.number and not sub_list:
            self._message(number, body)
            self._counted(serial)
            return
        found = read_sub_messages(body, sub_list)
        self._parts.extend((sub_number, bytes(sub_body)) for sub_number, sub_body in found)
        if number != common.List.number:
            self._parts.append((number, body))
        self._parts_serial = serial
        if not self._parts:
            self._counted(serial)

    def _next_part(self) -> None:
        """Go on with a message that has sub-messages: one of them may be a wait."""
        self._message(*self._parts.popleft())
        if not self._parts:
            self._counted(self._parts_serial)

    def _take_run(self) -> bool:
        """Handle several messages at once, for subclasses that can; False if there are none."""
        return False

    def _counted(self, serial: int, count: int = 1) -> None:
        """So many messages have been handled."""
        self.serial = serial or self.serial + count
        if self._ack_window:
            self._ack_left -= count
            while self._ack_left <= 0:
                self._ack_left += self._ack_window
                if self.phase is ChannelPhase.OPEN:
                    self._answer_first(common.Ack.number, _ACK)

    def _message(self, number: int, body: bytes) -> None:
        if self.phase is ChannelPhase.AWAITING_DATA and number != _MIGRATE_DATA:
            raise RemoteProtocolError(
                "came between MIGRATE and MIGRATE_DATA, where nothing may come",
                message=message_name(self.key[0], SERVER, number),
            )
        if self.phase is ChannelPhase.FROZEN:
            raise RemoteProtocolError(
                "came after the hand-over began, when the source must be silent",
                message=message_name(self.key[0], SERVER, number),
            )
        if number <= _BASE_LAST:
            handler = _BASE_HANDLERS.get(number)
            if handler is None:
                self._not_known(number, body)
            else:
                kind = find(0, SERVER, number)
                assert kind is not None
                handler(self, kind.parse(body))
            return
        kind = find(self.key[0], SERVER, number)
        if kind is None:
            self._not_known(number, body)
            return
        name = self.handlers.get(number) or _EXTENSIONS.get(number)
        if name is None:
            self._other(kind, body)
        else:
            getattr(self, name)(kind.parse(body))

    def _other(self, kind: type[Message], body: bytes) -> None:
        """A declared message without a handler."""
        kind.parse(body)
        self._ignored(kind.__name__, "nothing is done with it", body)

    # -- messages of all channels --------------------------------------------------------------

    def _on_migrate(self, message: common.Migrate) -> None:
        if not self.may_migrate:
            raise RemoteProtocolError(
                "no migration is in progress, so there is nowhere to go", message="Migrate"
            )
        if self.replay is not None and message.flags:
            raise RemoteProtocolError("flags behind a Replay", message="Migrate")
        self.migrate_flags = message.flags
        self.migrate_since = self._now
        self.migrate_data = None
        # What was meant for this connection alone must not follow the flush mark.
        self._urgent.clear()
        if message.flags & common.MigrateFlags.NEED_FLUSH:
            self._send_first(common.MigrateFlushMark())
        wants_data = message.flags & common.MigrateFlags.NEED_DATA_TRANSFER
        self.phase = ChannelPhase.AWAITING_DATA if wants_data else ChannelPhase.FROZEN

    def _on_migrate_data(self, message: common.MigrateData) -> None:
        if self.phase is not ChannelPhase.AWAITING_DATA:
            raise RemoteProtocolError("nobody asked for a record", message="MigrateData")
        self.migrate_data = message.data
        self.phase = ChannelPhase.FROZEN

    def _on_hold(self, message: Hold) -> None:
        self.held_until = self._now + HELD_SECONDS
        self._send_first(Held())

    def _on_release(self, message: Release) -> None:
        self.held_until = None

    def _on_keep(self, message: Keep) -> None:
        raise RemoteProtocolError("there is nothing to keep here", message="Keep")

    def _on_committed(self, message: Committed) -> None:
        raise RemoteProtocolError("no copies are kept", message="Committed")

    def _on_replay(self, message: Replay) -> None:
        if not self.may_migrate:
            raise RemoteProtocolError("no migration is in progress", message="Replay")
        self.replay = message

    def _on_set_ack(self, message: common.SetAck) -> None:
        self._ack_window = message.window
        # This message is itself the first that counts, and is counted after it is handled.
        self._ack_left = message.window + 1
        self._send_first(common.AckSync(generation=message.generation))

    def _on_ping(self, message: common.Ping) -> None:
        self._send_first(common.Pong(id=message.id, timestamp=message.timestamp))

    def _on_wait(self, message: common.WaitForChannels) -> None:
        self._wait_for(message.waits)

    def _wait_for(self, waits: tuple[common.WaitForChannel, ...]) -> None:
        if any((wait.channel_type, wait.channel_id) == self.key for wait in waits):
            raise RemoteProtocolError("the channel is to wait for itself", message="waits")
        self.waits = waits

    def _on_disconnecting(self, message: common.Disconnecting) -> None:
        self._events.append(ChannelClosing(channel=self.name, reason=message.reason))

    def _on_notify(self, message: common.Notify) -> None:
        text = message.text.split(b"\0", 1)[0].decode("utf-8", "replace")
        self._events.append(Notified(channel=self.name, severity=message.severity, text=text))

    # -- moving --------------------------------------------------------------------------------

    def switch(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """Go on with another server as if nothing had happened (seamless)."""
        self._connect(framing, server_caps)
        self._urgent.clear()
        if self.migrate_flags & common.MigrateFlags.NEED_DATA_TRANSFER:
            data = self.migrate_data
            assert data is not None
            self._send_first(common.ClientMigrateData(data=data))
        self.migrate_data = None
        self.migrate_since = None

    def switch_back(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """The hand-over was cancelled: the source goes on."""
        self._connect(framing, server_caps)
        self._urgent.clear()
        self.unfreeze()

    def unfreeze(self) -> None:
        """The hand-over was cancelled before this channel had switched."""
        self.migrate_data = None
        self.migrate_since = None
        self.replay = None
        self._urgent.clear()
        if self.phase is not ChannelPhase.CLOSED:
            self.phase = ChannelPhase.OPEN

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew on another connection; what was in flight on the old one is gone.

        Messages that had not been taken stay in the queue, unless they made sense only there.
        """
        self._connect(framing, server_caps)
        self._urgent.clear()
        self.migrate_data = None
        self.migrate_since = None
        self.serial = 0
        return self.start()

    def start(self) -> list[Event]:
        """Send what a new channel begins with."""
        return []

    def _connect(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        self.framing = framing
        self.server_caps = server_caps
        self.phase = ChannelPhase.OPEN
        self.may_migrate = False
        self.suspended = False
        self.held_until = None
        self.replay = None
        self.error = None
        self.waits = ()
        self._parts.clear()
        self.sent = 0
        self._ack_window = self._ack_left = 0


_EXTENSIONS = {
    Hold.number: "_on_hold",
    Release.number: "_on_release",
    Keep.number: "_on_keep",
    Committed.number: "_on_committed",
    Replay.number: "_on_replay",
}
_BASE_HANDLERS: dict[int, Callable[..., None]] = {
    _MIGRATE: ClientChannel._on_migrate,
    _MIGRATE_DATA: ClientChannel._on_migrate_data,
    common.SetAck.number: ClientChannel._on_set_ack,
    common.Ping.number: ClientChannel._on_ping,
    common.WaitForChannels.number: ClientChannel._on_wait,
    common.Disconnecting.number: ClientChannel._on_disconnecting,
    common.Notify.number: ClientChannel._on_notify,
}
