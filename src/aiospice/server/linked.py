"""Sessions that arrive with a link to their source: what it tells of them, in which order.

A channel goes on here as soon as the source has told its record. What its client sends here waits
until all that it had sent there has come: that comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.inputs import InputsServer
from aiospice.channels.server.vmc import DeviceServer
from aiospice.errors import RemoteProtocolError
from aiospice.migration.peer import Arrived, Late, LateEnd, Missed, Record
from aiospice.migration.target import SessionArrived, SessionMissed
from aiospice.server.arriving import LATE_SECONDS, MAIN
from aiospice.server.forwarding import LATE_LIMIT
from aiospice.server.leftover import LATE_END_SECONDS, LateLost
from aiospice.server.returning import Returning

if TYPE_CHECKING:
    from aiospice.channels.server.base import ServerChannel
    from aiospice.server.config import ServerConfig
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession

__all__ = ["LATE_END_SECONDS", "LateLost", "Linked"]

Key = tuple[int, int]


@dataclass(slots=True)
class _Early:
    """What came late from the source, and still too early for a channel."""

    messages: list[tuple[int, bytes]] = field(default_factory=list)
    size: int = 0
    ended: bool | None = None


class Linked(Returning):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        self._early: dict[tuple[int, Key], _Early] = {}
        #: Until when channels wait for what comes late.
        self._late_until: dict[tuple[int, Key], float] = {}

    # -- the source tells --------------------------------------------------------------------------

    def _record_came(self, message: Record) -> None:
        if not message.data:
            self._parting_came(message.client, message.channel)
            return
        session = self.sessions.get(message.client)
        channel = session.channels.get(message.channel) if session is not None else None
        if session is None or channel is None or not channel.by_link:
            return
        if channel.phase not in (ServerPhase.WAITING, ServerPhase.PARKED):
            return
        channel.record_came()
        self._late_until[message.client, message.channel] = self._now + LATE_END_SECONDS
        self._arrives(session, channel, message.data, sealed=False)
        self._catch_up(session, channel)

    def _late_came(self, message: Late) -> None:
        place = (message.client, message.channel)
        if place in self._parting:
            self._write_late(place, message.number, message.body)
            return
        session = self.sessions.get(message.client)
        channel = session.channels.get(message.channel) if session is not None else None
        if session is None or channel is None:
            return
        if place in self._late_until:
            self._replay(session, channel, ((message.number, message.body),))
            return
        early = self._early.setdefault(place, _Early())
        early.messages.append((message.number, message.body))
        early.size += len(message.body)
        if early.size > LATE_LIMIT:
            self._end(session, f"more than {LATE_LIMIT} bytes came late on {channel.name}", None)

    def _late_end_came(self, message: LateEnd) -> None:
        place = (message.client, message.channel)
        if place in self._parting:
            self._parted_whole(*place, whole=message.whole)
            return
        session = self.sessions.get(message.client)
        channel = session.channels.get(message.channel) if session is not None else None
        if session is None or channel is None:
            return
        if place in self._late_until:
            self._late_ended(session, channel, whole=message.whole)
        else:
            self._early.setdefault(place, _Early()).ended = message.whole

    def _catch_up(self, session: ServerSession, channel: ServerChannel) -> None:
        """A channel is here: what has come for it before that is its."""
        early = self._early.pop((session.id, channel.key), None)
        connection = session.connections.get(channel.key)
        if connection is not None:
            self._look_at_reading(connection, channel)
        if early is None:
            return
        self._replay(session, channel, early.messages)
        if early.ended is not None and session.channels.get(channel.key) is channel:
            self._late_ended(session, channel, whole=early.ended)

    def _replay(
        self,
        session: ServerSession,
        channel: ServerChannel,
        messages: list[tuple[int, bytes]] | tuple[tuple[int, bytes], ...],
    ) -> None:
        connection = session.connections[channel.key]
        for event in channel.replay(messages, self._now):
            if connection.closing:
                return
            self._handle(session, channel, event)
        if connection.closing:
            return
        if channel.error is not None:
            self._channel_gone(connection, channel.error)
            return
        self._after(session, channel)
        self._wants(connection)

    def _late_ended(self, session: ServerSession, channel: ServerChannel, *, whole: bool) -> None:
        """All is here that was sent to the source, or never comes."""
        self._late_until.pop((session.id, channel.key), None)
        needed = isinstance(channel, DeviceServer) or (channel.key == MAIN and session.agent_told)
        if not whole and needed:
            text = "what the client had sent to the source at last is lost"
            error = RemoteProtocolError(text, where=channel.name)
            channel.fail(error)
            self._end(session, str(error), error)
            return
        if isinstance(channel, InputsServer):
            self._to_guest(channel.press_again() if whole else channel.release_all())
        channel.late_ended()
        self._look_at_reading(session.connections[channel.key], channel)
        self._go_on(session, channel.key)

    def _waits_for_late(self, client: int, key: Key) -> bool:
        return (client, key) in self._late_until

    # -- records that clients bring ----------------------------------------------------------------

    def _arrives(
        self, session: ServerSession, channel: ServerChannel, data: bytes, *, sealed: bool
    ) -> None:
        typed = sealed and channel.by_link and channel.key[0] == 3
        told = typed and self.peer.up
        if told:  # what was typed meanwhile comes over the link, and first
            channel.late_awaited = True
            self._late_until[session.id, channel.key] = self._now + LATE_SECONDS
        super()._arrives(session, channel, data, sealed=sealed)
        if typed and session.id in self.sessions:
            self._catch_up(session, channel)
            if not told:  # nobody will tell what has gone up meanwhile
                self._late_ended(session, channel, whole=False)

    # -- the source is told ------------------------------------------------------------------------

    def _tell_target(self) -> None:
        for event in self.target.events if self.peer.role == "target" else ():
            if isinstance(event, SessionArrived):
                self._tell_peer(Arrived(event.client, event.whole))
            elif isinstance(event, SessionMissed) and event.client is not None:
                self._tell_peer(Missed(event.client, event.reason))
        super()._tell_target()

    def _peer_changed(self, up: bool) -> None:
        super()._peer_changed(up)
        if self.peer.role == "target":
            self.target.link_changed(up, self._now)
        if not up:
            self._late_in_time(list(self._late_until))

    def _late_in_time(self, places: list[tuple[int, Key]]) -> None:
        """What is to come late never does: its time is up, or the source is gone.

        A source that has told a record never comes back once its link is lost.
        """
        for client, key in places:
            session = self.sessions.get(client)
            channel = session.channels.get(key) if session is not None else None
            if session is None or channel is None:
                self._late_until.pop((client, key), None)
            elif (client, key) in self._late_until:
                self._late_ended(session, channel, whole=False)

    # -- ends --------------------------------------------------------------------------------------

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._leave(session, channel)
        self._early.pop((session.id, channel.key), None)
        self._late_until.pop((session.id, channel.key), None)

    def _be_new(self) -> None:
        super()._be_new()
        self._early, self._late_until = {}, {}
        self._forwarded, self._holds, self._parted = {}, {}, set()
        self._kept_late, self._kept_bytes = {}, {}

    def _moves(self) -> bool:
        """Whether anything of a hand-over has a limit of time, as `_serving_wake` and those of the
        classes below look for it."""
        source, target = self.source, self.target
        if source.deadline is not None or target.expected or target.arrivals:
            return True
        here = self._rest_until or self._unseen or self._draining or self._quiet
        if here or self._hold_until is not None:
            return True
        there = self._keys_until is not None or self._kept or self._late_awaited
        back = self._late_until or self._parting or self._returns or self._giving
        return bool(there or back)

    def _serving_wake(self) -> float | None:
        soonest = super()._serving_wake()
        if not self._late_until:
            return soonest
        times = [soonest, *self._late_until.values()]
        return min((at for at in times if at is not None), default=None)

    def _wake_serving(self, now: float) -> None:
        self._late_in_time([place for place, until in self._late_until.items() if until <= now])
        super()._wake_serving(now)
