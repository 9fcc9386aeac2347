"""Clients that can't be handed over: they begin anew at the target, and lose nothing of devices.

Such a client isn't told to go before it has been handed all that was sent to it (it has answered
a ping behind that); nothing more is sent then. What it still sends to devices, to the guest's agent
and to keyboard and mouse, until it closes its channels, is passed on over the link to the target,
and from the moment on that the guest's state is taken. Without a link it is lost, which is counted
and told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiospice.channels.events import Event
from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.inputs import InputsServer
from aiospice.channels.server.main import MainServer
from aiospice.channels.server.vmc import DeviceServer
from aiospice.migration.peer import Late, LateEnd, Record
from aiospice.migration.source import ClientStage, SourcePhase
from aiospice.server.forwarding import LATE_LIMIT
from aiospice.server.replaying import Replaying
from aiospice.wire import main as messages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.channels.server.base import Passed, ServerChannel
    from aiospice.server.carried import MachineState
    from aiospice.server.config import ServerConfig
    from aiospice.server.connection import Connection
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession
    from aiospice.wire.message import Message

__all__ = ["QUIET_SECONDS", "LeftBehind", "Parting"]

Key = tuple[int, int]
#: How long a client may take to be handed what was sent to it. Its line may be slow, or have been
#: cut for a while; it is disconnected soon after that.
QUIET_SECONDS = 8.0
#: What is for the guest's agent; all else on main is this server's business.
_FOR_AGENT = (messages.AgentStart.number, messages.ClientAgentData.number)
_AGENTS = (*_FOR_AGENT, messages.ClientAgentToken.number)


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


class Parting(Replaying):
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
            for key, channel in session.channels.items():
                if isinstance(channel, (DeviceServer, MainServer)):
                    channel.passes_on = self.peer.up
                if isinstance(channel, DeviceServer) and stage is not ClientStage.ASKED:
                    self.devices[key].core.give_up(number)
        return super().freeze_machine(now, plain=plain)

    def _passed(self, session: ServerSession, channel: ServerChannel, event: Passed) -> None:
        place = (session.id, channel.key)
        if place in self._left_with:
            super()._passed(session, channel, event)
            return
        if isinstance(channel, MainServer) and self._is_ours(place, event.number):
            self._here(session, channel, ((event.number, event.body),))
            return
        devices = isinstance(channel, (DeviceServer, MainServer))
        if not devices or place in self._forwarded:
            super()._passed(session, channel, event)
            return
        self._kept_late.setdefault(place, []).append((event.number, event.body))
        size = self._kept_bytes[place] = self._kept_bytes.get(place, 0) + len(event.body) + 64
        if size > LATE_LIMIT:
            self._floods(session, channel)

    def _is_ours(self, place: tuple[int, Key], number: int) -> bool:
        """Whether a message on main is for this server, though the channel passes on."""
        if place in self._parted:
            return number not in _FOR_AGENT
        return place not in self._forwarded and number not in _AGENTS

    def _here(
        self, session: ServerSession, channel: ServerChannel, kept: Iterable[tuple[int, bytes]]
    ) -> None:
        """Messages of a channel that passes on mean something here."""
        for event in channel.replay(kept, self._now):
            self._handle(session, channel, event)
        if channel.error is not None and channel.key in session.channels:
            self._channel_gone(session.connections[channel.key], channel.error)

    def _take_in(self, session: ServerSession) -> None:
        """It is handed over after all, or stays: what it has sent is for its devices here."""
        for key, channel in list(session.channels.items()):
            kept = self._kept_late.pop((session.id, key), ())
            self._kept_bytes.pop((session.id, key), None)
            if isinstance(channel, (DeviceServer, MainServer)):
                channel.passes_on = False
                self._here(session, channel, kept)

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
        for key, channel in list(session.channels.items()):
            if channel.phase is not ServerPhase.OPEN:
                continue
            if self.peer.up and isinstance(channel, (DeviceServer, InputsServer, MainServer)):
                self._announce(session, channel)
            if isinstance(channel, DeviceServer):
                self._fill(session, channel, low=None)
                pings[key] = channel.ping(self._now)
            elif isinstance(channel, MainServer):
                self._hand_agents(session)
                self._fill(session, channel, low=None)
            if key in session.connections:
                self._wants(session.connections[key])
        self._quiet[session.id] = _Quiet(message, pings, self._now + QUIET_SECONDS)
        self._look_quiet(session)

    def _announce(self, session: ServerSession, channel: ServerChannel) -> None:
        place = (session.id, channel.key)
        self._tell_peer(Record(*place, b""))
        self._forwarded[place] = self._kept_bytes.pop(place, 0)
        self._parted.add(place)
        kept = self._kept_late.pop(place, [])
        if channel.key[0] == 3:
            kept += self._late.pop(session.id, ())
        for number, body in kept:
            if isinstance(channel, MainServer) and self._is_ours(place, number):
                self._here(session, channel, ((number, body),))
            else:
                self._tell_peer(Late(*place, number, body))
        if channel.key in session.channels:
            channel.passes_on = True
            channel.reading_paused = False
            self._reading_changed(session.connections[channel.key], channel)

    def _hand_agents(self, session: ServerSession) -> None:
        """What the guest's agent has told the client: the session at the target is another one."""
        client = self.agent.core.clients.get(session.id)
        if client is not None and self.frozen is not None:
            queue = self.frozen.agent.device.queues.pop(session.id, ())
            client.send_queue.extend(queue)
            self.agent.core.add_tokens(session.id, 0, self._now)

    def _look_quiet(self, session: ServerSession, *, late: bool = False) -> None:
        quiet = self._quiet.get(session.id)
        if quiet is None:
            return
        for key, ping in list(quiet.pings.items()):
            channel = session.channels.get(key)
            if channel is None or channel.ponged(ping):
                del quiet.pings[key]
        known = self.agent.core.clients.get(session.id)
        if (quiet.pings or (known is not None and known.send_queue)) and not late:
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
            self._count_loss(session, channel)
            if self._forwarded.pop(place, None) is not None:
                # Closed by the client, it has said all.
                whole = connection.number not in self.connections and channel.error is None
                self._tell_peer(LateEnd(*place, whole=whole))
        elif self.source.moved:
            self._count_loss(session, channel)
        super()._leave(session, channel)

    def _count_loss(self, session: ServerSession, channel: ServerChannel) -> None:
        """What a client that wasn't handed over leaves here."""
        if not isinstance(channel, (DeviceServer, MainServer)):
            return
        device = self.agent if isinstance(channel, MainServer) else self.devices[channel.key]
        core = device.core
        client = core.clients.get(session.id)
        if client is None:
            return  # it has gone with its record
        unread = sum(len(each.data) for each in core.buffers if each.client == session.id)
        waiting = client.outgoing_bytes + sum(map(len, client.send_queue))
        if isinstance(channel, DeviceServer):
            waiting += channel.queued_bytes
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
        soonest = super()._serving_wake()
        if not self._quiet:
            return soonest
        times = [soonest, *(quiet.until for quiet in self._quiet.values())]
        return min((at for at in times if at is not None), default=None)

    def _wake_serving(self, now: float) -> None:
        for number, quiet in list(self._quiet.items()):
            session = self.sessions.get(number)
            if session is not None and quiet.until <= now:
                self._look_quiet(session, late=True)
        super()._wake_serving(now)
