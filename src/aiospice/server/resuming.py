"""Clients that arrive with copies of what they sent: the target's part.

Their channels take no record. The guest's state says which clients that are (`MachineState`), and
each says itself, with the first message of a channel, what it knows: tokens (`Resume`), and what it
shows (`Shows`). What it claims of itself can harm nobody else: tokens are checked against the
window, what it is to send the rest of against its length and its header, and surfaces against those
of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.server.base import Resumed, ServerPhase
from aiospice.channels.server.display import DisplayServer
from aiospice.channels.server.main import MainServer
from aiospice.channels.server.vmc import DeviceServer, PortServer, VmcServer
from aiospice.devices.agentdev import AgentDevice
from aiospice.devices.replay import resume
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.errors import AiospiceError, RemoteProtocolError
from aiospice.server.linked import Linked
from aiospice.server.shows import go_on_showing
from aiospice.wire import keep, main, vmc
from aiospice.wire.keep import REPLAY_CHANNELS

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.channels.server.base import ServerChannel
    from aiospice.devices.carry import DeviceState
    from aiospice.devices.chardev import CharDevice
    from aiospice.migration.peer import Late
    from aiospice.server.carried import MachineState
    from aiospice.server.config import ServerConfig
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession
    from aiospice.wire.handover import HandoverRecord

__all__ = ["Resuming"]

Key = tuple[int, int]
MAIN: Key = (1, 0)


class Resuming(Linked):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        #: Clients that go on by themselves, and whether they know of the agent that is there.
        self._replays: dict[int, bool] = {}
        self._agents_then = 0

    def _be_new(self) -> None:
        super()._be_new()
        self._replays, self._reports, self._left_with, self._aside = {}, {}, {}, {}

    # -- the guest comes ---------------------------------------------------------------------------

    def thaw_machine(self, state: MachineState, now: float) -> None:
        """The guest is here: what `freeze_machine` gave on the source."""
        super().thaw_machine(state, now)
        self._replays = dict(state.replays)
        assert isinstance(self.agent.core, AgentDevice)
        self._agents_then = self.agent.core.attachments
        for id in state.replays:
            session = self.sessions.get(id)
            if session is None:
                self._nobody_goes_on(id)
                continue
            for key, channel in list(session.channels.items()):
                self._expect_resume(session, channel)
                self._go_on(session, key)

    def _expect_resume(self, session: ServerSession, channel: ServerChannel) -> None:
        waits = channel.phase in (ServerPhase.WAITING, ServerPhase.PARKED)
        if session.id in self._replays and channel.key[0] in REPLAY_CHANNELS and waits:
            channel.expect_resume()

    def _await_record(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._await_record(session, channel)
        self._expect_resume(session, channel)

    def _nobody_goes_on(self, client: int) -> None:
        """A client doesn't come: what it was to complete is completed without it."""
        self._replays.pop(client, None)
        for device in (self.agent, *self.devices.values()):
            if device.core.abandon(client):
                self._device_moved(device)

    # -- and its clients ---------------------------------------------------------------------------

    def _handle(self, session: ServerSession, channel: ServerChannel, event: Event) -> None:
        if isinstance(event, Resumed):
            self._resumed(session, channel, event)
        else:
            super()._handle(session, channel, event)

    def _resumed(self, session: ServerSession, channel: ServerChannel, event: Resumed) -> None:
        try:
            channel.unpark()
            message = event.message
            if isinstance(message, keep.Shows) and isinstance(channel, DisplayServer):
                self._resume_display(session, channel, message)
            elif isinstance(message, keep.Resume) and isinstance(channel, MainServer):
                self._resume_main(session, channel, message)
            elif isinstance(message, keep.Resume) and isinstance(channel, DeviceServer):
                self._resume_device(session, channel, message)
        except AiospiceError as error:
            if isinstance(error, RemoteProtocolError):
                error.where = f"{channel.name} of {session.peer}"
            channel.fail(error)
            self._end(session, str(error), error)
            return
        self._has_arrived(session, channel)

    def _resume_display(
        self, session: ServerSession, channel: DisplayServer, message: keep.Shows
    ) -> None:
        number = channel.key[1]
        go_on_showing(session.helds[number], message, self._now)
        wishes = {} if self.carried is None else self.carried.wishes.get(session.id, {})
        if number in wishes:
            channel.compression, channel.video_codecs = wishes[number]
        self._pump(session, number)

    def _resume_device(
        self, session: ServerSession, channel: DeviceServer, message: keep.Resume
    ) -> None:
        device = self.devices[channel.key]
        core = device.core
        state = None if self.carried is None else self.carried.devices.get(channel.key)
        if isinstance(channel, VmcServer) and session.connections[channel.key].peer.local:
            channel.compresses = False
        if isinstance(core, SmartcardDevice) and state is not None:
            core.answered = state.answered
        grant = self._resume_client(session, core, message, state)
        self._go_on_keeping(session, channel)
        if grant:
            channel.give(grant, core.rules.client_limit)
        if isinstance(channel, PortServer) and state is not None and device.opened != state.opened:
            event = vmc.PortEvents.OPENED if device.opened else vmc.PortEvents.CLOSED
            channel.state(event)
        self._device_moved(device)

    def _resume_main(
        self, session: ServerSession, channel: MainServer, message: keep.Resume
    ) -> None:
        core = self.agent.core
        assert isinstance(core, AgentDevice)
        channel.arriving = False
        channel.send(main.MultiMediaTime(time=self.client_time()))
        channel.mouse_mode(self.machine.mouse_modes, self.machine.mouse_mode)
        same = self.agent.opened and core.attachments == self._agents_then
        told = self._replays.get(session.id, False)
        self._go_on_keeping(session, channel)
        core.keep(session.id, True, acks=self.config.keep == "acks")
        if told and same and message.started:
            self._resume_agent(session, channel, core, message)
        elif not (told and same):
            core.abandon(session.id)
            if told:
                channel.send(main.AgentDisconnected(error_code=0))
            if self.agent.opened:
                self._tell_agent(channel)
        session.agent_told = self.agent.opened

    def _resume_agent(
        self,
        session: ServerSession,
        channel: MainServer,
        core: AgentDevice,
        message: keep.Resume,
    ) -> None:
        state = None if self.carried is None else self.carried.agent.device
        waiting, core.waiting = core.waiting, False
        core.add_client(session.id, self._now, flow_control=True)
        core.to_agent.setdefault(session.id, core._filter(monitors=core.monitors)).discard = False
        grant = self._resume_client(session, core, message, state)
        core.waiting = waiting  # until all that are on their way are here
        if grant:
            channel.send(main.AgentToken(num_tokens=grant))
        self._device_moved(self.agent)

    def _resume_client(
        self,
        session: ServerSession,
        core: CharDevice,
        message: keep.Resume,
        state: DeviceState | None,
    ) -> int:
        return resume(
            core,
            session.id,
            tokens=message.tokens,
            granted=message.granted,
            size=message.message_size,
            acks=self.config.keep == "acks",
            state=state,
            now=self._now,
        )

    def _go_on_keeping(self, session: ServerSession, channel: ServerChannel) -> None:
        """The client keeps copies as it did, or is to stop that."""
        channel.keep_asked = channel.keeps = True
        if self.config.keep == "none":
            channel.keeps = False
            channel.keep(0)

    def _restore(
        self, session: ServerSession, channel: ServerChannel, record: HandoverRecord
    ) -> None:
        super()._restore(session, channel, record)
        self._ask_for_copies(session, channel)

    def _late_came(self, message: Late) -> None:
        session = self.sessions.get(message.client)
        channel = session.channels.get(message.channel) if session is not None else None
        if message.client not in self._replays or message.channel[0] not in REPLAY_CHANNELS:
            super()._late_came(message)
        elif session is not None and channel is not None and channel.phase is ServerPhase.OPEN:
            self._replay(session, channel, ((message.number, message.body),))

    # -- ends --------------------------------------------------------------------------------------

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._leave(session, channel)
        if session.id in self._replays and channel.key[0] in REPLAY_CHANNELS:
            device = self.agent if channel.key == MAIN else self.devices.get(channel.key)
            if device is not None and device.core.abandon(session.id):
                self._device_moved(device)

    def _ended(self, session: ServerSession) -> None:
        super()._ended(session)
        if session.id in self._replays:
            self._nobody_goes_on(session.id)
