"""A hand-over is called off after clients were sent off to be held: what they said at the target.

A stock client is held by sending it to the target (`aiospice.server.holding`), whose connections it
goes on with. If the guest stays after all, the target reads on there until the client has closed
them, and gives each message back over the link (`Late`, `LateEnd`). The source reads what the
client says on coming back behind that: so nothing is lost or out of order. What the target doesn't
give back in time, or can't since the link is gone, may be lost, which is told (`LateLost`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiospice.channels.server.base import ServerPhase
from aiospice.migration.peer import Late, LateEnd
from aiospice.server.arriving import MAIN
from aiospice.server.calledoff import CalledOff
from aiospice.server.forwarding import LATE_LIMIT
from aiospice.server.leftover import LateLost
from aiospice.wire.hold import HOLD_CHANNELS

if TYPE_CHECKING:
    from aiospice.channels.server.base import Passed, ServerChannel
    from aiospice.server.carried import MachineState
    from aiospice.server.config import ServerConfig
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession

__all__ = ["RETURN_SECONDS", "Returning"]

Key = tuple[int, int]
#: How long a client may take to close its connections to the target; the source waits longer.
RETURN_SECONDS = 5.0
#: spice-gtk leaves some of them open. One that has closed others has gone back, so it has said all
#: here that it says once nothing has come for so long.
STILL_SECONDS = 0.5


@dataclass(slots=True)
class _Return:
    """A channel at the source whose client comes back."""

    until: float
    #: Its mark is here: what it had sent before that is, too.
    marked: bool
    late: list[tuple[int, bytes]] = field(default_factory=list)
    size: int = 0
    ended: bool | None = None


class Returning(CalledOff):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        #: On the source: channels whose clients come back.
        self._returns: dict[tuple[int, Key], _Return] = {}
        #: On the target: the guest doesn't come; before that is known, what is to be told then of
        #: clients that went.
        self._gives_back = False
        self._untold: list[Late | LateEnd] = []
        #: On the target: channels whose clients go back, and how many bytes were given back.
        self._giving: dict[tuple[int, Key], int] = {}
        self._give_until: float | None = None
        #: Until when clients that have gone back have to be still.
        self._still: dict[int, float] = {}

    # -- the source --------------------------------------------------------------------------------

    @property
    def sent_off(self) -> bool:
        """Clients were sent to the target to be held."""
        return bool(self._sent_off())

    def _sent_off(self) -> dict[tuple[int, Key], ServerChannel]:
        found: dict[tuple[int, Key], ServerChannel] = {}
        for client, key in () if self.source.moved else self._holds:
            session = self.sessions.get(client)
            channel = session.channels.get(key) if session is not None else None
            if channel is not None and channel.phase is ServerPhase.MIGRATING:
                found[client, key] = channel
        return found

    @property
    def returning(self) -> bool:
        """Clients come back, and the target hasn't told all that they said there."""
        return bool(self._returns)

    def cancel_migration(self, now: float) -> None:
        """The guest stays: go on as if nothing had been."""
        sent = self._sent_off()
        marked = {place: channel.flushed for place, channel in sent.items()}
        super().cancel_migration(now)
        told = self.peer.up and self.peer.role == "source"
        for place, channel in sent.items():
            if self.sessions[place[0]].channels.get(place[1]) is not channel:
                continue
            if not told:
                self._events.append(LateLost(client=place[0], channel=channel.name))
                continue
            self._returns[place] = _Return(now + 1.5 * RETURN_SECONDS, marked[place])
            channel.late_awaited = marked[place]
            self._look_at_reading(self.sessions[place[0]].connections[place[1]], channel)

    def _returned(self, message: Late | LateEnd) -> None:
        place = (message.client, message.channel)
        back = self._returns.get(place)
        session = self.sessions.get(message.client)
        if back is None or session is None:
            return
        if isinstance(message, LateEnd):
            back.ended = message.whole
        else:
            back.late.append((message.number, message.body))
            back.size += len(message.body)
            if back.size > LATE_LIMIT:
                self._end(session, f"more than {LATE_LIMIT} bytes came back", None)
                return
        self._take_back(session, message.channel)

    def _take_back(self, session: ServerSession, key: Key) -> None:
        """What the client had said at the target is its device's, behind what it had said here."""
        place, channel = (session.id, key), session.channels[key]
        back = self._returns[place]
        if not back.marked:
            return
        late, back.late = back.late, []
        self._here(session, channel, late)
        if back.ended is not None and self._returns.get(place) is back:
            self._is_back(place, whole=back.ended)

    def _is_back(self, place: tuple[int, Key], *, whole: bool) -> None:
        del self._returns[place]
        session = self.sessions[place[0]]
        channel = session.channels[place[1]]
        if not whole:
            self._events.append(LateLost(client=place[0], channel=channel.name))
        channel.late_ended()
        self._look_at_reading(session.connections[place[1]], channel)
        self._go_on(session, place[1])

    def _flushed(self, session: ServerSession, channel: ServerChannel) -> None:
        back = self._returns.get((session.id, channel.key))
        if back is None:
            super()._flushed(session, channel)
            return
        back.marked = True
        self._take_back(session, channel.key)

    # -- the target --------------------------------------------------------------------------------

    def give_back(self, now: float) -> None:
        """The guest doesn't come: give the source what clients send here, until they are gone.

        For as long as `giving` says so, `RETURN_SECONDS` at most.
        """
        self._now = now
        self._gives_back = True
        untold, self._untold = self._untold, []
        for message in untold:
            self._tell_peer(message)
        for client in list(self.target.arrivals):
            self._give(self.sessions[client])

    def _give(self, session: ServerSession) -> None:
        """Read what a client says here until it has closed its channels."""
        self._give_until = self._now + RETURN_SECONDS
        session.leaving = True
        for key, channel in list(session.channels.items()):
            if key[0] not in HOLD_CHANNELS or key == MAIN or (session.id, key) in self._giving:
                continue
            if session.channels.get(key) is not channel:  # what the one before said has ended it
                continue
            self._giving[session.id, key] = 0
            channel.give_back()
            self._look_at_reading(session.connections[key], channel)
            self._go_on(session, key)

    def _tell_back(self, message: Late | LateEnd) -> None:
        if self._gives_back:
            self._tell_peer(message)
        elif self.peer.up:
            self._untold.append(message)

    def _goes(self, session: ServerSession) -> None:
        """A client goes before its machine is here: the source may have called it back already."""
        super()._goes(session)
        if any(self._waits_here(session, channel) for channel in session.channels.values()):
            self._give(session)

    def _waits_here(self, session: ServerSession, channel: ServerChannel) -> bool:
        """Whether a client may have been sent here to be held, and nothing of its machine is."""
        waits = channel.phase in (ServerPhase.WAITING, ServerPhase.PARKED) and channel.by_link
        known = session.id in self.target.arrivals and self.carried is None and self.peer.up
        known = known and not self.target.is_off(session.id)
        return known and waits and channel.key[0] in HOLD_CHANNELS and channel.key != MAIN

    @property
    def giving(self) -> bool:
        """Clients may still send what is to be given back."""
        return bool(self._giving)

    def _passed(self, session: ServerSession, channel: ServerChannel, event: Passed) -> None:
        place = (session.id, channel.key)
        if place not in self._giving:
            super()._passed(session, channel, event)
            return
        self._giving[place] += len(event.body)
        if session.id in self._still:
            self._still[session.id] = self._now + STILL_SECONDS
        self._tell_back(Late(*place, event.number, event.body))
        if self._giving[place] > LATE_LIMIT:
            self._floods(session, channel)

    def _lingers(self, session: ServerSession) -> bool:
        giving = any(client == session.id for client, _ in self._giving)
        return giving or super()._lingers(session)

    # -- both --------------------------------------------------------------------------------------

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        place = (session.id, channel.key)
        self._returns.pop(place, None)
        connection = session.connections[channel.key]
        closed = connection.number not in self.connections and channel.error is None
        if self._giving.pop(place, None) is not None:
            self._tell_back(LateEnd(*place, whole=closed))
        super()._leave(session, channel)
        if closed and any(client == session.id for client, _ in self._giving):
            self._still.setdefault(session.id, self._now + STILL_SECONDS)

    def thaw_machine(self, state: MachineState, now: float) -> None:
        """As `CalledOff.thaw_machine`."""
        super().thaw_machine(state, now)
        for client in {client for client, _ in self._giving}:
            self.disconnect(client, "the client left", now)
        self._untold = []

    def _peer_changed(self, up: bool) -> None:
        super()._peer_changed(up)
        if up:
            self._gives_back, self._untold = False, []
        else:
            self._back_in_time(list(self._returns))
            given = {client for client, _ in self._giving}
            self._giving, self._still, self._untold = {}, {}, []
            for session in [self.sessions[client] for client in given]:
                self._over(session)

    def _back_in_time(self, places: list[tuple[int, Key]]) -> None:
        """No more is told: go on without."""
        for place in places:
            back = self._returns.get(place)
            if back is not None:
                back.marked, back.ended = True, False
                self._take_back(self.sessions[place[0]], place[1])

    def _be_new(self) -> None:
        super()._be_new()
        self._returns, self._giving, self._give_until = {}, {}, None
        self._still, self._untold, self._gives_back = {}, [], False

    def _serving_wake(self) -> float | None:
        soonest = super()._serving_wake()
        if not self._returns and not self._giving:
            return soonest
        times = [soonest, *(back.until for back in self._returns.values())]
        times += [self._give_until, *self._still.values()] if self._giving else []
        return min((at for at in times if at is not None), default=None)

    def _wake_serving(self, now: float) -> None:
        self._back_in_time([p for p, back in self._returns.items() if back.until <= now])
        for client in [client for client, until in self._still.items() if until <= now]:
            del self._still[client]
            for place in [place for place in self._giving if place[0] == client]:
                del self._giving[place]
                self._tell_back(LateEnd(*place, whole=True))
            self.disconnect(client, "it has gone back", now)
        if self._give_until is not None and self._give_until <= now:
            self._give_until = None
            for client in {client for client, _ in self._giving}:
                self.disconnect(client, "its machine doesn't come", now)
        super()._wake_serving(now)
