"""How a session moves to another server: seamless, semi-seamless, or by starting over there.

Which of them it comes to is up to the source: MIGRATE on each channel, MIGRATE_END on main, or
MIGRATE_SWITCH_HOST on main. When a hand-over that had begun can't be completed (a source that
dies, a target connection that is gone, a limit that has passed), the session starts over on the
target, since that is where the machine is by then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from aiospice.channels.base import HELD_SECONDS, ChannelPhase, ClientChannel
from aiospice.channels.events import Event
from aiospice.channels.main import MainChannel, MigrationRequested
from aiospice.client.connections import MAIN, Connections
from aiospice.effects import Pause, Resume
from aiospice.errors import (
    AiospiceError,
    CertificateError,
    ConnectError,
    MigrationFailed,
    RemoteProtocolError,
    SessionLost,
    SpiceTimeout,
)
from aiospice.migration.client import (
    ChannelMoved,
    MigrationAbandoned,
    MigrationClient,
    MigrationPhase,
)
from aiospice.migration.links import ChannelLink, LinkStage
from aiospice.migration.targets import destination_text, target_endpoints
from aiospice.wire import main
from aiospice.wire.channels import channel_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiospice.agent.client import ClientAgent
    from aiospice.channels.base import Key
    from aiospice.client.config import ClientConfig
    from aiospice.effects import Endpoint
    from aiospice.link.client import ClientCrypto

__all__ = ["BytesAtRisk", "ChannelGone", "Moving"]

#: Starting over on the target may take so long: upstream's target may itself wait 10 s for
#: records that never come (spice-server ``server/display-channel.cpp``).
START_OVER_SECONDS = 20.0
#: The source's connections are read so long while the session starts over, for what is under way.
DRAIN_SECONDS = 2.0
RETRY_SECONDS = 0.2
#: What the source may have read from a guest's device and not sent (spice-server
#: ``server/spicevmc.cpp`` stops at 1 MiB; one message of 64 KiB and 32 bytes more), and what may
#: be in the socket buffers of both hosts at Linux's default limits.
FROM_GUEST_AT_MOST = (1 << 20) + 65568 + (10 << 20)


class BytesAtRisk(Event):
    """The session started over, so bytes of a device may be lost: at most so many.

    ``to_guest`` is counted (`aiospice.channels.vmc.VmcChannel.bytes_at_risk`); ``from_guest`` is
    what a server and two kernels can hold, whatever was really there.
    """

    key: tuple[int, int]
    channel: str
    #: Name of a port, else empty.
    name: str
    to_guest: int
    from_guest: int


class ChannelGone(Event):
    """A channel is closed: the server ended it, or the new server doesn't have it."""

    key: tuple[int, int]
    channel: str
    error: AiospiceError | None


