"""A client's session: connections, channels, screens, and what happens between them.

``ClientSession`` is a pure core. The shell (``aio``) opens and closes connections as its effects
say, hands in what comes (``connected``, ``received``, ``closed``, ``wake``), fetches what is to be
sent one message at a time (``take``), and passes the events on.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from aiospice.channels.base import ChannelPhase, ClientChannel
from aiospice.channels.events import Event
from aiospice.channels.main import (
    ChannelsListed,
    MainChannel,
    MigrationRequested,
    SessionStarted,
)
from aiospice.client.agent import WithAgent
from aiospice.client.connections import MAIN, named
from aiospice.client.moving import Moving
from aiospice.client.waiting import WAIT_SECONDS, Waiting
from aiospice.effects import Compute
from aiospice.errors import (
    AiospiceError,
    ConnectError,
    NeedSecured,
    RemoteProtocolError,
    SessionLost,
    SpiceTimeout,
)
from aiospice.migration.client import MigrationPhase
from aiospice.migration.links import ChannelLink, LinkStage
from aiospice.migration.targets import destination_text
from aiospice.wire import main
from aiospice.wire.caps import DisplayCap, has
from aiospice.wire.channels import channel_name

if TYPE_CHECKING:
    from aiospice.channels.display import DisplayChannel
    from aiospice.client.config import ClientConfig
    from aiospice.client.cursor import CursorTracker
    from aiospice.client.screen import Screen
    from aiospice.link.client import ClientCrypto

__all__ = [
    "ChannelOpened",
    "ChannelSkipped",
    "ClientSession",
    "SessionEnded",
    "SessionPhase",
    "SessionReady",
]

#: Bytes of display messages that wait for an image; beyond, the channel isn't read.
BACKLOG_LIMIT = 4 << 20
#: The number of a job is that of its display, and behind it so many bits of the display's own.
_JOB_BITS = 48
_IDLE = (LinkStage.OPENING, LinkStage.CLOSED)
_KNOWN_TYPES = (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)


class SessionPhase(Enum):
    """Where a session is."""

    NEW = "new"
    CONNECTING = "connecting"
    UP = "up"
    CLOSED = "closed"


class ChannelOpened(Event):
    """A channel is linked and in use."""

    key: tuple[int, int]
    channel: str
    #: Where it is, as an address.
    address: str


class ChannelSkipped(Event):
    """The server offers a channel that isn't opened, and why."""

    key: tuple[int, int]
    channel: str
    reason: str


class SessionReady(Event):
    """Every channel that was asked for is open (or has failed)."""

    channels: tuple[str, ...]


class SessionEnded(Event):
    """The session is over; ``error`` is None if it was closed from here."""

    error: AiospiceError | None


class _Computed(Event):
    """A job of a display has ended."""

    number: int
    result: Any


class _ImageCame(Event):
    """The image that a display waited for has come on another one."""


