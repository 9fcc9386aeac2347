"""A channel, server end: what all channels have in common.

`ServerChannel` queues what is to be sent, cuts what comes into messages, counts what the client
has acknowledged, and measures the way there and back. Facts: spice-server
``server/red-channel-client.cpp``.

Nothing that a client sends makes a queue grow without a limit: there are no answers in this base
but those that a subclass sends, and a client that asks faster than it reads meets `ASKED_LIMIT`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.unused import CountsUnused
from aiospice.errors import AiospiceError, RemoteProtocolError
from aiospice.wire import common
from aiospice.wire.channels import channel_name
from aiospice.wire.handover import RECORDS
from aiospice.wire.header import pack_header, read_sub_messages
from aiospice.wire.hold import HOLD_CHANNELS, Held, Hold, Release
from aiospice.wire.keep import (
    KEEP_CHANNELS,
    REPLAY_CHANNELS,
    RESUME_NUMBER,
    SHOWS_LIMIT,
    Committed,
    Keep,
    Keeping,
    Replay,
)
from aiospice.wire.message import CLIENT, Message
from aiospice.wire.registry import find, message_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiospice.channels.base import Key

__all__ = [
    "ASKED_LIMIT",
    "TOGETHER",
    "CopiesTold",
    "FlushMarked",
    "HeldBack",
    "Passed",
    "RecordArrived",
    "Resumed",
    "ServerChannel",
    "ServerPhase",
]

#: Messages up to this number are of the base channel.
_BASE_LAST = 100
#: Answers to a client's questions that may wait for it; one more ends the channel.
ASKED_LIMIT = 1_000
#: Messages leave together until so many bytes are reached: each write to a socket costs.
TOGETHER = 16 << 10
#: Bytes that may wait on a channel that is yet to begin.
PARKED_LIMIT = 256 << 10
#: Pings that are under way; an older one that isn't answered is forgotten.
_PINGS = 4
#: Kinds of unknown and unused messages that are counted by name; a client can't make more.
_COUNTED = 64


class ServerPhase(Enum):
    """Whether a channel takes part, and where it is while its session moves."""

    OPEN = "open"
    #: On a target: it isn't begun. Nothing is sent, and what comes waits.
    PARKED = "parked"
    #: On a target: the first message must be the record of the source.
    WAITING = "waiting for its record"
    #: On a source: MIGRATE is the last that is sent, but for the record.
    MIGRATING = "migrating"
    CLOSED = "closed"


class FlushMarked(Event):
    """The client has sent all that it sends to the source: the record can be made."""


class HeldBack(Event):
    """The client sends nothing more on this channel (`ServerChannel.hold`)."""


class CopiesTold(Event):
    """The client keeps copies of all data behind this, or would have too many (`Keeping`)."""

    on: bool


class Resumed(Event):
    """The first message of a client that goes on by itself: `Resume`, or `Shows` on a display.

    The channel is parked until `ServerChannel.unpark`.
    """

    message: Message


class Passed(Event):
    """A message that isn't handled here but goes on as it came (`ServerChannel.passes_on`).

    ``behind``: the client had sent its mark before, behind which nothing is to come.
    """

    number: int
    body: bytes
    behind: bool


class RecordArrived(Event):
    """A client hands over the source's record. The channel is parked until `ServerChannel.unpark`.

    Nothing of it has been looked at but its size.
    """

    data: bytes


#: Messages are cut and looked at.
_READING = (ServerPhase.OPEN, ServerPhase.WAITING, ServerPhase.MIGRATING)


class ServerChannel(CountsUnused):
    """One channel of a client's session, server end; subclasses add what their messages do."""

    #: What to do with each message above 100, by its number.
    handlers: ClassVar[dict[int, str]] = {}
    #: On a target: what the client says there waits for what it had said to the source.
    awaits_late: ClassVar[bool] = True
    #: Messages above 100 that are handled here even if the channel passes on.
    never_passed: ClassVar[frozenset[int]] = frozenset()
    #: Messages that may come before the record of a hand-over.
    before_record: ClassVar[frozenset[int]] = frozenset((common.ClientMigrateData.number,))
    #: The largest body in bytes that a client may send.
    limit: ClassVar[int] = 64 << 10

    def __init__(self, key: Key, framing: Framing, client_caps: tuple[int, ...] = ()) -> None:
        self.key = key
        self.name = channel_name(*key)
        self.framing = framing
        framing.limit = min(framing.limit, self.limit)
        self.client_caps = client_caps
        self.phase = ServerPhase.OPEN
        self.error: AiospiceError | None = None
        #: Messages that have been taken, which display clients count on (WAIT_FOR_CHANNELS).
        self.serial = 0
        self.received = 0
        #: Messages that nothing was done with: how many of each unknown number, and name.
        self.unknown: dict[int, int] = {}
        self.ignored: dict[str, int] = {}
        #: Nothing is read from the connection while it is set: a device behind it is full.
        self.reading_paused = False
        #: Seconds that the last ping took there and back, None before the first answer.
        self.round_trip: float | None = None
        #: Bytes up to which messages leave together; 0: each by itself. Over TLS that is a must:
        #: spice-gtk doesn't see what its TLS holds behind a message until more comes on the socket.
        self.together = TOGETHER
        self._queue: deque[tuple[int, bytes]] = deque()
        #: Bytes of bodies that wait.
        self.queued_bytes = 0
        self._asked = 0
        #: Acknowledgements: the window, messages taken and not acknowledged, what was asked for.
        self.ack_window = 0
        self.unacked = 0
        self._ack_generation = 0
        self._ack_synced = 0
        #: When the last acknowledgement came, or the first message went that none has come for.
        self.acked_at = 0.0
        self._pings: dict[int, float] = {}
        self._ping_id = 0
        self._events: list[Event] = []
        self._now = 0.0
        #: On a source: the flags of MIGRATE, and whether the client's mark has come.
        self.migrate_flags = 0
        self.flushed = False
        #: On a source: the client was asked to stop sending, and hasn't said yet that it has.
        self.holds: bool | None = None
        #: The client was asked to keep copies of what it sends here, and keeps them.
        self.keep_asked = False
        self.keeps = False
        #: On a target: the client goes on by itself, without a record.
        self.resumes = False
        #: On a source: what the client says is for the target, and told as `Passed`.
        self.passes_on = False
        #: On a target: the record may come from the source itself, and the client's messages then
        #: wait for what it had sent there (``late_awaited``).
        self.by_link = False
        self.late_awaited = False
        #: On a source that stays one: the mark of a client that was sent off hasn't come. On a
        #: target: the session stays at its source, and what its client says here is given back.
        self.mark_owed = self.gives_back = False
        self._ahead: deque[tuple[int, int, int, bytes]] = deque()
        self._limit_before = 0

    # -- out ---------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue a message."""
        self.send_body(message.number, message.body())

    def send_body(self, number: int, body: bytes) -> None:
        """Queue a message whose body is packed already, so that clients can share it."""
        if self.phase is ServerPhase.OPEN:
            self._put(number, body)

    def _put(self, number: int, body: bytes) -> None:
        self._queue.append((number, body))
        self.queued_bytes += len(body)

    def answer(self, message: Message) -> None:
        """Queue what a client has asked for; a client that asks and doesn't read is closed."""
        self._asked += 1
        if self._asked > ASKED_LIMIT:
            text = f"the client asks and does not read: {ASKED_LIMIT} answers wait for it"
            self.fail(RemoteProtocolError(text))
        self.send(message)

    @property
    def queued(self) -> int:
        """Messages that wait."""
        return len(self._queue)

    @property
    def wants_to_send(self) -> bool:
        """Whether `take` would give something now."""
        return bool(self._queue) and self.phase is not ServerPhase.CLOSED

    def take(self) -> bytes:
        """The next message with its header, b"" if there is none; small ones come together."""
        if not self.wants_to_send:
            return b""
        parts: list[bytes] = []
        size = 0
        while self._queue and (size < self.together or not parts):
            number, body = self._queue.popleft()
            self.queued_bytes -= len(body)
            size += len(body)
            self.serial += 1
            if self.ack_window:
                self._count(number)
            parts += (pack_header(self.framing.mini, self.serial, number, len(body)), body)
            self._left(number, body)
        if not self._queue:
            self._asked = 0
        return b"".join(parts)

    def _left(self, number: int, body: bytes) -> None:
        """A message leaves. For subclasses that keep count."""

    def finish(self, reason: int = common.LinkCode.OK) -> None:
        """Say farewell: the last message before the connection is closed."""
        self.send(common.Disconnecting(time_stamp=int(self._now * 1e9), reason=reason))

    def notify(self, text: str, severity: int = common.NotifySeverity.WARN) -> None:
        """Show text to the person in front of the client."""
        # Clients print it as text of C: the NUL is counted.
        body = text.encode() + b"\0"
        self.send(
            common.Notify(
                time_stamp=int(self._now * 1e9),
                severity=severity,
                visibility=common.NotifyVisibility.HIGH,
                what=0,
                text=body,
            )
        )

    # -- acknowledgements and the clock ----------------------------------------------------------

    def start_acks(self, window: int) -> None:
        """Ask for an acknowledgement every ``window`` messages."""
        self._ack_generation += 1
        self.ack_window = window
        self.send(common.SetAck(generation=self._ack_generation, window=window))

    def _count(self, number: int) -> None:
        if number == common.SetAck.number:
            self.unacked = 0  # the client begins to count with this one
        if not self.unacked:
            self.acked_at = self._now
        self.unacked += 1

    @property
    def blocked(self) -> bool:
        """Two windows of messages are under way: nothing should be added."""
        return bool(self.ack_window) and self.unacked >= 2 * self.ack_window

    def ping(self, now: float, padding: int = 0) -> int:
        """Measure the way there and back; ``padding`` bytes more measure the line's width.

        Gives the ping's number, for `_ponged`.
        """
        self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
        while len(self._pings) >= _PINGS:
            del self._pings[next(iter(self._pings))]
        self._pings[self._ping_id] = now
        self.send(common.Ping(id=self._ping_id, timestamp=int(now * 1e9), data=bytes(padding)))
        return self._ping_id

    def ponged(self, id: int) -> bool:
        """Whether a ping isn't awaited any more."""
        return id not in self._pings

    @property
    def pinged_at(self) -> float | None:
        """When the oldest ping was sent that is still to be answered, None if there is none."""
        return min(self._pings.values(), default=None)

    def next_wake(self) -> float | None:
        """When `wake` is to be called; None for never."""
        return None

    def wake(self, now: float) -> None:
        """The time of `next_wake` has come."""
        self._now = now

    # -- moving --------------------------------------------------------------------------------

    def migrate(self, flags: int) -> None:
        """Have the channel leave for the target (`common.MigrateFlags`), behind all that waits."""
        self.send(common.Migrate(flags=flags))
        if self.phase is ServerPhase.OPEN:
            self.phase = ServerPhase.MIGRATING
            self.migrate_flags = flags
            self._pings.clear()

    def hold(self) -> None:
        """Have a client of ours stop sending: `HeldBack` follows (`aiospice.wire.hold`)."""
        self.holds = True
        self.send(Hold())

    def keep(self, window: int) -> None:
        """Have a client of ours keep copies (`aiospice.wire.keep`); 0: none any more."""
        self.keep_asked = window > 0
        self.send(Keep(window=window))

    def committed(self, messages: int) -> None:
        """The guest has taken so many messages of a client that keeps copies."""
        if self._queue and self._queue[-1][0] == Committed.number and self._queue[-1][1]:
            self.queued_bytes -= len(self._queue.pop()[1])
        self.send(Committed(messages=messages))

    def expect_resume(self) -> None:
        """The client goes on by itself: its first message says how, and no record comes."""
        self.resumes = True
        self.framing.limit = max(self.framing.limit, SHOWS_LIMIT)
        if self._ahead:  # it was parked for the record that would have come
            self.phase, self.late_awaited = ServerPhase.WAITING, False

    def leave_with_copies(self, messages: int, partial: int) -> None:
        """Have a client that keeps copies leave: it sends the rest to the target."""
        self.send(Replay(messages=messages, partial=partial))
        self.migrate(0)
        self.passes_on = True

    def _on_keeping(self, message: Keeping) -> None:
        if not self.keep_asked:
            raise RemoteProtocolError("nobody asked for it", message="Keeping")
        self.keeps = bool(message.on)
        self._events.append(CopiesTold(on=self.keeps))

    def _on_resume(self, message: Message) -> None:
        if not self.resumes or self.phase is not ServerPhase.WAITING:
            raise RemoteProtocolError("nobody asked for it", message=type(message).__name__)
        self.resumes = False
        self.phase = ServerPhase.PARKED
        self._events.append(Resumed(message=message))

    def stay(self) -> None:
        """The machine stays: go on after `hold`, or after `migrate` if the client comes back."""
        if self.phase is ServerPhase.MIGRATING:
            self.phase = ServerPhase.OPEN
            self.mark_owed = self._marks(self.migrate_flags) and not self.flushed
            self.migrate_flags = 0
            self.flushed = False
        if self.holds is not None:
            self.holds = None
            self.send(Release())

    def _on_held(self, message: Held) -> None:
        if not self.holds:
            raise RemoteProtocolError("nobody asked for it", message="Held")
        self.holds = False
        self._events.append(HeldBack())

    def send_record(self, data: bytes) -> None:
        """The answer to the client's mark, and the last message of all."""
        if self.phase is ServerPhase.MIGRATING:
            self._put(common.MigrateData.number, data)

    def expect_record(self, more: int = 0) -> None:
        """The channel goes on with the record that the client brings, or not at all.

        ``more``: bytes by which it may be longer than upstream's.
        """
        kind = RECORDS[self.key[0]]
        self._limit_before = self.framing.limit
        self.framing.limit = max(kind.limit + more, self.framing.limit)
        self.phase = ServerPhase.WAITING

    def record_came(self) -> None:
        """The source itself has told the record; the client's messages wait for `late_ended`."""
        self.phase = ServerPhase.PARKED
        self.late_awaited = self.awaits_late

    def give_back(self) -> None:
        """The session stays at the source: all that its client says here is told as `Passed`."""
        self.unpark()
        self.phase = ServerPhase.OPEN
        self.passes_on = self.gives_back = True
        self.reading_paused = self.late_awaited = False

    def late_ended(self) -> None:
        """All that the client had sent to the source is here."""
        self.late_awaited = False

    def replay(self, messages: Iterable[tuple[int, bytes]], now: float) -> list[Event]:
        """Messages (number, body) of this channel's own that came elsewhere, or earlier.

        What they meant; see ``error`` as with `receive`.
        """
        self._now = now
        passes, self.passes_on = self.passes_on, False
        try:
            for number, body in messages:
                if number <= _BASE_LAST:
                    raise RemoteProtocolError(f"message {number} is nothing that comes late")
                if len(body) > self.framing.limit:
                    raise RemoteProtocolError(f"a late message of {len(body)} bytes")
                self._message(number, body)
        except AiospiceError as error:
            self.fail(error)
        self.passes_on = passes
        events, self._events = self._events, []
        return events

    def park(self) -> None:
        """The channel begins later, by `unpark`."""
        self.phase = ServerPhase.PARKED

    def unpark(self) -> None:
        """A channel that was parked, or whose record has come, takes part from now on."""
        if self.phase is ServerPhase.PARKED:
            self.framing.limit = self._limit_before or self.framing.limit
            self._limit_before = 0
            self.phase = ServerPhase.OPEN

    # -- in ----------------------------------------------------------------------------------

    @property
    def holds_back(self) -> bool:
        """Nothing is read from the connection for now."""
        return self.reading_paused or self.late_awaited

    def receive(self, data: bytes | bytearray | memoryview, now: float) -> list[Event]:
        """Take bytes in and return what they meant. Never raises: see ``error``.

        Stops at a message after which ``reading_paused`` is set; an empty ``data`` goes on there.
        """
        self._now = now
        if data:
            self.framing.feed(data)
        try:
            while self.phase in _READING and not self.holds_back:
                frame = self._ahead.popleft() if self._ahead else self.framing.next()
                if frame is None:
                    break
                self._frame(*frame)
            limited = self.phase is ServerPhase.PARKED and not self.by_link
            if limited and self.framing.buffered > PARKED_LIMIT:
                raise RemoteProtocolError(
                    f"{self.framing.buffered} bytes for a channel that is yet to begin"
                )
        except AiospiceError as error:
            self.fail(error)
        events, self._events = self._events, []
        return events

    def fail(self, error: AiospiceError) -> None:
        """End the channel with an error."""
        if isinstance(error, RemoteProtocolError) and not error.where:
            error.where = self.name
        self.error = error
        self.phase = ServerPhase.CLOSED

    def _frame(self, number: int, serial: int, sub_list: int, body: bytes) -> None:
        early = self.phase is ServerPhase.WAITING and number not in self.before_record
        # The record comes from the source itself, and hasn't yet.
        if early and self.by_link and not self.resumes:
            self._ahead.append((number, serial, sub_list, body))
            self.phase = ServerPhase.PARKED
            self.late_awaited = True
            return
        if not sub_list:
            self._message(number, body)
            return
        for sub_number, sub_body in read_sub_messages(body, sub_list):
            self._message(sub_number, bytes(sub_body))
        self._message(number, body)

    def _message(self, number: int, body: bytes) -> None:
        self.received += 1
        goes_on = self.resumes and number == RESUME_NUMBER
        if self.phase is ServerPhase.WAITING and number not in self.before_record and not goes_on:
            raise RemoteProtocolError(
                "came before the record of the hand-over, which has to be the first",
                message=message_name(self.key[0], CLIENT, number),
            )
        if number <= _BASE_LAST and self.gives_back:
            return
        if number <= _BASE_LAST:
            handler = _BASE_HANDLERS.get(number)
            if handler is None:
                self._not_known(number, body)
            else:
                kind = find(0, CLIENT, number)
                assert kind is not None
                handler(self, kind.parse(body))
            return
        channels, own = _EXTENSIONS.get(number, ((), ""))
        if self.key[0] in channels:
            extension = find(self.key[0], CLIENT, number)
            assert extension is not None
            getattr(self, own)(extension.parse(body))
            return
        if self.passes_on and number not in self.never_passed:
            self._events.append(Passed(number=number, body=body, behind=self.flushed))
            return
        kind = find(self.key[0], CLIENT, number)
        if kind is None:
            self._not_known(number, body)
            return
        name = self.handlers.get(number)
        if name is None:
            self._ignored(kind.__name__, "nothing is done with it", body)
            return
        message = kind.parse(body)
        try:
            getattr(self, name)(message)
        except RemoteProtocolError as error:
            if not error.message:
                error.message = kind.__name__
            raise

    def _not_known(self, number: int, body: bytes) -> None:
        if number not in self.unknown and len(self.unknown) >= _COUNTED:
            number = next(iter(self.unknown))
        super()._not_known(number, body)

    # -- messages of all channels --------------------------------------------------------------

    def _on_ack_sync(self, message: common.AckSync) -> None:
        if not self._ack_synced < message.generation <= self._ack_generation:
            raise RemoteProtocolError(
                f"generation {message.generation} was not asked for "
                f"(the last is {self._ack_generation})",
                message="AckSync",
            )
        self._ack_synced = message.generation

    def _on_ack(self, message: common.Ack) -> None:
        if self._ack_synced != self._ack_generation or not self.ack_window:
            return  # it counts by an older window
        if self.unacked < self.ack_window:
            raise RemoteProtocolError(
                f"acknowledges {self.ack_window} messages, {self.unacked} were sent", message="Ack"
            )
        self.unacked -= self.ack_window
        self.acked_at = self._now

    def _on_pong(self, message: common.Pong) -> None:
        sent = self._pings.pop(message.id, None)
        if sent is not None:
            self.round_trip = max(0.0, self._now - sent)
            self._ponged(message.id)

    def _ponged(self, id: int) -> None:
        """A ping was answered. For subclasses that measure by them."""

    def _on_flush_mark(self, message: common.MigrateFlushMark) -> None:
        if self.mark_owed and self.phase is ServerPhase.OPEN:
            self.mark_owed = False
            self.late_awaited = True  # what it had said at the target comes next
            self._events.append(FlushMarked())
            return
        if self.phase is not ServerPhase.MIGRATING or not self._asked_for_mark():
            raise RemoteProtocolError(
                "nobody asked for it: no migration is in progress", message="MigrateFlushMark"
            )
        if self.flushed:
            raise RemoteProtocolError("came a second time", message="MigrateFlushMark")
        self.flushed = True
        self._events.append(FlushMarked())

    def _asked_for_mark(self) -> bool:
        return self._marks(self.migrate_flags) and not self._queue

    @staticmethod
    def _marks(flags: int) -> bool:
        return bool(flags & common.MigrateFlags.NEED_FLUSH)

    def _on_migrate_data(self, message: common.ClientMigrateData) -> None:
        if self.phase is not ServerPhase.WAITING:
            raise RemoteProtocolError(
                "nobody asked for a record: this server expects no session",
                message="ClientMigrateData",
            )
        self.phase = ServerPhase.PARKED
        self._events.append(RecordArrived(data=message.data))

    def _on_disconnecting(self, message: common.ClientDisconnecting) -> None:
        pass  # the connection will be closed


#: Our own messages, whatever a channel passes on: on which channels, and what is done with them.
_EXTENSIONS: dict[int, tuple[tuple[int, ...], str]] = {
    Held.number: (HOLD_CHANNELS, "_on_held"),
    Keeping.number: (KEEP_CHANNELS, "_on_keeping"),
    RESUME_NUMBER: (REPLAY_CHANNELS, "_on_resume"),
}
_BASE_HANDLERS: dict[int, Callable[..., None]] = {
    common.AckSync.number: ServerChannel._on_ack_sync,
    common.Ack.number: ServerChannel._on_ack,
    common.Pong.number: ServerChannel._on_pong,
    common.MigrateFlushMark.number: ServerChannel._on_flush_mark,
    common.ClientMigrateData.number: ServerChannel._on_migrate_data,
    common.ClientDisconnecting.number: ServerChannel._on_disconnecting,
}