class Moving(Connections, ABC):
    """The part of a client session that follows migrations."""

    _agent: ClientAgent | None

    def __init__(self, config: ClientConfig, crypto: ClientCrypto) -> None:
        super().__init__(config, crypto)
        self.migration = MigrationClient()
        #: Channels that have not left the source yet, while switching.
        self._to_move: set[Key] = set()
        #: The connections to the source of channels that have moved, for a way back.
        self._moved_from: dict[Key, ChannelLink] = {}
        #: Channels that were lost since the first has moved.
        self._lost_meanwhile: list[ClientChannel] = []
        #: A migration that was asked for before the last one was complete.
        self._postponed: MigrationRequested | None = None
        #: Starting over: channels still to come, when to give up, when to try again.
        self._starting_over = False
        self._awaited: set[Key] = set()
        self._over_deadline: float | None = None
        self._drain_deadline: float | None = None
        self._retry_at: float | None = None
        self._at_risk = 0
        self._asking: set[Key] = set()
        #: What the server has to send next on main, and by when.
        self._step: tuple[str, float] | None = None
        #: The certificate's subject that the user (not a source) has asked for.
        self._pinned_subject = config.host_subject

    # -- what a session has to provide ---------------------------------------------------------

    @abstractmethod
    def _deliver(self, channel: ClientChannel, events: list[Event], now: float) -> None:
        """Act on what a channel says, and look what became of it."""

    @abstractmethod
    def _lose(self, error: AiospiceError) -> None:
        """The session is over."""

    @abstractmethod
    def _restarted(self, channel: ClientChannel) -> None:
        """A channel is about to begin anew: forget what belonged to the old server."""

    @abstractmethod
    def _tell_shown(self, channel: ClientChannel) -> None:
        """Tell the target of a display what is there, once all that has come is carried out."""

    # -- steps the source asks for -------------------------------------------------------------

    def _on_migration_requested(self, event: MigrationRequested, now: float) -> None:
        if event.step == "begin":
            self._begin(event, now)
        elif event.step == "cancel":
            self._cancel(now)
        elif event.step == "end":
            self._end(now)
        else:
            assert event.destination is not None
            self._switch_host(event.destination, now)

    @property
    def switching(self) -> bool:
        """Channels leave for the target: what has come on any of them is to be read at once."""
        return self.migration.phase is MigrationPhase.SWITCHING

    @property
    def starting_over(self) -> bool:
        """The session opens its channels anew, on the server where it was told to go."""
        return self._starting_over

    def _begin(self, event: MigrationRequested, now: float) -> None:
        phase = self.migration.phase
        if phase in (MigrationPhase.SWITCHING, MigrationPhase.RESTARTING) or self._starting_over:
            self._postponed = event
            return
        if phase is not MigrationPhase.IDLE:
            self._cancel(now)  # the source has given the earlier one up
        assert event.destination is not None
        self.migration.begin(event.destination, event.version, now, self.config.timeout)
        if not self.session_id:
            self.migration.refuse("the source has not opened a session yet")
            return
        try:
            endpoints = self._targets(event.destination)
        except MigrationFailed as error:
            self.migration.refuse(str(error))
            return
        secure = event.destination.secure_port not in (0, 0xFFFF)
        links = {
            key: ChannelLink(
                self._numbers,
                key,
                endpoint,
                self._link_arguments(key, self.session_id, hold=key != MAIN),
                endpoint._replace(port=event.destination.secure_port, tls=True)
                if secure and not endpoint.tls
                else None,
            )
            for key, endpoint in endpoints.items()
        }
        self.migration.connect(links, now)

    def _endpoints(self) -> dict[Key, Endpoint]:
        """Where each channel is now."""
        return {key: link.endpoint for key in self.at if (link := self.link_of(key)) is not None}

    def _targets(self, destination: main.DstInfo) -> dict[Key, Endpoint]:
        return target_endpoints(
            self._endpoints(),
            destination,
            migrate_to=self.config.migrate_to,
            pinned_subject=self._pinned_subject,
        )

    def _answer(self) -> None:
        """Pass on what the migration core has to say to the source, and to the world."""
        migration = self.migration
        if not (migration.answers or migration.effects or migration.events):
            return
        channel = self.channels.get(MAIN)
        for message in self.migration.answers:
            if channel is not None:
                channel.send(message)
            if isinstance(message, main.MigrateConnectedSeamless):
                for other in self.channels.values():
                    other.may_migrate = True
        self.migration.answers = []
        self._effects += self.migration.effects
        self.migration.effects = []
        self._events += self.migration.events
        self.migration.events = []

    def _cancel(self, now: float) -> None:
        if self._postponed is not None:
            self._postponed = None
            self.migration.answers.append(main.MigrateConnectError())
        phase = self.migration.phase
        if self._starting_over or phase is MigrationPhase.RESTARTING or MAIN in self._moved_from:
            return  # main is on the target, which can call off only what it has asked for itself
        for key, old in self._moved_from.items():
            channel = self.channels[key]
            if (link := self.link_of(key)) is not None:
                self._drop(link)
            self.retired.pop(old.number, None)
            assert old.framing is not None
            channel.switch_back(old.framing, old.link.server_channel_caps)
            self._put_on(channel, old)
        lost = [key for key, old in self._moved_from.items() if old.stage is LinkStage.CLOSED]
        self._moved_from = {}
        self._lost_meanwhile = []
        self._to_move = set()
        for channel in self.channels.values():
            channel.may_migrate = False
            if channel.phase in (ChannelPhase.AWAITING_DATA, ChannelPhase.FROZEN):
                channel.unfreeze()
        self.migration.cancel()
        for key in lost:
            error = SessionLost("the source closed it during a migration that was cancelled")
            self._drop_channel(key, error)
        for key in self.stopped & set(self.at):
            self._effects.append(Pause(self.at[key]))
        for channel in list(self.channels.values()):
            self._deliver(channel, channel.receive(b"", now), now)

    # -- seamless ------------------------------------------------------------------------------

    def _after_channel(self, channel: ClientChannel, now: float) -> None:
        """Follow a channel's MIGRATE: called whenever its phase may have changed."""
        if channel.shows_due:
            self._tell_shown(channel)
        if channel.migrate_since is None or channel.phase is ChannelPhase.CLOSED:
            return
        if self._starting_over:
            return  # another channel couldn't follow; this one begins anew as well
        if self.migration.phase is MigrationPhase.READY:
            self._to_move = set(self.at)
            self.migration.switching(MigrationPhase.SWITCHING, now)
            # The guest stands still there, so little more can come, and MIGRATE is behind it.
            for key in self.stopped:
                if (link := self.link_of(key)) is not None:
                    self._effects.append(Resume(link.number))
        if channel.phase is ChannelPhase.FROZEN and not channel.wants_to_send:
            self._move(channel, now)

    def _move(self, channel: ClientChannel, now: float) -> None:
        key = channel.key
        target = self.migration.claim(key, now)
        since = channel.migrate_since
        if target is None or target.framing is None:
            self._fall_back(self.migration.broken or f"no connection for {channel.name}", now)
            return
        old = self.link_of(key)
        self._retire(key)
        if old is not None:
            self._moved_from[key] = old
        channel.switch(target.framing, target.link.server_channel_caps)
        self._put_on(channel, target)
        self._to_move.discard(key)
        self._events.append(
            ChannelMoved(
                number=self.migration.number,
                channel=channel.name,
                seconds=now - (now if since is None else since),
            )
        )
        if not self._to_move:
            self._arrived("seamless", now)
        # Last, since what waited on the target's connection may lead anywhere.
        self._deliver(channel, channel.receive(b"", now), now)

    def _arrived(self, mode: str, now: float) -> None:
        destination = self.migration.destination
        assert destination is not None
        self._moved_from = {}
        self._lost_meanwhile = []
        self._close_retired()
        self._settle_on(destination, self._endpoints())
        for link in self._pending():  # it was on its way to the server that has been left
            self._drop(link)
            self._open(link.key, connection_id=self.session_id)
        self.migration.finish(mode, self._at_risk, now)
        self._at_risk = 0
        for channel in self.channels.values():
            channel.may_migrate = False
        self._answer()
        postponed, self._postponed = self._postponed, None
        if postponed is not None:
            self._begin(postponed, now)
            self._answer()

    def _settle_on(self, destination: main.DstInfo, endpoints: dict[Key, Endpoint]) -> None:
        """From now on new connections go to the target, by the same rules as there."""
        plain = [endpoint for endpoint in endpoints.values() if not endpoint.tls]
        named = set(self.config.secure_channels)
        if plain:
            named |= {channel_name(key[0]) for key, end in endpoints.items() if end.tls}
        target = endpoints[MAIN]
        self.config = self.config._replace(
            host=target.host,
            port=plain[0].port if plain else 0,
            tls_port=destination.secure_port if destination.secure_port != 0xFFFF else 0,
            unix_path="",
            host_subject=target.host_subject,
            secure_channels=tuple(sorted(named)),
        )

    # -- semi-seamless -------------------------------------------------------------------------

    def _end(self, now: float) -> None:
        migration = self.migration
        if migration.phase is not MigrationPhase.READY or migration.agreed:
            raise RemoteProtocolError(
                "no semi-seamless migration is under way", message="MigrateEnd", where="main:0"
            )
        target = migration.claim(MAIN, now)
        if target is None or target.framing is None:
            self._fall_back(migration.broken or "no connection for main:0", now)
            return
        migration.switching(MigrationPhase.RESTARTING, now, START_OVER_SECONDS)
        channel = self.channels[MAIN]
        for key in list(self.at):
            self._count_risk(self.channels[key])
            self._retire(key)
        self._restarted(channel)
        events = channel.restart(target.framing, target.link.server_channel_caps)
        self._put_on(channel, target)
        channel.send(main.ClientMigrateEnd())
        self._to_move = set(migration.links)
        self._deliver(channel, events + channel.receive(b"", now), now)

    def _restart_moved(self, now: float) -> None:
        """INIT has come from the target of a semi-seamless move: the other channels follow."""
        for key in sorted(self._to_move):
            channel = self.channels.get(key)
            if channel is None:
                continue  # it was lost on the source, before the move
            target = self.migration.claim(key, now)
            if target is None or target.framing is None:
                self._fall_back(self.migration.broken or f"no link for {channel.name}", now)
                return
            self._restarted(channel)
            events = channel.restart(target.framing, target.link.server_channel_caps)
            self._put_on(channel, target)
            self._deliver(channel, events + channel.receive(b"", now), now)
        self._to_move = set()
        self._arrived("semi-seamless", now)

    # -- starting over on the target -----------------------------------------------------------

    def _switch_host(self, destination: main.DstInfo, now: float) -> None:
        """The machine is on the target, and nothing was handed over."""
        migration = self.migration
        if migration.phase is MigrationPhase.IDLE or migration.destination != destination:
            migration.begin(destination, None, now, self.config.timeout)
        self._start_over(destination, now)

    def _fall_back(self, reason: str, now: float) -> None:
        """A hand-over can't be completed; the machine is on the target all the same."""
        destination = self.migration.destination
        assert destination is not None
        self.migration.events.append(
            MigrationAbandoned(number=self.migration.number, reason=reason)
        )
        self._start_over(destination, now)

    def _start_over(self, destination: main.DstInfo, now: float) -> None:
        try:
            endpoints = self._targets(destination)
        except MigrationFailed as error:
            self._lose(error)
            return
        if MAIN not in endpoints:
            self._lose(SessionLost("the main channel was lost before the session could move"))
            return
        self.migration.abort()
        self.migration.switching(MigrationPhase.RESTARTING, now, START_OVER_SECONDS)
        self._answer()
        self._moved_from = {}
        self._to_move = set()
        for channel in self._lost_meanwhile:  # they begin anew with the session
            self._count_risk(channel)
        self._lost_meanwhile = []
        self._postponed = None
        self._step = None
        for link in self._pending():
            self._drop(link)
        self._starting_over = True
        self._over_deadline = now + START_OVER_SECONDS
        self._drain_deadline = now + DRAIN_SECONDS
        self._awaited = set(self.channels) - {MAIN}
        self._asking = set()
        self._settle_on(destination, endpoints)
        # Upstream's server closes everything once main is closed: it stays until the others,
        # which may still bring data, have found their place on the target.
        self._retire(MAIN)
        for channel in self.channels.values():
            channel.suspended = True
        self._open(MAIN, connection_id=0)

    def _reattach(self, link: ChannelLink, now: float) -> None:
        """A channel is linked on the server where the session starts over."""
        channel = self.channels[link.key]
        if link.key != MAIN:
            self._count_risk(channel)
            if (old := self.link_of(link.key)) is not None:
                self._drop(old)
        assert link.framing is not None
        self._restarted(channel)
        events = channel.restart(link.framing, link.link.server_channel_caps)
        self._put_on(channel, link)
        self._awaited.discard(link.key)
        self._deliver(channel, events + channel.receive(b"", now), now)
        self._check_started_over(now)

    def _check_started_over(self, now: float) -> None:
        main_channel = self.channels.get(MAIN)
        if not self._starting_over or self._awaited or self._asking:
            return
        if MAIN not in self.at:  # sent on to another server, and not linked there yet
            return
        if not isinstance(main_channel, MainChannel) or main_channel.awaits_init:
            return
        self._starting_over = False
        self._over_deadline = self._drain_deadline = self._retry_at = None
        self._arrived("switch-host", now)

    def _forget(self, key: Key) -> None:
        """The connection of a channel is gone, the channel waits for another."""
        number = self.at.pop(key, None)
        if number is not None:
            self.links.pop(number, None)

    def _drop_channel(self, key: Key, error: AiospiceError | None) -> None:
        """A channel is no more."""
        if (link := self.link_of(key)) is not None:
            self._drop(link)
        channel = self._let_go(key)
        if channel is not None:
            if self.migration.phase is MigrationPhase.SWITCHING:
                self._lost_meanwhile.append(channel)
            self._events.append(ChannelGone(key=key, channel=channel.name, error=error))

    def _let_go(self, key: Key) -> ClientChannel | None:
        """Forget a channel wherever it is kept."""
        self.at.pop(key, None)
        self._awaited.discard(key)
        self._asking.discard(key)
        self._to_move.discard(key)
        if (old := self._moved_from.pop(key, None)) is not None:
            self._drop(old)
        return self.channels.pop(key, None)

    def _count_risk(self, channel: ClientChannel) -> None:
        from aiospice.channels.vmc import PortChannel, VmcChannel

        if not isinstance(channel, VmcChannel):
            return
        name = channel.port_name if isinstance(channel, PortChannel) else ""
        self._at_risk += channel.bytes_at_risk
        self._events.append(
            BytesAtRisk(
                key=channel.key,
                channel=channel.name,
                name=name or "",
                to_guest=channel.bytes_at_risk,
                from_guest=FROM_GUEST_AT_MOST,
            )
        )

    # -- failures and time ---------------------------------------------------------------------

    def _source_gone(self, channel: ClientChannel, error: AiospiceError | None, now: float) -> bool:
        """A connection was lost: True if a migration explains or repairs it."""
        if self._starting_over and channel.key in self._awaited:
            self._forget(channel.key)  # the source's end, expected
            return True
        restarting = self.migration.phase is MigrationPhase.RESTARTING and not self._starting_over
        if restarting and channel.key == MAIN:
            self._fall_back("the target closed main:0 before the session began there", now)
            return True
        if self.migration.phase is MigrationPhase.SWITCHING and channel.key in self._to_move:
            self._fall_back(f"the source closed {channel.name} during the hand-over", now)
            return True
        return False

    def _check_moved(self, now: float) -> None:
        """A channel was lost: perhaps it was the last one that had not moved."""
        if self.migration.phase is MigrationPhase.SWITCHING and not self._to_move:
            self._arrived("seamless", now)

    def _main_failed(self, link: ChannelLink, error: AiospiceError, now: float) -> None:
        """The target can't be linked to while starting over: try again, within the limit."""
        limit = self._over_deadline
        again = isinstance(error, ConnectError) and not isinstance(error, CertificateError)
        if again and limit is not None and now + RETRY_SECONDS < limit:
            self._retry_at = now + RETRY_SECONDS
            return
        self._lose(self._not_there(error))

    def _not_there(self, error: AiospiceError) -> SessionLost:
        destination = self.migration.destination
        where = destination_text(destination) if destination is not None else "the target"
        return MigrationFailed(f"the machine has moved to {where}, and the session can't: {error}")

    def senders(self) -> Iterator[int]:
        """Connections that may have something to send, each looked at when the caller gets there.

        Most have nothing, which is seen here in fewer steps than `wants_to_send` takes for each.
        """
        channels, at = self.channels, self.at
        for number, link in list(self.links.items()):
            if not (link._out or link.link._out):
                channel = channels.get(link.key) if at.get(link.key) == number else None
                fetches = link.key == MAIN and self._agent is not None
                if channel is None or (channel.idle and not fetches):
                    continue
            yield number
        for link in [*self.retired.values(), *self.migration.links.values()]:
            if link._out or link.link._out:
                yield link.number

    def _next_move_wake(self) -> list[float]:
        migration = self.migration
        times = [self._over_deadline, self._drain_deadline, self._retry_at, migration.next_wake()]
        times += [channel.held_until for channel in self.channels.values()]
        return [time for time in times if time is not None]

    def _wake_move(self, now: float) -> None:
        for channel in self.channels.values():
            if channel.held_until is not None and channel.held_until <= now:
                self._held_too_long(channel, now)
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._open(MAIN, connection_id=0)
        if self._drain_deadline is not None and self._drain_deadline <= now:
            self._drain_deadline = None
            self._stop_draining()
        if self._over_deadline is not None and self._over_deadline <= now:
            self._lose(self._not_there(SpiceTimeout(f"not up after {START_OVER_SECONDS:g} s")))
            return
        self.migration.wake(now)
        migration = self.migration
        if migration.deadline is not None and migration.deadline <= now:
            if migration.phase is MigrationPhase.SWITCHING:
                names = ", ".join(sorted(self.channels[key].name for key in self._to_move))
                self._fall_back(f"{names} did not leave the source in time", now)
            elif migration.phase is MigrationPhase.RESTARTING and not self._starting_over:
                self._fall_back("the target did not begin the session in time", now)

    def _held_too_long(self, channel: ClientChannel, now: float) -> None:
        """A server that is about to go reads nothing any more of what would leave now.

        It may be silent, or this process was stopped and hasn't read what it says: that is waited
        for as long as the connection is there. Any other server has forgotten about us.
        """
        going = self.migration.phase in (MigrationPhase.READY, MigrationPhase.SWITCHING)
        channel.held_until = now + HELD_SECONDS if going else None

    def _stop_draining(self) -> None:
        """Leave the source for good: what has not come by now is lost."""
        self._close_retired()
        for key in list(self._awaited):
            if (link := self.link_of(key)) is not None:
                self._drop(link)
                self._forget(key)