class ClientSession(WithAgent, Waiting, Moving):
    """See the module's text. Plain data: it pickles at any moment, and the copy carries on."""

    def __init__(self, config: ClientConfig, crypto: ClientCrypto) -> None:
        super().__init__(config, crypto)
        self.phase = SessionPhase.NEW
        self.error: AiospiceError | None = None
        self.name = ""
        self.uuid = ""
        self.screens: dict[int, Screen] = {}
        self.cursors: dict[int, CursorTracker] = {}
        self._caches: Any = None
        #: Every channel of the list has been linked or has failed.
        self.ready = False
        self._ready_told = False
        #: The list has come, so nothing but what is asked for is missing.
        self.listed = False
        #: Why channels that the server offers could not be opened.
        self.refused: dict[tuple[int, int], AiospiceError] = {}
        self._wait_deadlines: dict[tuple[int, int], float] = {}
        self._image_deadlines: dict[tuple[int, int], float] = {}
        self._looking_at_waits = False
        self._clock = 0.0
        #: The channel on which the last call of `received_lent` did nothing but draw, if it was
        #: like that: there may be events, and answers of this channel, and nothing else is new.
        self.drew: DisplayChannel | None = None

    # -- calls of the shell --------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin: open the main channel."""
        self.phase = SessionPhase.CONNECTING
        self._clock = now
        self._open(MAIN, connection_id=0)

    def connected(self, connection: int, now: float) -> None:
        """A connection that was asked for is up."""
        link = self._any_link(connection)
        if link is not None:
            link.connected(now, self.config.timeout)

    def received(self, connection: int, data: bytes | memoryview, now: float) -> None:
        """Bytes have come on a connection."""
        self._clock = now
        if self.phase is SessionPhase.CLOSED:
            return
        target = self.migration.link_of(connection)
        if target is not None:
            self.migration.received(target, data, now)
            self._answer()
            return
        link = self.links.get(connection)
        if link is None:
            old = self.retired.get(connection)
            if old is not None and old.framing is not None and old in self._moved_from.values():
                old.framing.feed(data)  # the source may have cancelled, and goes on here
                self._park(old)
            return
        if self.at.get(link.key) == connection:
            channel = self.channels[link.key]
            self._deliver(channel, channel.receive(data, now), now)
            return
        error = link.received(data)
        if error is not None:
            self._link_failed(link, error, now)
        elif link.stage is LinkStage.UP:
            self._linked(link, now)

    def received_lent(self, connection: int, view: memoryview, most: int, now: float) -> int:
        """Bytes have come on a connection, in memory that is written to again after this.

        Returns how many of the last bytes weren't taken, fewer than ``most``: they are to come
        again, before what follows them.
        """
        self.drew = None
        link = self.links.get(connection)
        if link is not None and self.at.get(link.key) == connection:
            channel = self.channels[link.key]
            framing = channel.framing
            if channel.between_messages:
                self._clock = now
                framing.lend(view)
                if link.key[0] == 2 and not link.paused:
                    left = self._draw_lent(channel, most, now)  # type: ignore[arg-type]
                    if left >= 0:
                        return left
                self._deliver(channel, channel.receive(b"", now), now)
                reads_on = channel.framing is framing and channel.phase is ChannelPhase.OPEN
                return framing.give_back(most if reads_on and not channel.waits else 0)
        self.received(connection, view, now)
        return 0

    def _draw_lent(self, channel: DisplayChannel, most: int, now: float) -> int:
        """Draw what comes first of what was lent.

        Returns what `Framing.give_back` does; -1 if there is more to do than drawing.
        """
        screen = self.screens.get(channel.key[1])
        run = None if screen is None else channel.next_run()
        if screen is None or run is None:
            return -1
        screen.tick(now, self._server_clock(now))
        try:
            events = screen.apply_batch(*run)
        except RemoteProtocolError as error:
            self._broken_off(channel, error)
            return -1
        if screen.restless or self._image_deadlines:
            self._drawn(screen, events, now)
            return -1
        self._events += events
        if self._somebody_waits():
            return -1
        left = channel.framing.give_back_torso(most)
        if left >= 0:
            self.drew = channel
        return left

    def closed(self, connection: int, error: AiospiceError | None, now: float) -> None:
        """A connection could not be opened, or is gone; None: the peer closed it in order."""
        if self.phase is SessionPhase.CLOSED:
            return
        target = self.migration.link_of(connection)
        if target is not None:
            self.migration.closed(target, error)
            self._answer()
            return
        if (old := self.retired.pop(connection, None)) is not None:
            old.stage = LinkStage.CLOSED
        link = self.links.get(connection)
        if link is None:
            return
        link.stage = LinkStage.CLOSED
        if self.at.get(link.key) == connection:
            self._connection_lost(self.channels[link.key], error, now)
        else:
            if error is None:
                link.link.receive_eof()
                error = link.link.error
            elif link.awaits_reply and not link.endpoint.tls and type(error) is ConnectError:
                error = ConnectError(f"{error}; is this its TLS port?")  # OpenSSL's way to refuse
            assert error is not None
            self._link_failed(link, error, now)

    def wants_to_send(self, connection: int) -> bool:
        """Whether `take` would give something now."""
        link = self.links.get(connection) or self._any_link(connection)
        if link is None or link.stage in _IDLE:
            return False
        if link.wants_to_send:
            return True
        if self.at.get(link.key) != connection:
            return False
        if link.key == MAIN and self._agent is not None:
            self._feed_agent(self.main_channel(), self._clock)
        return self.channels[link.key].wants_to_send

    def take(self, connection: int) -> bytes:
        """The next bytes for a connection, at most one message; b"" if there are none now."""
        link = self.links.get(connection) or self._any_link(connection)
        if link is None or link.stage in _IDLE:
            return b""
        if self.at.get(link.key) == connection:
            channel = self.channels[link.key]
            if link.key == MAIN:
                self._feed_agent(self.main_channel(), self._clock)
            data = link.take() or channel.take()
            if data and channel.phase is ChannelPhase.FROZEN:
                # The mark has left: now the channel may follow it.
                self._after_channel(channel, self._clock)
            return data
        return link.take()

    def secret_from(self, connection: int) -> int:
        """From which byte the next `take` is secret, -1: nothing of it is."""
        link = self._any_link(connection)
        return -1 if link is None else link.secret_from

    def next_wake(self) -> float | None:
        """When `wake` wants to be called, None: not until something comes."""
        if self.phase is SessionPhase.CLOSED:
            return None
        times = [link.deadline for link in self.links.values() if link.deadline is not None]
        times += self._next_move_wake()
        if self._wait_deadlines or self._image_deadlines:
            times += [*self._wait_deadlines.values(), *self._image_deadlines.values()]
        wakes = [*(screen.next_wake() for screen in self.screens.values()), self._agent_wake()]
        times += [wake for wake in wakes if wake is not None]
        if self._step is not None:
            times.append(self._step[1])
        return min(times) if times else None

    def wake(self, now: float) -> None:
        """Give up on what has taken too long, try again what is to be tried again."""
        if self.phase is SessionPhase.CLOSED:
            return
        for link in list(self.links.values()):
            if link.deadline is not None and link.deadline <= now:
                link.deadline = None
                self._link_failed(
                    link,
                    SpiceTimeout(
                        f"{link.endpoint}: no answer to the link of {link.name} for "
                        f"{self.config.timeout:g} s (a longer --timeout may help)"
                    ),
                    now,
                )
        if self._step is not None and self._step[1] <= now:
            self._lose(
                SpiceTimeout(
                    f"{self._where()}: the server did not send {self._step[0]} within "
                    f"{self.config.timeout:g} s"
                )
            )
            return
        self._give_up_waits(self._wait_deadlines, "another channel", now)
        self._give_up_waits(self._image_deadlines, "an image that a GLZ image copies from", now)
        for screen in self.screens.values():
            screen.wake(now)
            self._report(screen)
        self._wake_agent(now)
        self._wake_move(now)
        self._answer()

    def computed(self, number: int, result: Any, now: float) -> None:
        """What a `Compute` effect asked for is done; results may come in any order."""
        self._clock = now
        channel = self.channels.get((2, number >> _JOB_BITS))
        if self.phase is not SessionPhase.CLOSED and channel is not None:
            job = number & ((1 << _JOB_BITS) - 1)
            self._deliver(channel, [_Computed(number=job, result=result)], now)

    def leave(self, key: tuple[int, int]) -> None:
        """Close one channel from here."""
        if (link := self.link_of(key)) is not None:
            self._drop(link)
        self._let_go(key)

    def stop_opening(self) -> None:
        """Drop what is being opened, but for links that the server may be acting on."""
        for link in list(self.links.values()):
            if link.key != MAIN and self.at.get(link.key) != link.number and not link.with_server:
                self._asking.discard(link.key)
                self._drop(link)

    @property
    def being_set_up(self) -> bool:
        """Whether the server may be setting up a display or cursor at this moment.

        spice-server 0.15.1 does so in a thread of its own, after it has accepted the link, and
        dies of a main channel that is closed meanwhile (``server/red-worker.cpp``). It is done
        once the channel's first message has come.
        """
        for link in [*self.links.values(), *self.migration.links.values()]:
            if link.key[0] not in (2, 4):
                continue
            if self.at.get(link.key) != link.number:
                if link.with_server:
                    return True
            elif self.channels[link.key].serial == 0:
                return True
        return False

    def close(self) -> None:
        """End the session from here."""
        self._finish(None)

    # -- links ---------------------------------------------------------------------------------

    def _any_link(self, connection: int) -> ChannelLink | None:
        return (
            self.links.get(connection)
            or self.retired.get(connection)
            or self.migration.link_of(connection)
        )

    def _link_failed(self, link: ChannelLink, error: AiospiceError, now: float) -> None:
        again = link.secured() if isinstance(error, NeedSecured) else None
        self._drop(link)
        if again is not None:
            self._open_link(again)
            return
        if link.key == MAIN:
            if self._starting_over:
                self._main_failed(link, error, now)
            else:
                self._lose(named(error, link))
            return
        self._asking.discard(link.key)
        if link.key in self.channels:
            self._drop_channel(link.key, error)
        else:
            self.refused[link.key] = error = named(error, link)
            self._events.append(ChannelSkipped(key=link.key, channel=link.name, reason=str(error)))
        self._check_ready(now)

    def _linked(self, link: ChannelLink, now: float) -> None:
        """A link is up outside of a hand-over: its channel begins, or begins anew."""
        self._asking.discard(link.key)
        self.refused.pop(link.key, None)
        if link.key in self.channels:
            self._reattach(link, now)
        else:
            channel = self._make_channel(link)
            self.channels[link.key] = channel
            self._put_on(channel, link)
            self._prepare(channel)
            moving = self.migration.phase in (MigrationPhase.READY, MigrationPhase.SWITCHING)
            channel.may_migrate = moving and bool(self.migration.agreed)
            if link.key == MAIN:
                self._step = ("INIT", now + self.config.timeout)
            self._deliver(channel, channel.start() + channel.receive(b"", now), now)
        if self.phase is not SessionPhase.CLOSED and link.key in self.channels:
            self._events.append(
                ChannelOpened(key=link.key, channel=link.name, address=str(link.endpoint))
            )
        self._check_ready(now)

    def _prepare(self, channel: ClientChannel) -> None:
        if channel.key[0] == 2:
            from aiospice.client.caches import Caches
            from aiospice.client.decode import compression_for
            from aiospice.client.screen import Screen

            if self._caches is None:
                self._caches = Caches()
            screen = self.screens[channel.key[1]] = Screen(channel.key[1], self._caches)
            self._caches.displays = len(self.screens)
            screen.video_codecs = self.config.offered_codecs()
            display: DisplayChannel = channel  # type: ignore[assignment]
            display.video_codecs = self.config.preferred_codecs()
            display.compression = compression_for(self.config.compression, display.server_caps)
        elif channel.key[0] == 4:
            from aiospice.client.cursor import CursorTracker

            self.cursors[channel.key[1]] = CursorTracker(channel.key[1])

    def _restarted(self, channel: ClientChannel) -> None:
        if channel.key == MAIN:
            self._agent_starts_over("the session had to start over on another server")
            if self._caches is not None:
                self._caches.clear()  # shared by all displays, whose channels follow main
        elif channel.key[0] == 2:
            self._events += self.screens[channel.key[1]].reset()
            self._image_deadlines.pop(channel.key, None)
        elif channel.key[0] == 4:
            self.cursors[channel.key[1]].reset()

    def _check_ready(self, now: float) -> None:
        self._check_started_over(now)
        self.ready = self.listed and not self._asking
        if self.ready and not self._ready_told and not self._starting_over:
            self._ready_told = True
            names = sorted(channel.name for channel in self.channels.values())
            self._events.append(SessionReady(channels=tuple(names)))

    # -- events of the channels ----------------------------------------------------------------

    def _deliver(self, channel: ClientChannel, events: list[Event], now: float) -> None:
        """Act on what a channel says, pass it on, and look what became of the channel."""
        for event in events:
            if self.phase is SessionPhase.CLOSED:
                return
            handler = _HANDLERS.get(type(event).__name__)
            try:
                if handler is None:
                    self._events.append(event)
                else:
                    handler(self, channel, event, now)
            except RemoteProtocolError as error:
                self._broken_off(channel, error)
                break
        self._answer()
        if self.phase is SessionPhase.CLOSED or self.channels.get(channel.key) is not channel:
            return
        if channel.phase is ChannelPhase.CLOSED:
            self._connection_lost(channel, channel.error, now)
            return
        self._after_channel(channel, now)
        self._limit_parked(channel)
        self._look_at_waits(now)

    def _broken_off(self, channel: ClientChannel, error: RemoteProtocolError) -> None:
        """What a channel has brought can't be acted on: it ends."""
        error.where = error.where or channel.name
        channel.error = error
        channel.phase = ChannelPhase.CLOSED

    def _on_session_started(
        self, channel: ClientChannel, event: SessionStarted, now: float
    ) -> None:
        self.session_id = event.session_id
        self.phase = SessionPhase.UP
        self._events.append(event)
        if self.migration.phase is MigrationPhase.RESTARTING and not self._starting_over:
            self._restart_moved(now)
        else:
            self.listed = False
            self._step = ("the list of its channels", now + self.config.timeout)
            channel.send(main.AttachChannels())

    def _on_channels_listed(
        self, channel: ClientChannel, event: ChannelsListed, now: float
    ) -> None:
        self._events.append(event)
        self.listed = True
        self._step = None
        offered = dict.fromkeys(event.channels)
        for key in sorted(self._awaited - set(offered)):
            self._drop_channel(key, SessionLost("the target has no such channel"))
        for key in offered:
            if key == MAIN or (key in self.at and not self._starting_over) or key in self._asking:
                continue
            reason = self._why_not(key)
            if reason:
                self._events.append(
                    ChannelSkipped(key=key, channel=channel_name(*key), reason=reason)
                )
                continue
            self._asking.add(key)
            try:
                self._open(key, connection_id=self.session_id)
            except AiospiceError as error:
                self._asking.discard(key)
                self.refused[key] = error
                self._events.append(
                    ChannelSkipped(key=key, channel=channel_name(*key), reason=str(error))
                )
        self._check_ready(now)

    def _why_not(self, key: tuple[int, int]) -> str:
        if key[0] not in _KNOWN_TYPES:
            return "a type of channel that isn't known"
        wanted = self.config.channels
        if wanted is not None and channel_name(key[0]) not in wanted:
            return "not asked for"
        return ""

    def _on_migration(self, channel: ClientChannel, event: MigrationRequested, now: float) -> None:
        self._on_migration_requested(event, now)

    def _on_display(self, channel: ClientChannel, event: Any, now: float) -> None:
        screen = self.screens.get(channel.key[1])
        if screen is not None:
            screen.tick(now, self._server_clock(now))
            self._drawn(screen, screen.apply(event.message), now)

    def _on_display_batch(self, channel: ClientChannel, event: Any, now: float) -> None:
        screen = self.screens.get(channel.key[1])
        if screen is not None:
            screen.tick(now, self._server_clock(now))
            events = screen.apply_batch(event.data, event.begin, event.end, event.count)
            self._drawn(screen, events, now)

    def _on_computed(self, channel: ClientChannel, event: _Computed, now: float) -> None:
        screen = self.screens[channel.key[1]]
        screen.tick(now, self._server_clock(now))
        self._drawn(screen, screen.computed(event.number, event.result), now)

    def _on_image_came(self, channel: ClientChannel, event: _ImageCame, now: float) -> None:
        screen = self.screens[channel.key[1]]
        screen.tick(now, self._server_clock(now))
        self._drawn(screen, screen.go_on(), now)

    def _server_clock(self, now: float) -> int:
        main_channel: Any = self.channels.get(MAIN)
        return 0 if main_channel is None else main_channel.clock(now)

    def _report(self, screen: Screen) -> None:
        """Tell the server how its videos come out, if it wants to know."""
        channel = self.channels.get((2, screen.id))
        for report in screen.take_reports():
            if channel is not None and has(channel.server_caps, DisplayCap.STREAM_REPORT):
                channel.send(report)

    def _drawn(self, screen: Screen, events: list[Event], now: float) -> None:
        """Pass on what has happened to a screen, and have computed what it asks for."""
        self._events += events
        for job, what in screen.take_jobs():
            self._effects.append(Compute(screen.id << _JOB_BITS | job, what))
        self._report(screen)
        self._image_deadlines.pop((2, screen.id), None)
        if screen.needs_glz is not None:
            self._image_deadlines[2, screen.id] = now + WAIT_SECONDS

    def _behind(self, channel: ClientChannel) -> bool:
        screen = self.screens.get(channel.key[1]) if channel.key[0] == 2 else None
        return screen is not None and screen.backlog.size > BACKLOG_LIMIT

    def _on_cursor(self, channel: ClientChannel, event: Any, now: float) -> None:
        tracker = self.cursors.get(channel.key[1])
        if tracker is not None:
            self._events += tracker.apply(event.message)

    def _on_identified(self, channel: ClientChannel, event: Any, now: float) -> None:
        self.name = event.name or self.name
        self.uuid = event.uuid or self.uuid
        self._events.append(event)

    def _look_at_waits(self, now: float) -> None:
        """Let channels go on whose waits (WAIT_FOR_CHANNELS) are over."""
        if self._looking_at_waits:
            return
        self._looking_at_waits = True
        try:
            while self.phase is not SessionPhase.CLOSED:
                if (channel := self._next_released(now)) is not None:
                    self._deliver(channel, channel.released(now), now)
                elif (channel := self._next_supplied()) is not None:
                    self._deliver(channel, [_ImageCame()], now)
                else:
                    break
        finally:
            self._looking_at_waits = False

    # -- the end -------------------------------------------------------------------------------

    def _connection_lost(
        self, channel: ClientChannel, error: AiospiceError | None, now: float
    ) -> None:
        if not isinstance(error, RemoteProtocolError) and self._source_gone(channel, error, now):
            return
        if channel.key != MAIN:
            self._drop_channel(channel.key, error)
            self._check_moved(now)
            self._check_ready(now)
            self._look_at_waits(now)
            return
        if isinstance(error, RemoteProtocolError):
            link = self.link_of(MAIN)
            self._lose(error if link is None else named(error, link))
            return
        text = f"{self._where()} closed the session" if error is None else str(error)
        if self.migration.phase in (MigrationPhase.CONNECTING, MigrationPhase.READY):
            assert self.migration.destination is not None
            target = destination_text(self.migration.destination)
            text += f", while it was about to move to {target}: the machine is there, or gone"
        self._lose(SessionLost(text))

    def _where(self) -> str:
        link = self.link_of(MAIN)
        return str(link.endpoint) if link is not None else "the server"

    def _lose(self, error: AiospiceError) -> None:
        self._finish(error)

    def _finish(self, error: AiospiceError | None) -> None:
        if self.phase is SessionPhase.CLOSED:
            return
        self.phase = SessionPhase.CLOSED
        self.error = error
        self.migration.abort()
        self._effects += self.migration.effects
        self._events += self.migration.events
        self.migration.effects = []
        self.migration.events = []
        for link in [*self.links.values(), *self.retired.values()]:
            self._drop(link)
        for channel in self.channels.values():
            channel.phase = ChannelPhase.CLOSED
        self._over_deadline = self._drain_deadline = self._retry_at = None
        self._wait_deadlines = {}
        self._image_deadlines = {}
        self._step = None
        self._agent_starts_over("the session has ended")
        self._events.append(SessionEnded(error=error))

    def main_channel(self) -> MainChannel | None:
        """The main channel, once it is linked."""
        channel = self.channels.get(MAIN)
        return channel if isinstance(channel, MainChannel) else None


_HANDLERS: dict[str, Any] = {
    "SessionStarted": ClientSession._on_session_started,
    "ChannelsListed": ClientSession._on_channels_listed,
    "MigrationRequested": ClientSession._on_migration,
    "DisplayMessage": ClientSession._on_display,
    "DisplayBatch": ClientSession._on_display_batch,
    "_Computed": ClientSession._on_computed,
    "_ImageCame": ClientSession._on_image_came,
    "CursorMessage": ClientSession._on_cursor,
    "GuestIdentified": ClientSession._on_identified,
    "AgentConnected": ClientSession._on_agent,
    "AgentDisconnected": ClientSession._on_agent,
    "AgentDataReceived": ClientSession._on_agent,
}
