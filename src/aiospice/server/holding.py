"""Clients that are held back before the guest's state is taken: nothing is under way then.

::

    (guest stops) hold_clients -> (clients_held) -> freeze_machine -> complete_migration

A client of ours is asked for it on each channel (`aiospice.wire.hold`), and let go if the machine
stays. Any other is sent to the target at once, but for main and its displays: its mark says the
same, and a cancel gets it back, since main stays here until the machine has moved. Who doesn't
answer in time is reported and leaves as with `direct`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from aiospice.channels.events import Event
from aiospice.channels.server.base import HeldBack, ServerPhase
from aiospice.channels.server.vmc import DeviceServer
from aiospice.devices.carry import take_back
from aiospice.errors import StateError
from aiospice.migration.source import ClientStage, Policy, SourcePhase
from aiospice.server.forwarding import Forwarding
from aiospice.wire.caps import MainCap, has
from aiospice.wire.common import MigrateFlags
from aiospice.wire.hold import HOLD_CHANNELS

if TYPE_CHECKING:
    from aiospice.channels.server.base import ServerChannel
    from aiospice.server.carried import MachineState
    from aiospice.server.config import ServerConfig
    from aiospice.server.machine import Machine
    from aiospice.server.session import ServerSession

__all__ = ["HOLD_SECONDS", "ClientsHeld", "Holding", "NotHeld", "Patience"]

Key = tuple[int, int]
MAIN: Key = (1, 0)
#: How long clients may take to be held, while the guest stands still.
HOLD_SECONDS = 0.5
#: How often whoever waits for them looks at the clock, in seconds.
LOOK_SECONDS = 0.01
#: A client of ours goes on by itself after 30 s: before that, nothing of it is under way.
_HELD_FOR = 20.0


class NotHeld(Event):
    """A client wasn't held in time: what it sends is passed on as it comes."""

    client: int
    channels: tuple[str, ...]
    seconds: float


class ClientsHeld(Event):
    """All clients that can be held are, ``seconds`` after the guest has stopped.

    Nothing of them is under way.
    """

    seconds: float


class _Stage(Enum):
    """How far a channel is."""

    ASKED = "asked"
    HELD = "held"
    MISSED = "missed"


class Patience:
    """Waits until a moment and no longer, though looks at the clock come late: others are busy.

    It ends with the last look, if the next may come too late: as long as the longest took so far.
    """

    def __init__(self, until: float) -> None:
        self.until = until
        self._last: float | None = None
        self._longest = 0.0

    def look(self, now: float) -> float | None:
        """Seconds until the next look, unless something else ends the wait; None: it is time."""
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        left = self.until - now
        if left <= 0 or left < self._longest:
            return None
        return min(left, LOOK_SECONDS)


