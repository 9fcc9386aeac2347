"""Clients that can't be handed over: they begin anew at the target, and lose nothing of devices.

Such a client isn't told to go before it has been handed all that was sent to it (it has answered
a ping behind that); nothing more is sent then. What it still sends to devices, until it closes
its channels, is passed on over the link to the target, and from the moment on that the guest's
state is taken. Without a link it is lost, which is counted and told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiospice.channels.events import Event
from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.vmc import DeviceServer, VmcServer
from aiospice.migration.peer import Late, LateEnd, Record
from aiospice.migration.source import ClientStage, SourcePhase
from aiospice.server.forwarding import LATE_LIMIT
from aiospice.server.holding import Holding

if TYPE_CHECKING:
    from aiospice.channels.server.base import Passed, ServerChannel
    from aiospice.server.carried import MachineState
    from aiospice.server.config import ServerConfig
    from aiospice.server.connection import Connection
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession
    from aiospice.wire.message import Message

__all__ = ["QUIET_SECONDS", "LeftBehind", "Parting"]

Key = tuple[int, int]
#: How long a client may take to be handed what was sent to it.
QUIET_SECONDS = 2.0


class LeftBehind(Event):
    """A client begins anew at the target, and bytes of a device didn't get there.

    ``to_guest``: what it had sent and the guest hasn't got; ``from_guest``: what it wasn't handed.
    """

    client: int
    channel: str
    to_guest: int
    from_guest: int


@dataclass(slots=True)
class _Quiet:
    """A client that is to go once its pings are answered."""

    message: Message
    pings: dict[Key, int]
    until: float


class Parting(Holding):
    """See the module's text."""

    connections: dict[int, Connection]

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        self._quiet: dict[int, _Quiet] = {}
        #: What clients that may have to begin anew have sent to devices since the guest stands
        #: still, and of how many bytes.
        self._kept_late: dict[tuple[int, Key], list[tuple[int, bytes]]] = {}
        self._kept_bytes: dict[tuple[int, Key], int] = {}
        #: Channels of clients that begin anew, while they may still bring something.
        self._parted: set[tuple[int, Key]] = set()

    # -- the guest's state is taken ----------------------------------------------------------------

    def freeze_machine(self, now: float, *, plain: bool = False) -> MachineState:
        """Stop the guest's side; gives what goes to the target together with the guest."""
        asked = self.source.phase in (SourcePhase.CONNECTING, SourcePhase.READY)
        for number, session in self.sessions.items() if asked and not plain else ():
            stage = self.source.clients.get(number, ClientStage.AWAY)
            if stage is ClientStage.WHOLE:
                continue
            for key, device in self.devices.items():
                channel = session.channels.get(key)
                if isinstance(channel, VmcServer):
                    channel.passes_on = self.peer.up
                    if stage is not ClientStage.ASKED:
                        device.core.give_up(number)
        return super().freeze_machine(now, plain=plain)

    def _passed(self, session: ServerSession, channel: ServerChannel, event: Passed) -> None:
        place = (session.id, channel.key)
        if not isinstance(channel, DeviceServer) or place in self._forwarded:
            super()._passed(session, channel, event)
            return
        self._kept_late.setdefault(place, []).append((event.number, event.body))
        size = self._kept_bytes[place] = self._kept_bytes.get(place, 0) + len(event.body) + 64
        if size > LATE_LIMIT:
            self._floods(session, channel)

    def _take_in(self, session: ServerSession) -> None:
        """It is handed over after all, or stays: what it has sent is for its devices here."""
        for key, channel in list(session.channels.items()):
            kept = self._kept_late.pop((session.id, key), ())
            self._kept_bytes.pop((session.id, key), None)
            if not isinstance(channel, DeviceServer):
                continue
            channel.passes_on = False
            for event in channel.replay(kept, self._now):
                self._handle(session, channel, event)
            if channel.error is not None:
                self._channel_gone(session.connections[key], channel.error)

    def _move(self, session: ServerSession) -> None:
        self._take_in(session)
        super()._move(session)

    def cancel_migration(self, now: float) -> None:
        """The guest stays: go on as if nothing had been."""
        super().cancel_migration(now)
        for session in list(self.sessions.values()):
            self._take_in(session)

    # -- and a client has to go --------------------------------------------------------------------

    def _part(self, session: ServerSession, message: Message) -> None:
        """Tell a client to go, as soon as it has all that was sent to it."""
        session.leaving = True
        if self.frozen is None:
            self._stop_devices()
        pings: dict[Key, int] = {}
        for key, channel in session.channels.items():
            if not isinstance(channel, DeviceServer) or channel.phase is not ServerPhase.OPEN:
                continue
            self._fill(session, channel, low=None)
            pings[key] = channel.ping(self._now)
            self._wants(session.connections[key])
            if self.peer.up and isinstance(channel, VmcServer):
                self._announce(session, channel)
        self._quiet[session.id] = _Quiet(message, pings, self._now + QUIET_SECONDS)
        self._look_quiet(session)

    def _announce(self, session: ServerSession, channel: ServerChannel) -> None:
        place = (session.id, channel.key)
        self._tell_peer(Record(*place, b""))
        for number, body in self._kept_late.pop(place, ()):
            self._tell_peer(Late(*place, number, body))
        channel.passes_on = True
        channel.reading_paused = False
        self._reading_changed(session.connections[channel.key], channel)
        self._forwarded[place] = self._kept_bytes.pop(place, 0)
        self._parted.add(place)

    def _look_quiet(self, session: ServerSession, *, late: bool = False) -> None:
        quiet = self._quiet.get(session.id)
        if quiet is None:
            return
        for key, ping in list(quiet.pings.items()):
            channel = session.channels.get(key)
            if channel is None or channel.ponged(ping):
                del quiet.pings[key]
        if quiet.pings and not late:
            return
        del self._quiet[session.id]
        main = session.channels.get((1, 0))
        if main is not None:
            main.send(quiet.message)
            self._wants(session.connections[1, 0])

    def _after(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._after(session, channel)
        self._look_quiet(session)

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        place = (session.id, channel.key)
        self._kept_late.pop(place, None)
        self._kept_bytes.pop(place, None)
        connection = session.connections[channel.key]
        if place in self._parted:
            self._parted.discard(place)
            if self._forwarded.pop(place, None) is not None:
                # Closed by the client, it has said all.
                whole = connection.number not in self.connections and channel.error is None
                self._tell_peer(LateEnd(*place, whole=whole))
        elif self.source.moved and isinstance(channel, DeviceServer):
            self._count_loss(session, channel)
        super()._leave(session, channel)

    def _count_loss(self, session: ServerSession, channel: DeviceServer) -> None:
        """What a client that wasn't handed over leaves here."""
        core = self.devices[channel.key].core
        client = core.clients.get(session.id)
        if client is None:
            return  # it has gone with its record
        unread = sum(len(each.data) for each in core.buffers if each.client == session.id)
        waiting = client.outgoing_bytes + channel.queued_bytes
        if unread or waiting:
            self._events.append(
                LeftBehind(
                    client=session.id,
                    channel=channel.name,
                    to_guest=unread,
                    from_guest=waiting,
                )
            )

    def _ended(self, session: ServerSession) -> None:
        self._quiet.pop(session.id, None)
        super()._ended(session)

    # -- time --------------------------------------------------------------------------------------

    def _serving_wake(self) -> float | None:
        times = [super()._serving_wake(), *(quiet.until for quiet in self._quiet.values())]
        return min((at for at in times if at is not None), default=None)

    def _wake_serving(self, now: float) -> None:
        for number, quiet in list(self._quiet.items()):
            session = self.sessions.get(number)
            if session is not None and quiet.until <= now:
                self._look_quiet(session, late=True)
        super()._wake_serving(now)
