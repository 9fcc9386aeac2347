"""What clients leave at the source that begin anew here: it is the guest's, and comes late.

The source says so with a `Record` without data for each channel, and passes on what the client
still sends there (`aiospice.server.parting`). It goes to the guest ahead of what the client's new
session says. A message for the agent that lacks its end is given up, since its client does so, too;
keys that are down then go up, and a smartcard reader goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.inputs import HeldDown, InputsServer
from aiospice.channels.server.main import AgentPiece, AgentStarted, AgentTokens, MainServer
from aiospice.channels.server.smartcard import CardWritten
from aiospice.channels.server.vmc import DeviceServer, DeviceWritten, PortSignalled
from aiospice.devices.agentdev import AgentDevice
from aiospice.devices.carry_agent import end_late, write_late
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.errors import RemoteProtocolError
from aiospice.server.arriving import MAIN, Arriving
from aiospice.server.forwarding import LATE_LIMIT
from aiospice.server.session import channel_class
from aiospice.wire.channels import channel_name

if TYPE_CHECKING:
    from aiospice.channels.server.base import ServerChannel
    from aiospice.server.carried import MachineState
    from aiospice.server.config import ServerConfig
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession

__all__ = ["LATE_END_SECONDS", "LateLost", "Leftover"]

Key = tuple[int, int]
INPUTS: Key = (3, 0)
#: How long a client's messages wait for those that it had sent to the source. Longer than the
#: source waits for a client that doesn't leave.
LATE_END_SECONDS = 12.0


class LateLost(Event):
    """What a client had sent to the other server at last, before it came here, may be lost."""

    client: int
    channel: str


class Leftover(Arriving):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        #: Until when something may come late of clients that begin anew; by the source's numbers.
        self._parting: dict[tuple[int, Key], float] = {}
        #: What they hold down.
        self._typing: dict[int, InputsServer] = {}
        #: Devices to which sessions wrote that are gone.
        self._written: set[Key] = set()
        #: Clients whose part in the agent's stream came with the guest, and who aren't here.
        self._owed: set[int] = set()
        #: What new sessions say to the agent meanwhile.
        self._agent_waits: dict[int, list[Event]] = {}

    def thaw_machine(self, state: MachineState, now: float) -> None:
        """As `Arriving.thaw_machine`."""
        super().thaw_machine(state, now)
        agent = state.agent
        self._owed = {*agent.to_agent, *agent.held} | {agent.writer or 0} - {0}

    def freeze_machine(self, now: float, *, plain: bool = False) -> MachineState:
        """As `Arriving.freeze_machine`; what is down for who isn't here goes up at the target."""
        state = super().freeze_machine(now, plain=plain)
        for client, typed in self._typing.items():
            down, before = typed.held_down, state.held.get(client, HeldDown())
            keys = tuple(dict.fromkeys((*before.keys, *down.keys)))
            if down.keys or down.buttons:
                state.held[client] = HeldDown(keys, before.buttons | down.buttons)
        return state

    # -- the source tells --------------------------------------------------------------------------

    def _parting_came(self, client: int, key: Key) -> None:
        """A client begins anew here, and what it had sent to a device of the source comes late."""
        if self._scratch((client, key)) is None:
            return
        if key in self._written or (
            key in self.devices
            and any(each.wrote for each in self.device(key).core.clients.values())
        ):
            # Its new session was quicker than the source: it would get behind what comes now.
            self._events.append(LateLost(client=client, channel=channel_name(*key)))
            return
        self._parting[client, key] = self._now + LATE_END_SECONDS
        if key not in self.devices:
            return
        for _, channel in self._open_channels(key):
            channel.late_awaited |= channel.phase is not ServerPhase.WAITING
        self._look_at_readers(key)

    def _scratch(self, place: tuple[int, Key]) -> ServerChannel | None:
        """A channel that is nobody's, to understand messages by."""
        client, key = place
        if key == INPUTS:
            return self._typing.setdefault(client, InputsServer(INPUTS, Framing(3, True)))
        if key != MAIN and key not in self.devices:
            return None
        return channel_class(key[0])(key, Framing(key[0], True))

    def _write_late(self, place: tuple[int, Key], number: int, body: bytes) -> None:
        channel = self._scratch(place)
        assert channel is not None
        for event in channel.replay(((number, body),), self._now):
            self._means(place, event)
        if place[1] != INPUTS:
            self._device_moved(self.device(place[1]))

    def _means(self, place: tuple[int, Key], event: Event) -> None:
        """What a late message means."""
        client, key = place
        if key == INPUTS:
            self._to_guest([event])
            return
        core = self.device(key).core
        if isinstance(event, PortSignalled):
            self._events.append(event)
        elif core.unread_bytes >= LATE_LIMIT:
            return
        elif isinstance(event, DeviceWritten):
            core.server_writes(event.data, token=False)
        elif isinstance(event, CardWritten) and isinstance(core, SmartcardDevice):
            core.write_late(event.type, event.reader_id, event.data)
        elif isinstance(event, AgentStarted) and isinstance(core, AgentDevice):
            core.to_agent.setdefault(client, core._filter(monitors=core.monitors))
            self._owed.add(client)
        elif isinstance(event, AgentPiece) and isinstance(core, AgentDevice):
            write_late(core, client, event.data)

    def _parted_whole(self, client: int, key: Key, *, whole: bool) -> None:
        """All of it is here, or the rest never comes."""
        del self._parting[client, key]
        if not whole:
            self._events.append(LateLost(client=client, channel=channel_name(*key)))
        if key == INPUTS:
            self._to_guest(self._typing.pop(client).release_all())
        elif any(other == key for _, other in self._parting):
            return
        elif key == MAIN:
            self._agent_goes_on()
        else:
            self._drop_reader(key)
            for session, channel in self._open_channels(key):
                if not self._waits_for_late(session.id, key):
                    channel.late_ended()
            self._look_at_readers(key)

    def _drop_reader(self, key: Key) -> None:
        device = self.devices[key]
        if isinstance(device.core, SmartcardDevice):
            device.core.drop_reader()
            self._device_moved(device)

    def _waits_for_late(self, client: int, key: Key) -> bool:
        """Whether a session that was handed over waits for what it had sent to the source."""
        return False

    def _look_at_readers(self, key: Key) -> None:
        for session in list(self.sessions.values()):
            channel = session.channels.get(key)
            if channel is not None:
                self._look_at_reading(session.connections[key], channel)
                self._go_on(session, key)

    # -- new sessions ------------------------------------------------------------------------------

    def _begin_device(self, session: ServerSession, channel: DeviceServer) -> None:
        waits = any(key == channel.key for _, key in self._parting)
        if not waits:
            self._drop_reader(channel.key)
        super()._begin_device(session, channel)
        if waits:
            channel.late_awaited = True
            self._look_at_reading(session.connections[channel.key], channel)

    def _handle(self, session: ServerSession, channel: ServerChannel, event: Event) -> None:
        if isinstance(event, (AgentStarted, AgentPiece, AgentTokens)) and (
            isinstance(channel, MainServer) and not channel.agreed and self._owed
        ):
            self._settle_agent()
            if any(key == MAIN for _, key in self._parting):
                self._agent_later(session, event)
                return
        super()._handle(session, channel, event)

    def _agent_later(self, session: ServerSession, event: Event) -> None:
        waiting = self._agent_waits.setdefault(session.id, [])
        waiting.append(event)
        if len(waiting) > 4 * self.agent.core.rules.window:
            text = "it sends to an agent that still hears its last session"
            error = RemoteProtocolError(text, where="main:0")
            self._end(session, str(error), error)

    def _settle_agent(self) -> None:
        """Whoever isn't on the way here any more has said all to the agent."""
        core = self.agent.core
        assert isinstance(core, AgentDevice)
        for client in list(self._owed):
            awaited = client in self.target.arrivals or (client, MAIN) in self._parting
            if not awaited:
                self._owed.discard(client)
                end_late(core, client, alone=not self.target.arrivals)
        self._device_moved(self.agent)

    def _agent_goes_on(self) -> None:
        self._settle_agent()
        waiting, self._agent_waits = self._agent_waits, {}
        for number, events in waiting.items():
            session = self.sessions.get(number)
            channel = session.channels.get(MAIN) if session is not None else None
            for event in events if channel is not None else ():
                if session is not None and channel is not None and number in self.sessions:
                    self._handle(session, channel, event)

    def _all_here(self, session: ServerSession) -> None:
        self._owed.discard(session.id)
        super()._all_here(session)
        self._settle_alone()

    def _settle_alone(self) -> None:
        """Nobody tells any more of clients that don't come: others are to be heard by the agent."""
        told = self.peer.up and self.peer.role == "target"
        if self._owed and not told and not self.target.arrivals:
            self._settle_agent()

    def _peer_changed(self, up: bool) -> None:
        super()._peer_changed(up)
        for place in [] if up else list(self._parting):
            self._parted_whole(*place, whole=False)
        self._settle_alone()

    # -- ends, time --------------------------------------------------------------------------------

    def _leave_device(self, client: int, channel: ServerChannel, unwritten: int) -> None:
        device = self.devices.get(channel.key)
        known = None if device is None else device.core.clients.get(client)
        if known is not None and known.wrote:
            self._written.add(channel.key)
        super()._leave_device(client, channel, unwritten)

    def _ended(self, session: ServerSession) -> None:
        super()._ended(session)
        self._agent_waits.pop(session.id, None)

    def _be_new(self) -> None:
        super()._be_new()
        self._parting, self._typing, self._agent_waits = {}, {}, {}
        self._written = set()
        self._owed = set()

    def _serving_wake(self) -> float | None:
        soonest = super()._serving_wake()
        if not self._parting:
            return soonest
        times = [soonest, *self._parting.values()]
        return min((at for at in times if at is not None), default=None)

    def _wake_serving(self, now: float) -> None:
        for place, until in list(self._parting.items()):
            if until <= now:
                self._parted_whole(*place, whole=False)
        super()._wake_serving(now)