class Holding(Forwarding):
    """See the module's text."""

    def __init__(self, config: ServerConfig, machine: Machine) -> None:
        super().__init__(config, machine)
        #: Channels that are held, by (client, channel).
        self._holds: dict[tuple[int, Key], _Stage] = {}
        self._hold_until: float | None = None
        self._hold_seconds = HOLD_SECONDS
        self._held_at = self._hold_since = 0.0

    def hold_clients(
        self, now: float, seconds: float = HOLD_SECONDS, since: float | None = None
    ) -> None:
        """Have clients stop sending: the guest has stopped, and its state is to be taken.

        Until ``clients_held``, or ``seconds`` have passed ``since`` the guest stopped (None: it did
        now). `StateError` unless clients are ready to go and the policy is `Policy.HOLD`.
        """
        self._now = now
        if self.source.policy is not Policy.HOLD or self.source.phase is not SourcePhase.READY:
            raise StateError("clients are held once they are ready, with the policy 'hold'")
        if self.frozen is not None or self._holds:
            raise StateError("clients are held already, or it is too late for it")
        self._hold_since = now if since is None else since
        self._hold_until, self._hold_seconds = self._hold_since + seconds, seconds
        self._held_at = now
        for number, session in self.sessions.items():
            main = session.channels.get(MAIN)
            if self.source.clients.get(number) is not ClientStage.WHOLE or main is None:
                continue
            ours = has(main.client_caps, MainCap.HOLD)
            if not ours and not self.peer.up:
                continue  # it stays, and isn't sent to a target that is out of reach
            for channel in list(session.channels.values()):
                if channel.key[0] in HOLD_CHANNELS and (ours or channel is not main):
                    self._hold(session, channel, ours=ours)
        self._look_at_holds()

    @property
    def clients_held(self) -> bool:
        """Nobody is waited for: the guest's state can be taken."""
        return self._hold_until is None

    def _hold(self, session: ServerSession, channel: ServerChannel, *, ours: bool) -> None:
        if channel.phase is not ServerPhase.OPEN:
            return
        self._holds[session.id, channel.key] = _Stage.ASKED
        if ours:
            channel.hold()
        else:
            if isinstance(channel, DeviceServer):
                self._fill(session, channel, low=None)
            channel.migrate(MigrateFlags.NEED_FLUSH)
        self._wants(session.connections[channel.key])

    def _look_at_holds(self) -> None:
        if self._hold_until is not None and _Stage.ASKED not in self._holds.values():
            self._hold_until = None
            self._events.append(ClientsHeld(seconds=self._now - self._hold_since))

    def _miss(self) -> None:
        """The time is up."""
        self._hold_until = None
        missed: dict[int, list[str]] = {}
        for place, stage in self._holds.items():
            if stage is _Stage.ASKED:
                self._holds[place] = _Stage.MISSED
                missed.setdefault(place[0], []).append(
                    self.sessions[place[0]].channels[place[1]].name
                )
        for client, names in missed.items():
            self._events.append(
                NotHeld(client=client, channels=tuple(names), seconds=self._hold_seconds)
            )

    def freeze_machine(self, now: float, *, plain: bool = False) -> MachineState:
        """Stop the guest's side; gives what goes to the target together with the guest."""
        if self._hold_until is not None:
            self._miss()
        for session in self.sessions.values():
            for key, channel in session.channels.items():
                if isinstance(channel, DeviceServer) and channel.phase is ServerPhase.MIGRATING:
                    take_back(self.devices[key].core, session.id)
        return super().freeze_machine(now, plain=plain)

    # -- what clients answer -----------------------------------------------------------------------

    def _handle(self, session: ServerSession, channel: ServerChannel, event: Event) -> None:
        if isinstance(event, HeldBack):
            self._is_held(session, channel)
        else:
            super()._handle(session, channel, event)

    def _flushed(self, session: ServerSession, channel: ServerChannel) -> None:
        if self._holds.get((session.id, channel.key)) is _Stage.ASKED:
            self._is_held(session, channel)
        elif self.source.moved or (session.id, channel.key) not in self._holds:
            super()._flushed(session, channel)

    def _is_held(self, session: ServerSession, channel: ServerChannel) -> None:
        place = (session.id, channel.key)
        if place in self._holds:
            self._holds[place] = _Stage.HELD
        self._look_at_holds()

    # -- and then it leaves, or stays --------------------------------------------------------------

    def _send_directly(self, session: ServerSession, channel: ServerChannel) -> None:
        if channel.phase is ServerPhase.MIGRATING:  # it has been sent off to be held
            self._tell_record(session, channel, whole=channel.flushed)
        elif self._is_quiet(session, channel):
            channel.migrate(0)
            self._tell_record(session, channel, whole=True)
        else:
            super()._send_directly(session, channel)

    def _is_quiet(self, session: ServerSession, channel: ServerChannel) -> bool:
        stage = self._holds.get((session.id, channel.key))
        return stage is _Stage.HELD and self._now < self._held_at + _HELD_FOR

    def cancel_migration(self, now: float) -> None:
        """The guest stays: go on as if nothing had been."""
        self._now = now
        holds, self._holds = self._holds, {}
        self._hold_until = None
        if not self.source.moved:
            for client, key in holds:
                session = self.sessions.get(client)
                channel = session.channels.get(key) if session is not None else None
                if session is not None and channel is not None:
                    channel.stay()
                    self._wants(session.connections[key])
        super().cancel_migration(now)

    def _leave(self, session: ServerSession, channel: ServerChannel) -> None:
        super()._leave(session, channel)
        self._holds.pop((session.id, channel.key), None)
        self._look_at_holds()

    # -- time --------------------------------------------------------------------------------------

    def _serving_wake(self) -> float | None:
        soonest, until = super()._serving_wake(), self._hold_until
        if soonest is None or until is None:
            return until if soonest is None else soonest
        return min(soonest, until)

    def _wake_serving(self, now: float) -> None:
        if self._hold_until is not None and self._hold_until <= now:
            self._miss()
        super()._wake_serving(now)
