"""The target's side of a hand-over: whom it expects, and how far each session has arrived.

A session is expected by `TargetMigration.expect`, once, and for some time only. It then goes

::

    LINKED -asks, agreed-> AGREED -first record-> ARRIVING -last record-> (arrived)
    LINKED -begins anew-> (arrived)

and each stage has its limit, at which the client is dropped. Pure and plain data. Facts:
spice-server ``server/reds.cpp``; what is expected, and the limits, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from aiospice.channels.events import Event

__all__ = [
    "ARRIVE_SECONDS",
    "EXPECT_SECONDS",
    "GO_BACK_SECONDS",
    "RECORD_SECONDS",
    "Arrival",
    "ArrivalStage",
    "Expectation",
    "SessionArrived",
    "SessionExpected",
    "SessionMissed",
    "TargetMigration",
]

Key = tuple[int, int]

#: How long a session is expected, if nobody says how long.
EXPECT_SECONDS = 30.0
#: How long a client that is linked may wait for its machine to come.
ARRIVE_SECONDS = 600.0
#: How long the other records may take once the first is there (spice-server's display: 10 s).
RECORD_SECONDS = 10.0
#: How long a client may stay whose machine doesn't come: until its source has told it so.
GO_BACK_SECONDS = 5.0


class SessionExpected(Event):
    """A session may come from a source; ``client`` is None for the first that has the ticket."""

    client: int | None
    seconds: float


class SessionArrived(Event):
    """A session is here; ``whole``: nothing of it had to begin anew."""

    client: int
    whole: bool


class SessionMissed(Event):
    """A session that was expected hasn't come, or not all of it."""

    client: int | None
    reason: str


class ArrivalStage(Enum):
    """How far a session has come."""

    LINKED = "linked"
    AGREED = "agreed"
    ARRIVING = "arriving"


@dataclass(slots=True)
class Expectation:
    """Who may come, once."""

    #: None for the first that has the ticket.
    connection_id: int | None
    #: None: the server's own.
    ticket: str | None
    until: float


@dataclass(slots=True)
class Arrival:
    """A session that is on its way."""

    deadline: float
    stage: ArrivalStage = ArrivalStage.LINKED
    #: Channels whose record hasn't come.
    waiting: set[Key] = field(default_factory=set)
    #: The link to the source is lost.
    cut_off: bool = False
    #: Why its machine doesn't come: its client is left to go by itself.
    called_off: str = ""
    #: Channels that begin when the first record is there, or with the session.
    parked: set[Key] = field(default_factory=set)


