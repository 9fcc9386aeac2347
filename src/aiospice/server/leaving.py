"""How the sessions of a server leave for another one: the core's part as the source of a hand-over.

::

    prepare_migration -> (MoveReady) -> freeze_machine -> complete_migration -> (MoveFinished)

`freeze_machine` stops the guest's side and gives what goes with the guest, and
`cancel_migration` undoes that. Facts: spice-server ``server/reds.cpp``,
``server/red-channel-client.cpp``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.server.base import FlushMarked, Passed
from aiospice.channels.server.cursor import CursorServer
from aiospice.channels.server.display import DisplayServer
from aiospice.channels.server.inputs import InputsServer
from aiospice.channels.server.main import MainServer, TargetAnswered
from aiospice.channels.server.playback import PlaybackServer
from aiospice.channels.server.record import RecordServer
from aiospice.channels.server.vmc import DeviceServer
from aiospice.devices.agentdev import AgentDevice
from aiospice.devices.carry import freeze_client
from aiospice.devices.carry_agent import freeze_agent, settle
from aiospice.devices.carry_smartcard import freeze_smartcard
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.errors import AiospiceError, LocalError, RemoteProtocolError, StateError
from aiospice.migration.peer import Late, LateEnd
from aiospice.migration.source import (
    ANSWER_SECONDS,
    Policy,
    RecordLeft,
    SourceMigration,
    SourcePhase,
)
from aiospice.server.arrival import cut_short, drop_beyond, freeze, is_drained, let_go
from aiospice.server.carried import (
    LateInputs,
    MachineState,
    lift_devices,
    put_devices_back,
    take_machine,
)
from aiospice.server.kept import MAX_IMAGES
from aiospice.server.keptlist import LISTED, list_kept
from aiospice.server.peering import Peering
from aiospice.server.serving import Serving
from aiospice.wire import main
from aiospice.wire.common import MigrateFlags
from aiospice.wire.handover import HandoverRecord, VmcRecord

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.channels.server.base import ServerChannel
    from aiospice.server.config import ServerConfig
    from aiospice.server.held import Held
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession
    from aiospice.wire.message import Message

__all__ = ["DRAIN_SECONDS", "Leaving"]

#: How long a client may take to be sent the last picture before it leaves without.
DRAIN_SECONDS = 4.0
#: How long displays are left alone at most, so that the guest stands still for a shorter time.
REST_SECONDS = 0.1
#: Messages that a client may send to its keyboard and mouse while the machine stands still.
MOST_TYPED = 4_000
_WHOLE = MigrateFlags.NEED_FLUSH | MigrateFlags.NEED_DATA_TRANSFER


class Leaving(Serving, Peering):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        Serving.__init__(self, config, machine)
        Peering.__init__(self)
        self.source = SourceMigration()
        #: What was last received is to be answered before anything else is: a record is due, or
        #: has come.
        self.urgent = False
        #: What has gone, or is about to go, with the guest.
        self.frozen: MachineState | None = None
        #: A record was told, since the machine stands still.
        self._any_record = False
        #: What clients have typed since.
        self._late: dict[int, list[tuple[int, bytes]]] = {}
        #: Displays whose clients are sent the last picture: (client, display), and until when.
        self._draining: dict[tuple[int, int], float] = {}
        #: Until when displays are left alone.
        self._rest_until = 0.0
        #: The last picture is still to be published.
        self._unseen = False

    # -- control -----------------------------------------------------------------------------------

    def prepare_migration(
        self,
        host: str,
        port: int = 0,
        tls_port: int = 0,
        cert_subject: str = "",
        policy: Policy = Policy.CARRY,
        *,
        now: float,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Have all clients connect to the target; `MoveReady` tells when they have.

        Who hasn't after ``seconds`` isn't waited for, and goes there as a new client.
        An attempt before this one is cancelled. `LocalError` for a target that can't be one,
        `StateError` once the machine has left.
        """
        self._now = now
        usable = host and all("!" <= char <= "~" for char in host) and len(host) <= 255
        if not usable or not 0 <= port <= 65535 or not 0 <= tls_port <= 65535:
            raise LocalError(f"{host!r}, ports {port} and {tls_port}: clients can't go there")
        if not (port or tls_port):
            raise LocalError("the target has neither a port nor a TLS port")
        if policy.needs_link and not self.peer.up:
            raise LocalError(f"policy {policy.value!r} needs a link to the target's server")
        destination = main.DstInfo(
            port=port, secure_port=tls_port, host=host.encode(), cert_subject=cert_subject.encode()
        )
        caps = {
            number: channel.client_caps
            for number, session in self.sessions.items()
            if (channel := session.channels.get((1, 0))) is not None
        }
        self.source.prepare(destination, policy, caps, now, seconds)
        self._carry_out()

    @property
    def clients_ready(self) -> bool:
        """All clients have answered, or had their time: nothing is lost by moving now."""
        return self.source.phase is SourcePhase.READY

    def rest(self, now: float) -> None:
        """Leave displays alone until it is decided whether the guest goes, `REST_SECONDS` at most.

        Called before `freeze_machine`: its last picture is published after that time then.
        """
        self._rest_until = now + REST_SECONDS
        for place, at in self._wakes.items():
            self._wakes[place] = max(at, self._rest_until)

    def freeze_machine(self, now: float, *, plain: bool = False) -> MachineState:
        """Stop the guest's side; gives what goes to the target together with the guest.

        Its last picture is published (see `rest`). From here on nothing reaches the guest, or comes
        from it.
        ``plain``: the target isn't ours, so what the guest hasn't read goes with the clients.
        """
        if self.frozen is not None:
            raise StateError("the machine stands still already")
        state = take_machine(self.machine)
        for number in self.machine.displays:
            self.drawn(number)
        self._publish_at = 0.0
        self._unseen = True
        if now >= self._rest_until:
            self._show_last(now)
        if plain:
            self._stop_devices()
        else:
            lift_devices(state, self.agent, self.devices, now)
        for number, session in self.sessions.items():
            inputs = session.channels.get((3, 0))
            if isinstance(inputs, InputsServer):
                state.held[number] = inputs.held_down
                inputs.passes_on = True
            state.wishes[number] = {
                key[1]: (channel.compression, channel.video_codecs)
                for key, channel in session.channels.items()
                if key[0] == 2 and isinstance(channel, DisplayServer)
            }
        self.frozen = state
        self._late = {}
        self._any_record = False
        for device in (self.agent, *self.devices.values()):
            self._device_moved(device)
        return state

    def complete_migration(self, now: float, wait: float | None = None) -> None:
        """The guest is on the target: clients follow, as soon as all have answered.

        ``wait``: who hasn't in so many seconds begins anew there; None: 10 s since they were asked.
        """
        self._now = now
        self._rest_over(now)
        self.source.complete(now, wait)
        self._carry_out()

    def cancel_migration(self, now: float) -> None:
        """The guest stays: go on as if nothing had been. `StateError` once clients have left."""
        self._now = now
        self._rest_over(now)
        self._unseen = False
        self.source.cancel()
        self._carry_out()
        state, self.frozen = self.frozen, None
        if state is None:
            return
        put_devices_back(state, self.agent, self.devices, now)
        for device in (self.agent, *self.devices.values()):
            self._device_moved(device)
        late, self._late = self._late, {}
        for number, session in self.sessions.items():
            channel = session.channels.get((3, 0))
            if channel is not None:
                channel.passes_on = False
                for event in channel.replay(late.get(number, ()), now):
                    self._handle(session, channel, event)

    def late_inputs(self) -> dict[int, LateInputs]:
        """What clients have typed since the machine stood still, for the target.

        It is all there once the clients' marks have come (`MoveFinished` at the latest). Where
        there is a link to the target, it goes there by itself.
        """
        return {number: LateInputs(tuple(each)) for number, each in self._late.items()}

    def publish(self, now: float) -> None:
        """Show clients what the guest has drawn, if it is time for a frame, and it is here."""
        if self._shows_frames():
            super().publish(now)

    def _shows_frames(self) -> bool:
        return self.frozen is None and not self._rest_until

    def _show_last(self, now: float) -> None:
        """Publish the last picture of the guest."""
        self._unseen = False
        super().publish(now)
        if self.source.moved:  # no video begins any more
            for display in self.machine.displays.values():
                display.videos = None

    def _rest_over(self, now: float) -> None:
        """Displays go on, but not in this turn: other channels come first."""
        if self._rest_until:
            self._wakes = {place: min(at, now) for place, at in self._wakes.items()}
            self._rest_until = 0.0

    def _pump(self, session: ServerSession, number: int) -> None:
        if self._rest_until > self._now or self._unseen:
            self._wakes[session.id, number] = max(self._now, self._rest_until)
        else:
            super()._pump(session, number)

    # -- orders ------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        source = self.source
        while source.orders:
            orders, source.orders = source.orders, []
            for order in orders:
                session = self.sessions.get(order.client)
                channel = session.channels.get((1, 0)) if session is not None else None
                if order.drop:
                    self.disconnect(order.client, "it did not follow the machine", self._now)
                if session is None or not isinstance(channel, MainServer) or order.drop:
                    continue
                if order.move:
                    self._move(session)
                elif order.withdraw:
                    channel.withdraw(self._now)
                elif isinstance(order.message, (main.MigrateBegin, main.MigrateBeginSeamless)):
                    channel.offer(order.message)
                elif order.message is not None and order.quiet:
                    self._part(session, order.message)
                elif order.message is not None:
                    session.leaving = not isinstance(order.message, main.MigrateCancel)
                    channel.send(order.message)
                if (1, 0) in session.connections:
                    self._wants(session.connections[1, 0])
        self._events += source.events
        source.events = []

    def _part(self, session: ServerSession, message: Message) -> None:
        """Tell a client to begin anew at the target."""

    def _stop_devices(self) -> None:
        """Nothing moves between guest and devices, which take in what clients still send."""
        for device in (self.agent, *self.devices.values()):
            device.core.stop()
            device.core.draining = True

    def _move(self, session: ServerSession) -> None:
        session.leaving = True
        if self.frozen is None:
            self._stop_devices()
        assert isinstance(self.agent.core, AgentDevice)
        settle(self.agent.core, self._now)
        for key in sorted(session.channels, reverse=True):  # main last
            if key not in session.channels:
                continue
            held = session.helds.get(key[1]) if key[0] == 2 else None
            if held is None:
                self._send_off(session, session.channels[key])
                continue
            held.display.videos = None
            let_go(held)
            self._draining[session.id, key[1]] = self._now + DRAIN_SECONDS
            self._pump(session, key[1])

    def _held_moved(self, session: ServerSession, number: int, held: Held) -> None:
        super()._held_moved(session, number, held)
        until = self._draining.get((session.id, number))
        if until is None or self._unseen:
            return
        if not is_drained(held):
            if self._now < until:
                return
            cut_short(held)
        del self._draining[session.id, number]
        drop_beyond(held)
        self._send_off(session, session.channels[2, number])

    def _send_off(self, session: ServerSession, channel: ServerChannel) -> None:
        """Send MIGRATE behind everything that the channel is still to be sent."""
        connection = session.connections[channel.key]
        flags = int(_WHOLE)
        if isinstance(channel, (MainServer, DeviceServer)):
            self._fill(session, channel, low=None)
        elif isinstance(channel, CursorServer):
            channel.leave()
            flags = 0
        elif isinstance(channel, (PlaybackServer, RecordServer)):
            channel.stop()
            flags = 0
        early = self.source.policy is Policy.CARRY_EARLY and channel.key[0] == 2
        if self._leaves_with_copies(session, channel):
            pass
        elif flags and self._is_direct():
            self._send_directly(session, channel)
        elif early and session.helds[channel.key[1]].started:
            channel.migrate(MigrateFlags.NEED_DATA_TRANSFER)
            self._flushed(session, channel)
        else:
            channel.migrate(flags)
        self._wants(connection)
        if isinstance(channel, DeviceServer):
            core = self.devices[channel.key].core
            channel.allow(core.credit(session.id), core.room())
            self._reading_changed(connection, channel)

    def _is_direct(self) -> bool:
        """Whether records go over the link to the target."""
        return False

    def _leaves_with_copies(self, session: ServerSession, channel: ServerChannel) -> bool:
        """Have a client leave that sends again what the guest hasn't taken; False if it can't."""
        return False

    def _send_directly(self, session: ServerSession, channel: ServerChannel) -> None:
        """Have a client leave at once, and tell the target its record."""

    # -- what clients answer -----------------------------------------------------------------------

    def _handle(self, session: ServerSession, channel: ServerChannel, event: Event) -> None:
        if isinstance(event, TargetAnswered):
            self.source.answered(session.id, event.answer, self._now)
            self._carry_out()
        elif isinstance(event, FlushMarked):
            self._flushed(session, channel)
        elif isinstance(event, Passed):
            self._passed(session, channel, event)
        else:
            super()._handle(session, channel, event)

    def _begin_inputs(self, session: ServerSession, channel: InputsServer, number: int) -> None:
        super()._begin_inputs(session, channel, number)
        channel.passes_on = self.frozen is not None

    def _passed(self, session: ServerSession, channel: ServerChannel, event: Passed) -> None:
        """Somebody types while the machine stands still."""
        kept = self._late.setdefault(session.id, [])
        kept.append((event.number, event.body))
        if len(kept) > MOST_TYPED:
            error = RemoteProtocolError(
                f"{MOST_TYPED} messages while the machine stands still", where=channel.name
            )
            channel.fail(error)
            self._channel_gone(session.connections[channel.key], error)

    def _flushed(self, session: ServerSession, channel: ServerChannel) -> None:
        data = self._record(session, channel)
        if data is None:
            return
        channel.send_record(self._seal(session.id, channel.key, data))
        self._wants(session.connections[channel.key])
        self.urgent = True
        if channel.key[0] == 3:
            self._tell_typed(session, channel)

    def _tell_typed(self, session: ServerSession, channel: ServerChannel) -> None:
        """What was typed while the machine stood still goes over the link, if there is one."""
        if not self.peer.up:
            return
        for number, body in self._late.pop(session.id, ()):
            self._tell_peer(Late(session.id, channel.key, number, body))
        self._tell_peer(LateEnd(session.id, channel.key, True))

    def _record(
        self, session: ServerSession, channel: ServerChannel, *, told: bool = False
    ) -> bytes | None:
        """The record of a channel, None if it fails with that; ``told``: it isn't sent there."""
        try:
            data = self._record_of(session, channel, told=told).encode()
            if channel.key[0] == 2 and self.peer.key is not None:
                images = session.helds[channel.key[1]].images
                data = list_kept(data, images, MAX_IMAGES if told else LISTED)
        except AiospiceError as error:
            channel.fail(error)
            self._channel_gone(session.connections[channel.key], error)
            return None
        if not self._any_record:
            self._any_record = True
            self._events.append(RecordLeft(client=session.id, channel=channel.name))
        return data

    def _record_of(
        self, session: ServerSession, channel: ServerChannel, *, told: bool
    ) -> HandoverRecord:
        kind, number = channel.key
        if kind == 1:
            assert isinstance(self.agent.core, AgentDevice)
            return freeze_agent(self.agent.core, session.id)
        if kind == 2:
            return freeze(session.helds[number], told=told)
        if isinstance(channel, InputsServer):
            return channel.freeze(() if self.peer.up else self._late.get(session.id, ()))
        core = self.devices[channel.key].core
        if isinstance(core, SmartcardDevice):
            return freeze_smartcard(core, session.id)
        return VmcRecord(device=freeze_client(core, session.id))

    def _ended(self, session: ServerSession) -> None:
        super()._ended(session)
        self._draining = {
            place: until for place, until in self._draining.items() if place[0] != session.id
        }
        self.source.gone(session.id, self._now)
        self._carry_out()

    # -- time --------------------------------------------------------------------------------------

    def _serving_wake(self) -> float | None:
        soonest, source = super()._serving_wake(), self.source.next_wake()
        if source is None and not (self._draining or self._rest_until or self._unseen):
            return soonest
        unseen = self._now if self._unseen else None
        times = [soonest, source, *self._draining.values(), self._rest_until or unseen]
        return min((at for at in times if at is not None), default=None)

    def _wake_serving(self, now: float) -> None:
        if self._rest_until and self._rest_until <= now:
            self._rest_over(now)
        if self._unseen and not self._rest_until:
            self._show_last(now)
        self.source.wake(now)
        self._carry_out()
        for (number, display), until in list(self._draining.items()):
            session = self.sessions.get(number)
            if session is not None and until <= now:
                self._held_moved(session, display, session.helds[display])
        super()._wake_serving(now)

    if TYPE_CHECKING:

        def disconnect(self, client: int, reason: str, now: float) -> bool: ...
