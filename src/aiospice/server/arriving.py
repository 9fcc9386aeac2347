"""How sessions of another server arrive: the core's part as the target of a hand-over.

::

    expect_migration -> clients link -> thaw_machine -> their records -> (SessionArrived)

Every record is parsed strictly and checked against what is here before anything of it is used;
what isn't right ends its client. Facts: spice-server ``server/reds.cpp``; the checks are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.framing import Framing
from aiospice.channels.server.base import RecordArrived, ServerPhase
from aiospice.channels.server.cursor import CursorServer
from aiospice.channels.server.display import DisplayServer
from aiospice.channels.server.inputs import InputsServer, KeyChanged, let_up
from aiospice.channels.server.main import (
    AgentPiece,
    AgentTokens,
    MainServer,
    StartRequested,
    WholeRequested,
)
from aiospice.channels.server.vmc import DeviceServer, PortServer, VmcServer
from aiospice.devices.agentdev import MAX_CHUNK, AgentDevice
from aiospice.devices.carry import thaw_client, to_the_next
from aiospice.devices.carry_agent import thaw_agent
from aiospice.devices.carry_smartcard import thaw_smartcard
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.errors import AiospiceError, RemoteProtocolError, StateError
from aiospice.migration.source import SourceMigration, SourcePhase
from aiospice.migration.target import (
    EXPECT_SECONDS,
    RECORD_SECONDS,
    SessionMissed,
    TargetMigration,
)
from aiospice.server.arrival import Arrival, clear_at_last, thaw, wait_for_clearing
from aiospice.server.carried import LateInputs, MachineState, lower_devices, put_machine
from aiospice.server.keptlist import LIST_MORE, split_kept
from aiospice.server.machine import CursorState
from aiospice.server.parting import Parting
from aiospice.server.sealed import SEALED_MORE
from aiospice.wire import main, vmc
from aiospice.wire.agent_stream import MAX_MESSAGE
from aiospice.wire.handover import (
    RECORDS,
    DisplayRecord,
    HandoverRecord,
    InputsRecord,
    MainRecord,
    SmartcardRecord,
    VmcRecord,
    parse_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.channels.events import Event
    from aiospice.channels.server.base import ServerChannel
    from aiospice.link.server import LinkRequested
    from aiospice.server.config import ServerConfig
    from aiospice.server.connection import Connection
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession

__all__ = ["Arriving"]

Key = tuple[int, int]
MAIN: Key = (1, 0)
#: How long a client's keys wait for what it typed on the source at last.
LATE_SECONDS = 1.0
#: How long the guest runs here while what a client holds down stays down, though the client isn't
#: here. Then it goes up, and down again if the client comes and still holds it.
KEYS_SECONDS = 2.0


class Arriving(Parting):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        self.target = TargetMigration()
        #: What came with the guest, until the sessions that it speaks of are here.
        self.carried: MachineState | None = None
        self._late_here: dict[int, LateInputs] = {}
        self._late_told = False
        #: Records of inputs that wait for what was typed meanwhile, and until when.
        self._late_awaited: dict[int, tuple[bytes, float]] = {}
        #: When what clients hold goes up that aren't here; whose did.
        self._keys_until: float | None = None
        #: Since when a guest is expected; the one that was doesn't come.
        self._awaited_since = 0.0
        self.guest_elsewhere = False
        self._lifted: set[int] = set()
        #: Records of main that wait for the guest's agent, what came behind them, and until when.
        self._kept: dict[int, tuple[MainRecord, list[Event], float]] = {}

    # -- control -----------------------------------------------------------------------------------

    def expect_migration(
        self,
        connection_id: int | None = None,
        ticket: str | None = None,
        timeout: float = EXPECT_SECONDS,
        *,
        lives: bool = False,
        now: float,
    ) -> None:
        """Let a session of another server come here, once, within ``timeout`` seconds.

        connection_id: its number, as a source of ours tells it; None for the first that has the
        ticket. ticket: what it shows, None for this server's own password. lives: the guest is here
        already, and its devices stay as they are. `StateError` while a guest of this server, or its
        clients, are about to leave.
        """
        if lives:
            self._now = now
            self._stays_or_raise()
        else:
            self.expect_guest(now)
        self.target.expect(connection_id, ticket, now, timeout)
        self._tell_target()

    def expect_guest(self, now: float) -> None:
        """A guest is to come here, whether with sessions or without; raises as the above."""
        self._now = now
        self._stays_or_raise()
        if not self.sessions and not self.target.arrivals:
            self._be_new()
        if not self.target.expected and not self.target.arrivals:
            self._awaited_since = now
        self.guest_elsewhere = False

    def guest_stays(self, reason: str, now: float) -> None:
        """The guest that was expected doesn't come, and there is no other here.

        Clients that have begun anew here meanwhile are sent away, and none is let in until another
        guest is expected. Those that were to come with the guest are not touched.
        """
        self._now = now
        self.target.forget()
        self.guest_elsewhere = True
        for session in list(self.sessions.values()):
            if session.id not in self.target.arrivals and session.since >= self._awaited_since:
                self.disconnect(session.id, reason, now)

    def _stays_or_raise(self) -> None:
        if self.source.phase is not SourcePhase.IDLE or self._stands_still:
            raise StateError("a guest or clients are about to leave this server")

    @property
    def _stands_still(self) -> bool:
        """The guest has been stopped here, and whether it moves isn't decided."""
        return self.frozen is not None and not self.source.moved

    def _be_new(self) -> None:
        """Nothing of an earlier guest is left."""
        self.source = SourceMigration()
        self.frozen = self.carried = None
        self._rest_until, self._unseen = 0.0, False
        self._late_here, self._kept = {}, {}
        self._late_told = False
        self._late_awaited = {}
        self._keys_until, self._lifted = None, set()
        for device in (self.agent, *self.devices.values()):
            core = device.core
            core.reset()
            core.stop()
            core.start()
            core.draining = False
            device.told_readable = device.told_full = False
        if self.agent.opened:
            self.agent.opened = False
            self.agent.core.detach()
        for key, device in self.devices.items():
            if key[0] in (10, 11):
                device.opened = False

    def thaw_machine(self, state: MachineState, now: float) -> None:
        """The guest is here: what `freeze_machine` gave on the source.

        `LocalError` if this machine has other devices, `StateError` if a guest is here already.
        """
        self._now = now
        if self.source.moved and not self.sessions:
            self._be_new()
        if self.carried is not None or self.frozen is not None:
            raise StateError("a guest is here already, or is about to leave")
        before = {key: device.opened for key, device in self.devices.items()}
        lower_devices(state, self.agent, self.devices)
        put_machine(self.machine, state)
        self.carried, self.guest_elsewhere = state, False
        uniques = [each.shape.unique for each in state.cursors.values() if each.shape is not None]
        self._shapes = max(self._shapes, *uniques, 0)
        assert isinstance(self.agent.core, AgentDevice)
        self.agent.core.attachments += int(self.agent.opened)
        self.machine.graphics_told = self.agent.core.attachments
        for number in self.machine.displays:
            self.drawn(number)
        self._keys_until = now + KEYS_SECONDS
        coming = {one.connection_id for one in self.target.expected} | set(self.target.arrivals)
        told = {*state.held, *(n for each in state.devices.values() for n in each.queues)}
        for number in told - set(self.target.arrivals):
            (self._lift if number in coming else self._let_up)(number)
        for session in self.sessions.values():
            if session.id not in self.target.arrivals:
                self._guest_came(session, before)
        for device in (self.agent, *self.devices.values()):
            self._device_moved(device)
        self._agent_here()

    def freeze_machine(self, now: float, *, plain: bool = False) -> MachineState:
        """As `Leaving.freeze_machine`; who hasn't arrived here yet doesn't lose what it holds."""
        state = super().freeze_machine(now, plain=plain)
        if self.carried is not None:
            held = self.carried.held
            state.held.update({n: down for n, down in held.items() if n not in self._lifted})
        self._keys_until = None
        return state

    def cancel_migration(self, now: float) -> None:
        """As `Leaving.cancel_migration`; who isn't here yet holds its keys for a while."""
        super().cancel_migration(now)
        self._keys_until = now + KEYS_SECONDS if self.carried is not None else None

    def take_late_inputs(self, late: dict[int, LateInputs], now: float) -> None:
        """What clients typed while neither server had the guest (`late_inputs` there).

        Until it is told, for `LATE_SECONDS` at most, what they type here waits.
        """
        self._now = now
        self._late_told = True
        for number, found in late.items():
            session = self.sessions.get(number)
            inputs = session.channels.get((3, 0)) if session is not None else None
            if inputs is None or inputs.phase is not ServerPhase.OPEN:
                self._late_here[number] = found
                continue
            # It types here already: only what would stay down by mistake is let up.
            assert isinstance(inputs, InputsServer)
            other = InputsServer(inputs.key, Framing(3, True))
            for event in other.replay(found.messages, now):
                up = isinstance(event, KeyChanged) and not event.pressed
                if isinstance(event, KeyChanged) and up and event.code in inputs.keys_down:
                    del inputs.keys_down[event.code]
                    self._events.append(event)
        self._inputs_go_on(self._late_awaited)

    def _inputs_go_on(self, which: Iterable[int]) -> None:
        for number in list(which):
            data, _ = self._late_awaited.pop(number)
            session = self.sessions.get(number)
            channel = session.channels.get((3, 0)) if session is not None else None
            if session is not None and channel is not None:
                self._arrives(session, channel, data, sealed=True)

    def _let_up(self, client: int) -> None:
        """Nobody holds down any more what a client held that doesn't come."""
        self._lift(client)
        self._lifted.discard(client)
        if self.carried is None:
            return
        self.carried.held.pop(client, None)
        for key, state in self.carried.devices.items():
            if client in state.queues:
                to_the_next(self.devices[key].core, state, client, self._now)
                self._device_moved(self.devices[key])

    def _lift(self, client: int) -> None:
        """What a client held goes up, until it comes."""
        held = None if self.carried is None else self.carried.held.get(client)
        if held is not None and client not in self._lifted:
            self._lifted.add(client)
            self._to_guest(let_up(held.keys, held.buttons))

    def _keys_late(self, now: float) -> None:
        """The guest has run here for a while: who isn't here holds nothing down for now."""
        if self._keys_until is None or self._keys_until > now:
            return
        self._keys_until = None
        for number in [] if self.carried is None else list(self.carried.held):
            self._lift(number)
        for session in self.sessions.values():
            channel = session.channels.get((3, 0))
            if isinstance(channel, InputsServer) and channel.late_awaited:
                self._to_guest(channel.lift_all())

    def _tell_target(self) -> None:
        for event in self.target.events:
            if isinstance(event, SessionMissed) and event.client is not None:
                self._let_up(event.client)
        self._events += self.target.events
        self.target.events = []

    # -- links -------------------------------------------------------------------------------------

    def _arrival_judged(self, asked: LinkRequested) -> bool:
        """Whether a main channel may come with the number of a session."""
        expected = self.target.expects(asked.connection_id, self._now)
        return expected is not None and asked.connection_id not in self.sessions

    def _arriving_ticket(self, client: int) -> tuple[str | None] | None:
        expected = self.target.expects(client, self._now)
        return None if expected is None or expected.ticket is None else (expected.ticket,)

    def _link_arrival(self, session: ServerSession, channel: ServerChannel) -> None:
        """A channel of a session that arrives is linked: it doesn't begin yet."""
        if channel.key == MAIN:
            expected = self.target.expects(session.id, self._now)
            assert expected is not None
            self.target.linked(session.id, expected, self._now)
            self._expect(channel)
        elif self.target.opened(session.id, channel.key, has_record=channel.key[0] in RECORDS):
            self._await_record(session, channel)
        else:
            channel.park()
        self._tell_target()

    def _expect(self, channel: ServerChannel) -> None:
        sealed = self.peer.key is not None and self.peer.role == "target"
        more = SEALED_MORE + (LIST_MORE if channel.key[0] == 2 else 0)
        channel.expect_record(more if sealed else 0)
        channel.by_link = sealed

    def _await_record(self, session: ServerSession, channel: ServerChannel) -> None:
        self._expect(channel)
        if channel.key[0] == 2:
            self._begin_display(session, channel, channel.key[1])  # type: ignore[arg-type]
            held = session.helds[channel.key[1]]
            held.arrival = Arrival(held)
        elif isinstance(channel, DeviceServer):
            core = self.devices[channel.key].core
            core.waiting = False
            core.add_client(session.id, self._now, flow_control=channel.flow_control)
            core.waiting = True

    # -- what arrives ------------------------------------------------------------------------------

    def _handle(self, session: ServerSession, channel: ServerChannel, event: Event) -> None:
        if isinstance(event, WholeRequested) and isinstance(channel, MainServer):
            self._whole(session, channel, event.version)
        elif isinstance(event, StartRequested):
            self._start_anew(session, channel)
        elif isinstance(event, RecordArrived):
            self._brought(session, channel, event.data)
        elif session.id in self._kept and isinstance(event, (AgentPiece, AgentTokens)):
            self._keep_event(session, event)
        else:
            super()._handle(session, channel, event)

    def _whole(self, session: ServerSession, channel: MainServer, version: int) -> None:
        can = version <= main.MIGRATION_VERSION
        channel.agree(can)
        self._wants(session.connections[MAIN])
        if can:
            self._all_wait(session)
        self._go_on(session, MAIN)

    def _all_wait(self, session: ServerSession) -> None:
        with_record = {key for key in session.channels if key[0] in RECORDS}
        for key in sorted(self.target.agreed(session.id, with_record)):
            if key != MAIN:
                self._await_record(session, session.channels[key])
        self.agent.core.waiting = True

    def _start_anew(self, session: ServerSession, channel: ServerChannel) -> None:
        parked = self.target.started(session.id)
        self._let_up(session.id)
        for key in (MAIN, *sorted(parked)):
            found = session.channels.get(key)
            if found is not None:
                found.unpark()
                self._begin(session, found)
                self._wants(session.connections[key])
        self._ask_now(session)
        self._tell_target()
        for key in (MAIN, *sorted(parked)):
            self._go_on(session, key)

    def _ask_now(self, session: ServerSession) -> None:
        """The guest may be about to move on: who was still arriving is asked to follow."""
        channel = session.channels.get(MAIN)
        if isinstance(channel, MainServer):
            channel.arrived()
            self._wants(session.connections[MAIN])

    def _go_on(self, session: ServerSession, key: Key) -> None:
        connection = session.connections.get(key)
        if connection is not None and not connection.closing:
            self._channel_received(connection, b"")

    def _brought(self, session: ServerSession, channel: ServerChannel, data: bytes) -> None:
        """A client has brought the record of a channel."""
        waits = self.carried is not None and not self._late_told and not channel.by_link
        if channel.key[0] == 3 and waits:
            until = self._now + LATE_SECONDS
            self._late_awaited[session.id] = (data, until)
            self.target.extend(session.id, until)
        else:
            self._arrives(session, channel, data, sealed=True)
            self.urgent = True  # its client has waited for what is there

    def _arrives(
        self, session: ServerSession, channel: ServerChannel, data: bytes, *, sealed: bool
    ) -> None:
        """Go on with a channel where its record says; ``sealed``: as a client brings it."""
        connection = session.connections[channel.key]
        try:
            if sealed:
                data = self._unsealed(session.id, channel.key, data)
            if channel.by_link and channel.key[0] == 2:
                data, kept = split_kept(data)
                arrival = session.helds[channel.key[1]].arrival
                assert arrival is not None
                arrival.kept = kept
            record = parse_record(channel.key[0], data)
            channel.unpark()
            self._restore(session, channel, record)
            if channel.error is not None:
                raise channel.error
        except AiospiceError as error:
            if isinstance(error, RemoteProtocolError):
                error.where = f"{channel.name} of {connection.peer.address}"
            channel.fail(error)
            self._end(session, str(error), error)
            return
        self._has_arrived(session, channel)

    def _has_arrived(self, session: ServerSession, channel: ServerChannel) -> None:
        """A channel goes on here: so may those that have no record, and the rest of the session."""
        connection = session.connections[channel.key]
        begin = self.target.record(session.id, channel.key, self._now)
        for key in sorted(begin):
            self._take_up(session, key)
        self._wants(connection)
        if session.id not in self.target.arrivals:
            self._all_here(session)
        self._tell_target()
        self._go_on(session, channel.key)

    def _restore(
        self, session: ServerSession, channel: ServerChannel, record: HandoverRecord
    ) -> None:
        if isinstance(record, MainRecord) and isinstance(channel, MainServer):
            self._restore_main(session, channel, record)
        elif isinstance(record, DisplayRecord) and isinstance(channel, DisplayServer):
            self._restore_display(session, channel, record)
        elif isinstance(record, InputsRecord) and isinstance(channel, InputsServer):
            held = {} if self.carried is None else self.carried.held
            lifted = session.id in self._lifted
            channel.thaw(record, self.machine.locks, held.get(session.id), lifted=lifted)
            held.pop(session.id, None)  # not before: of a record that can't be so it has to go up
            self._lifted.discard(session.id)
            late = self._late_here.pop(session.id, LateInputs(()))
            channel.counts = False
            for event in channel.replay(late.messages, self._now):
                self._handle(session, channel, event)
            channel.counts = True
            if not channel.late_awaited:
                self._to_guest(channel.press_again())
        elif isinstance(record, (VmcRecord, SmartcardRecord)):
            assert isinstance(channel, DeviceServer)
            self._restore_device(session, channel, record)
        else:
            raise RemoteProtocolError(f"a record of another channel than {channel.name}")

    def _restore_display(
        self, session: ServerSession, channel: DisplayServer, record: DisplayRecord
    ) -> None:
        held = session.helds[channel.key[1]]
        thaw(held, record, self._now)
        wishes = {} if self.carried is None else self.carried.wishes.get(session.id, {})
        if channel.key[1] in wishes:
            channel.compression, channel.video_codecs = wishes[channel.key[1]]
        if record.pixmap_cache_freezer and session.caches.cleared_by is not None:
            for other in session.helds.values():
                if other is not held and other.started:
                    wait_for_clearing(other)
                    self._wants(session.connections[2, other.display.id])
        self._pump(session, channel.key[1])

    def _restore_device(
        self,
        session: ServerSession,
        channel: DeviceServer,
        record: VmcRecord | SmartcardRecord,
    ) -> None:
        device = self.devices[channel.key]
        core, carried = device.core, None
        if self.carried is not None:
            carried = self.carried.devices.get(channel.key)
        local = session.connections[channel.key].peer.local
        if isinstance(channel, VmcServer) and local:
            channel.compresses = False
        if not record.device.connected:
            core.waiting = False
            grant = core.clients[session.id].tokens if channel.flow_control else 0
        elif isinstance(record, SmartcardRecord) and isinstance(core, SmartcardDevice):
            grant = thaw_smartcard(core, session.id, record, self._now, state=carried)
        else:
            grant = thaw_client(core, session.id, record.device, self._now, state=carried)
        if grant:
            channel.give(grant, core.rules.client_limit)
        if isinstance(channel, PortServer):
            known = True if carried is None else carried.opened
            if device.opened != known:
                event = vmc.PortEvents.OPENED if device.opened else vmc.PortEvents.CLOSED
                channel.state(event)
        self._device_moved(device)

    # -- main and its agent ------------------------------------------------------------------------

    def _restore_main(
        self, session: ServerSession, channel: MainServer, record: MainRecord
    ) -> None:
        record.check(
            window=self.agent.core.rules.window,
            max_chunk=MAX_CHUNK,
            max_from_agent=MAX_MESSAGE,
            max_to_agent=MAX_MESSAGE,
        )
        channel.send(main.MultiMediaTime(time=self.client_time()))
        channel.mouse_mode(self.machine.mouse_modes, self.machine.mouse_mode)
        if not record.device.connected:
            if self.agent.opened:
                self._tell_agent(channel)
            session.agent_told = self.agent.opened
        elif self.agent.opened:
            self._restore_agent(session, record)
        else:
            self._kept[session.id] = (record, [], self._now + RECORD_SECONDS)
            session.agent_told = True

    def _restore_agent(self, session: ServerSession, record: MainRecord) -> None:
        core = self.agent.core
        assert isinstance(core, AgentDevice)
        state = None if self.carried is None else self.carried.agent
        waiting = core.waiting
        thaw_agent(core, session.id, record, state, self._now)
        core.waiting = waiting  # until all that are on their way are here
        session.agent_told = True

    def _keep_event(self, session: ServerSession, event: Event) -> None:
        events = self._kept[session.id][1]
        events.append(event)
        if len(events) > 4 * self.agent.core.rules.window:
            error = RemoteProtocolError("sends to an agent that isn't there yet", where="main:0")
            self._end(session, str(error), error)

    def _agent_here(self) -> None:
        """The guest's agent is here: go on with clients whose records wait for it."""
        kept, self._kept = self._kept, {}
        for number, (record, events, _) in kept.items():
            session = self.sessions.get(number)
            channel = session.channels.get(MAIN) if session is not None else None
            if session is None or channel is None:
                continue
            if not self.agent.opened:
                self._kept[number] = kept[number]
                continue
            try:
                self._restore_agent(session, record)
            except RemoteProtocolError as error:
                self._end(session, str(error), error)
                continue
            for event in events:
                self._handle(session, channel, event)
        self._agent_moves()

    def _agent_comes(self, here: bool) -> None:
        """Clients that are here learn of it; those whose record waits go on with it."""
        super()._agent_comes(here)
        if here:
            self._agent_here()

    def _agent_moves(self) -> None:
        """Once no session that may have a part in the agent's stream is awaited, it flows."""
        if not self.agent.core.waiting:
            return
        coming = any(MAIN in arrival.waiting for arrival in self.target.arrivals.values())
        self.agent.core.waiting = coming or bool(self._kept)
        self._device_moved(self.agent)
        self._agent_said()

    # -- the rest of a session ---------------------------------------------------------------------

    def _take_up(self, session: ServerSession, key: Key) -> None:
        """A channel without record goes on here."""
        channel = session.channels.get(key)
        if channel is None or channel.phase is not ServerPhase.PARKED:
            return
        channel.unpark()
        if isinstance(channel, CursorServer):
            state = self.machine.cursors.get(key[1]) or CursorState()
            channel.resume(state.shape, state.position, state.visible)
        else:
            self._begin(session, channel)
        self._wants(session.connections[key])
        self._go_on(session, key)

    def _all_here(self, session: ServerSession) -> None:
        self._let_up(session.id)
        if clear_at_last(session.helds.values()):
            for number in session.helds:
                self._wants(session.connections[2, number])
        self._agent_moves()
        self._ask_now(session)

    def _touched(self, session: ServerSession, key: Key) -> None:
        """Something came on a parked channel: its client is on it, so it can begin."""
        if self.target.touched(session.id, key):
            self._take_up(session, key)

    def _ended(self, session: ServerSession) -> None:
        super()._ended(session)
        self._kept.pop(session.id, None)
        self._late_awaited.pop(session.id, None)
        self.target.gone(session.id, "the client is gone")
        self._let_up(session.id)
        self._agent_moves()
        self._tell_target()

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._leave(session, channel)
        arriving = session.id in self.target.arrivals
        self.target.channel_gone(session.id, channel.key)
        if arriving and session.id not in self.target.arrivals and session.id in self.sessions:
            self._all_here(session)  # it was the last one that was waited for
        device = self.devices.get(channel.key)
        if device is not None:
            device.core.waiting = False

    def _inputs_late(self, now: float) -> None:
        """Nobody has told what was typed meanwhile: go on without."""
        late = [number for number, (_, until) in self._late_awaited.items() if until <= now]
        for number in late:
            self._late_here.setdefault(number, LateInputs(()))
            self._lifted.discard(number)  # it isn't known what to press again
        self._late_told = self._late_told or bool(late)
        self._inputs_go_on(late)
        for number in late:  # nor what has gone up meanwhile
            session = self.sessions.get(number)
            channel = session.channels.get((3, 0)) if session is not None else None
            if isinstance(channel, InputsServer):
                self._to_guest(channel.release_all())

    # -- time --------------------------------------------------------------------------------------

    def _serving_wake(self) -> float | None:
        soonest, target = super()._serving_wake(), self.target.next_wake()
        if (target or self._keys_until) is None and not self._kept and not self._late_awaited:
            return soonest
        times = [soonest, target, self._keys_until]
        times += [until for _, _, until in self._kept.values()]
        times += [until for _, until in self._late_awaited.values()]
        return min((at for at in times if at is not None), default=None)

    def _wake_serving(self, now: float) -> None:
        self._inputs_late(now)  # first: a record that waits for us isn't late
        self._keys_late(now)
        self.target.wake(now)
        late, self.target.late = self.target.late, []
        for client, reason in late:
            session = self.sessions.get(client)
            if session is not None:
                self._end(session, reason, None)
        for number, (_, _, until) in list(self._kept.items()):
            if until <= now:
                del self._kept[number]
                session = self.sessions.get(number)
                if session is not None and MAIN in session.channels:
                    session.channels[MAIN].send(main.AgentDisconnected(error_code=0))
                    session.agent_told = False
                    self._wants(session.connections[MAIN])
        self._agent_moves()
        self._tell_target()
        super()._wake_serving(now)

    if TYPE_CHECKING:

        def _end(
            self, session: ServerSession, reason: str, error: AiospiceError | None = None
        ) -> None: ...

        def _channel_received(self, connection: Connection, data: bytes) -> None: ...

        def _look_at_reading(self, connection: Connection, channel: ServerChannel) -> None: ...