class TargetMigration:
    """See the module's text."""

    def __init__(self) -> None:
        self.expected: list[Expectation] = []
        self.arrivals: dict[int, Arrival] = {}
        #: Sessions to be dropped, with the reason.
        self.late: list[tuple[int, str]] = []
        self.events: list[Event] = []

    # -- expecting -------------------------------------------------------------------------------

    def expect(
        self, connection_id: int | None, ticket: str | None, now: float, seconds: float
    ) -> None:
        """Let a session come, once; see `Expectation`."""
        self.expected.append(Expectation(connection_id, ticket, now + seconds))
        self.events.append(SessionExpected(client=connection_id, seconds=seconds))

    def expects(self, connection_id: int, now: float) -> Expectation | None:
        """What lets a session of that number come, None if nothing does."""
        found = [one for one in self.expected if now < one.until]
        for one in found:
            if one.connection_id == connection_id:
                return one
        for one in found:
            if one.connection_id is None:
                return one
        return None

    def forget(self) -> None:
        """Nobody is expected any more; who is linked may still arrive."""
        self.expected.clear()

    # -- arriving --------------------------------------------------------------------------------

    def linked(self, client: int, expectation: Expectation, now: float) -> None:
        """The main channel of an expected session is linked: nobody else comes for it."""
        self.expected.remove(expectation)
        self.arrivals[client] = Arrival(now + ARRIVE_SECONDS)

    def opened(self, client: int, key: Key, *, has_record: bool) -> bool:
        """A channel of it is linked; whether it is to wait for its record now."""
        arrival = self.arrivals[client]
        if has_record and arrival.stage is not ArrivalStage.LINKED:
            arrival.waiting.add(key)
            return True
        arrival.parked.add(key)
        return False

    def agreed(self, client: int, with_record: set[Key]) -> set[Key]:
        """It is to arrive whole; gives the parked channels that wait for records now."""
        arrival = self.arrivals[client]
        arrival.stage = ArrivalStage.AGREED
        now_waiting = arrival.parked & with_record
        arrival.parked -= now_waiting
        arrival.waiting |= with_record
        return now_waiting

    def record(self, client: int, key: Key, now: float) -> set[Key]:
        """The record of a channel is restored; gives the channels that begin with the first."""
        arrival = self.arrivals.get(client)
        if arrival is None:
            return set()
        if arrival.stage is ArrivalStage.AGREED:
            arrival.stage = ArrivalStage.ARRIVING
            arrival.deadline = now + RECORD_SECONDS
        arrival.waiting.discard(key)
        begin, arrival.parked = arrival.parked, set()
        self._look(client)
        return begin

    def extend(self, client: int, until: float) -> None:
        """A record is here and waits for something else: that isn't its client's fault."""
        arrival = self.arrivals.get(client)
        if arrival is not None:
            arrival.deadline = max(arrival.deadline, until + RECORD_SECONDS)

    def touched(self, client: int, key: Key) -> bool:
        """Something came on a parked channel; whether it is to begin by that."""
        arrival = self.arrivals.get(client)
        if arrival is None or arrival.stage is ArrivalStage.LINKED or key not in arrival.parked:
            return False
        arrival.parked.discard(key)
        return True

    def started(self, client: int) -> set[Key]:
        """It begins anew here; gives the channels that were parked."""
        arrival = self.arrivals.pop(client)
        self.events.append(SessionArrived(client=client, whole=False))
        return arrival.parked

    def channel_gone(self, client: int, key: Key) -> None:
        """A channel has ended before its record came."""
        arrival = self.arrivals.get(client)
        if arrival is not None:
            arrival.waiting.discard(key)
            arrival.parked.discard(key)
            if arrival.stage is ArrivalStage.ARRIVING:
                self._look(client)

    def gone(self, client: int, reason: str) -> None:
        """The session has ended."""
        arrival = self.arrivals.pop(client, None)
        if arrival is not None and not arrival.called_off:
            self.events.append(SessionMissed(client=client, reason=reason))

    def _look(self, client: int) -> None:
        if not self.arrivals[client].waiting:
            del self.arrivals[client]
            self.events.append(SessionArrived(client=client, whole=True))

    def link_changed(self, up: bool, now: float) -> None:
        """The link to the source is lost (or back): what it was to tell won't come for ever."""
        for arrival in self.arrivals.values():
            if arrival.called_off:
                continue
            arrival.cut_off = not up
            if arrival.stage is not ArrivalStage.ARRIVING:
                arrival.deadline = now + (ARRIVE_SECONDS if up else RECORD_SECONDS)

    def call_off(self, client: int, reason: str, now: float) -> bool:
        """Its machine doesn't come; whether its client may be connecting still.

        Such a client goes as soon as its source says so. A connection that is closed or refused
        until then is an error to it, and several of them end a spice-gtk (0.42, of which each
        resumes the coroutine that waits for all).
        """
        arrival = self.arrivals[client]
        if arrival.stage is ArrivalStage.ARRIVING:
            return False
        if not arrival.called_off:
            arrival.called_off = reason
            arrival.deadline = now + GO_BACK_SECONDS
            self.events.append(SessionMissed(client=client, reason=reason))
        return True

    @property
    def awaits(self) -> bool:
        """Somebody is to come, or arrives: not those whose machine doesn't come."""
        return bool(self.expected) or any(not one.called_off for one in self.arrivals.values())

    def is_off(self, client: int) -> bool:
        """Whether it is here, and its machine doesn't come."""
        arrival = self.arrivals.get(client)
        return arrival is not None and bool(arrival.called_off)

    # -- time ------------------------------------------------------------------------------------

    def next_wake(self) -> float | None:
        """When `wake` wants to be called."""
        if not self.expected and not self.arrivals:
            return None
        times = [one.until for one in self.expected]
        times += [arrival.deadline for arrival in self.arrivals.values()]
        return min(times, default=None)

    def wake(self, now: float) -> None:
        """Give up on what takes too long."""
        for one in [one for one in self.expected if one.until <= now]:
            self.expected.remove(one)
            self.events.append(SessionMissed(client=one.connection_id, reason="it hasn't come"))
        for client, arrival in self.arrivals.items():
            if arrival.deadline <= now:
                arrival.deadline = now + RECORD_SECONDS
                what = "its records" if arrival.stage is ArrivalStage.ARRIVING else "its machine"
                why = ": the link to the source is lost" if arrival.cut_off else ""
                text = arrival.called_off or f"{what} didn't come in time{why}"
                self.late.append((client, text))
