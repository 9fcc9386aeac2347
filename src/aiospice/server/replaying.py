"""Clients that keep copies of what they send, and leave with them: the source's part.

Where ``ServerConfig.keep`` says so, a client of ours is asked to on each channel that carries data
to the guest (`aiospice.wire.keep`). When its machine moves by `Policy.REPLAY` or `Policy.ACK`, what
it has copies of doesn't go with the guest; it is told how far the guest is in it, leaves at once,
and sends the rest to the target. What it still sends here counts no more. A client that doesn't
keep copies, on whatever channel, moves as with `Policy.DIRECT`; that is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.events import Event
from aiospice.channels.server.base import CopiesTold, ServerPhase
from aiospice.channels.server.main import MainServer
from aiospice.channels.server.vmc import DeviceServer
from aiospice.devices.agentdev import AgentDevice
from aiospice.devices.replay import (
    Aside,
    Report,
    forget_client,
    leave,
    leave_agent,
    put_aside,
    take_again,
    waits_for_others,
)
from aiospice.migration.peer import Late
from aiospice.migration.source import ClientStage
from aiospice.server.holding import Holding
from aiospice.wire import main, smartcard, vmc
from aiospice.wire.caps import MainCap, has
from aiospice.wire.keep import KEEP_CHANNELS, REPLAY_CHANNELS

if TYPE_CHECKING:
    from aiospice.channels.server.base import Passed, ServerChannel
    from aiospice.server.carried import MachineState
    from aiospice.server.config import ServerConfig
    from aiospice.server.devices import Device
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession

__all__ = ["CopiesRefused", "NotReplayed", "Replaying"]

Key = tuple[int, int]
MAIN: Key = (1, 0)
#: What a client sends again, or tells the target itself: not for us any more.
_AGAIN = {
    1: {main.ClientAgentData.number, main.ClientAgentToken.number, main.AgentStart.number},
    8: {smartcard.ClientData.number, smartcard.ClientTokens.number},
    9: {
        vmc.ClientData.number,
        vmc.ClientCompressedData.number,
        vmc.ClientTokens.number,
    },
}


class CopiesRefused(Event):
    """A client keeps no copies on a channel: there would be too many of them."""

    client: int
    channel: str


class NotReplayed(Event):
    """A client can't send again what the guest hasn't taken: it moves as with ``direct``."""

    client: int
    reason: str


class Replaying(Holding):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        #: What is unread of each device, since the guest was stopped, and what waits at the agent.
        self._aside: dict[Key, Aside] = {}
        self._aside_held: dict[int, list[tuple[bytes, bool]]] = {}
        #: How far the guest is, for each client that leaves with copies.
        self._reports: dict[int, dict[Key, Report]] = {}
        #: Channels that have been told that, and of how many bytes what is passed on since.
        self._left_with: dict[tuple[int, Key], int] = {}

    # -- copies are asked for ----------------------------------------------------------------------

    def _ask_for_copies(self, session: ServerSession, channel: ServerChannel) -> None:
        main_channel = session.channels.get(MAIN)
        if self.config.keep == "none" or main_channel is None:
            return
        ours = has(main_channel.client_caps, MainCap.KEEP)
        flows = not isinstance(channel, DeviceServer) or channel.flow_control
        if ours and flows and channel.key[0] in KEEP_CHANNELS:
            channel.keep(self._device_of(channel.key).core.rules.window)
            self._wants(session.connections[channel.key])

    def _device_of(self, key: Key) -> Device:
        return self.agent if key == MAIN else self.devices[key]

    def _begin(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._begin(session, channel)
        self._ask_for_copies(session, channel)

    def _handle(self, session: ServerSession, channel: ServerChannel, event: Event) -> None:
        told = isinstance(event, CopiesTold)
        if told and channel.key == MAIN and session.id in self._agent_waits:
            self._agent_later(session, event)  # what it said before is without copies
        elif isinstance(event, CopiesTold):
            self._copies_told(session, channel, event.on)
        else:
            super()._handle(session, channel, event)

    def _copies_told(self, session: ServerSession, channel: ServerChannel, on: bool) -> None:
        if self.frozen is not None and not on:
            return  # it leaves with those that it has; if not, it is looked at again
        core = self._device_of(channel.key).core
        core.keep(session.id, on, acks=self.config.keep == "acks")
        if not on:
            channel.keep(0)
            self._wants(session.connections[channel.key])
            self._events.append(CopiesRefused(client=session.id, channel=channel.name))

    # -- the guest's state is taken ----------------------------------------------------------------

    def freeze_machine(self, now: float, *, plain: bool = False) -> MachineState:
        """Stop the guest's side; gives what goes to the target together with the guest."""
        going = set() if plain else self._who_replays()
        self._aside = {}
        if self.frozen is None:
            self._aside = {key: put_aside(self._device_of(key).core) for key in self._all_keys()}
        assert isinstance(self.agent.core, AgentDevice)
        self._aside_held = {id: list(held) for id, held in self.agent.core.held.items()}
        state = super().freeze_machine(now, plain=plain)
        if plain:
            self._aside = {}
            return state
        found = {MAIN: leave_agent(self.agent.core, state.agent, self._aside[MAIN], going)}
        for key, device in self.devices.items():
            found[key] = leave(device.core, state.devices[key], self._aside[key], going)
        for id in going:
            self._reports[id] = {key: told[id] for key, told in found.items() if id in told}
            state.replays[id] = self.sessions[id].agent_told
        return state

    def _all_keys(self) -> tuple[Key, ...]:
        return (MAIN, *self.devices)

    def _who_replays(self) -> set[int]:
        """The clients that leave with copies; of the others, why not."""
        if not self.source.policy.replays:
            return set()
        reasons: dict[int, str] = {}
        going: set[int] = set()
        for id, stage in self.source.clients.items():
            session = self.sessions.get(id)
            if stage is not ClientStage.WHOLE or session is None:
                continue
            reason = self._why_not_replayed(session)
            if reason:
                reasons[id] = reason
            else:
                going.add(id)
        assert isinstance(self.agent.core, AgentDevice)
        for id in waits_for_others(self.agent.core, going):
            going.discard(id)
            reasons[id] = "another client's messages to the agent wait among its own"
        self._events += [NotReplayed(client=id, reason=text) for id, text in reasons.items()]
        return going

    def _why_not_replayed(self, session: ServerSession) -> str:
        if not has(session.channels[MAIN].client_caps, MainCap.KEEP):
            return "it can't keep copies of what it sends"
        if self.config.keep == "none":
            return "nobody asked it to keep copies (keep)"
        for key, channel in session.channels.items():
            if key[0] not in KEEP_CHANNELS:
                continue
            client = self._device_of(key).core.clients.get(session.id)
            if not channel.keeps or (client is not None and not client.keeps):
                return f"it keeps no copies on {channel.name}"
            if key == MAIN and client is not None and client.before:
                return "the agent hasn't read what it sent before it kept copies"
        return ""

    def cancel_migration(self, now: float) -> None:
        """The guest stays: go on as if nothing had been."""
        state = self.frozen
        aside, self._aside = self._aside, {}
        if state is not None and aside and not self.source.moved:
            take_again(self.agent.core, state.agent.device, aside[MAIN])
            state.agent.held = self._aside_held
            for key, device in self.devices.items():
                take_again(device.core, state.devices[key], aside[key])
        self._reports = {}
        super().cancel_migration(now)
        for session in list(self.sessions.values()):
            for key, channel in session.channels.items():
                if key[0] in KEEP_CHANNELS and channel.keep_asked and not channel.keeps:
                    client = self._device_of(key).core.clients.get(session.id)
                    if client is not None and client.keeps:
                        self._copies_told(session, channel, on=False)

    # -- a client leaves ---------------------------------------------------------------------------

    def _leaves_with_copies(self, session: ServerSession, channel: ServerChannel) -> bool:
        reports = self._reports.get(session.id)
        if reports is None or channel.key[0] not in REPLAY_CHANNELS:
            return False
        if channel.phase is not ServerPhase.OPEN:
            return False
        report = reports.get(channel.key, Report())
        channel.leave_with_copies(report.messages, report.partial)
        self._left_with[session.id, channel.key] = 0
        if isinstance(channel, (MainServer, DeviceServer)):
            forget_client(self._device_of(channel.key).core, session.id)
        return True

    def _passed(self, session: ServerSession, channel: ServerChannel, event: Passed) -> None:
        place = (session.id, channel.key)
        if place not in self._left_with:
            super()._passed(session, channel, event)
            return
        kind = 9 if channel.key[0] in (10, 11) else channel.key[0]
        if kind == 2 or event.number in _AGAIN[kind]:
            return
        self._left_with[place] += len(event.body) + 64
        if self._left_with[place] > 64 << 10:
            self._floods(session, channel)
        else:
            self._tell_peer(Late(*place, event.number, event.body))

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._leave(session, channel)
        self._left_with.pop((session.id, channel.key), None)

    def _ended(self, session: ServerSession) -> None:
        super()._ended(session)
        self._reports.pop(session.id, None)

    if TYPE_CHECKING:
        _agent_waits: dict[int, list[Event]]

        def _agent_later(self, session: ServerSession, event: Event) -> None: ...
