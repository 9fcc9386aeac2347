"""The client's role in a hand-over: connect to the target beside the running session.

::

    IDLE --begin--> CONNECTING --all linked, answered--> READY --MIGRATE------> SWITCHING --> IDLE
                        |                                  |-----MIGRATE_END--> RESTARTING -> IDLE
                        `---failure or cancel---> IDLE <---'cancel

The target's main link and the TCP and link exchange of all other channels run at the same time;
only the tickets of the others wait until the target has accepted main, since that is when it
knows the session's number. So connecting takes four round trips without TLS.

This core opens and owns the connections to the target until the session claims them one by one.
What it wants to be done is left in ``effects``, ``answers`` (for the source's main channel) and
``events``.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from aiospice.channels.events import Event
from aiospice.effects import Close, Effect, Open, Pause
from aiospice.errors import (
    AiospiceError,
    DecodeError,
    NeedSecured,
    RemoteProtocolError,
    SpiceTimeout,
)
from aiospice.migration.links import PARKED_LIMIT, ChannelLink, LinkStage
from aiospice.migration.targets import destination_text
from aiospice.wire import main

if TYPE_CHECKING:
    from aiospice.channels.base import Key
    from aiospice.wire.message import Message

__all__ = [
    "ANSWER_SECONDS",
    "SWITCH_SECONDS",
    "ChannelMoved",
    "MigrationAbandoned",
    "MigrationCancelled",
    "MigrationClient",
    "MigrationFinished",
    "MigrationPhase",
    "MigrationReady",
    "MigrationStarted",
]

MAIN: Key = (1, 0)
#: The source waits 10 s for our answer (spice-server ``server/reds.cpp``); later is of no use.
ANSWER_SECONDS = 9.5
#: From the first MIGRATE until the last channel has moved, before the session starts over there.
SWITCH_SECONDS = 10.0
_ANSWERS = (main.MigrateDstSeamlessAck.number, main.MigrateDstSeamlessNack.number)


class MigrationPhase(Enum):
    """Where the client is in a hand-over."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    SWITCHING = "switching"
    RESTARTING = "restarting"


class MigrationStarted(Event):
    """The source asks the client to connect to the target. ``number`` counts them from 1."""

    number: int
    target: str
    #: Whether the source offers to hand the session over whole.
    seamless_offered: bool


class MigrationReady(Event):
    """Every channel is connected to the target, and the source has been told."""

    number: int
    #: ``seamless`` or ``semi-seamless``.
    mode: str
    #: Since `MigrationStarted`.
    seconds: float


class ChannelMoved(Event):
    """A channel is now on the target."""

    number: int
    channel: str
    #: From MIGRATE on this channel until it was on the target.
    seconds: float


class MigrationFinished(Event):
    """The session is with the target."""

    number: int
    #: ``seamless``, ``semi-seamless`` or ``switch-host``.
    mode: str
    #: Since `MigrationStarted`, or since the source sent the session away.
    seconds: float
    #: From the first channel's leaving the source until the last one was on the target.
    pause: float
    #: At most so many bytes written to devices may have been lost; 0 for ``seamless``.
    bytes_at_risk: int


class MigrationCancelled(Event):
    """The source has called the migration off: the session stays where it is."""

    number: int


class MigrationAbandoned(Event):
    """The target couldn't be prepared; the source has been told and will fall back."""

    number: int
    reason: str


class MigrationClient:
    """See the module's text. Plain data."""

    def __init__(self) -> None:
        self.phase = MigrationPhase.IDLE
        self.number = 0
        self.destination: main.DstInfo | None = None
        #: The source's hand-over version, None if it can't do a seamless one.
        self.version: int | None = None
        #: The target's answer: will it take the session over whole?
        self.agreed: bool | None = None
        self.links: dict[Key, ChannelLink] = {}
        self.began = 0.0
        #: When the first channel left the source.
        self.switch_began: float | None = None
        self.deadline: float | None = None
        #: Why a hand-over that was ready can't be followed any more.
        self.broken: str = ""
        self.timeout = 10.0
        self.effects: list[Effect] = []
        self.answers: list[Message] = []
        self.events: list[Event] = []

    # -- beginning -----------------------------------------------------------------------------

    def begin(
        self, destination: main.DstInfo, version: int | None, now: float, timeout: float
    ) -> None:
        """The source asks to prepare; `connect` or `refuse` follows."""
        self.number += 1
        self.destination = destination
        self.version = version
        self.agreed = None
        self.broken = ""
        self.began = now
        self.switch_began = None
        self.timeout = timeout
        self.events.append(
            MigrationStarted(
                number=self.number,
                target=destination_text(destination),
                seamless_offered=version is not None,
            )
        )

    def connect(self, links: dict[Key, ChannelLink], now: float) -> None:
        """Open the connections to the target; all links but main's must hold."""
        self.phase = MigrationPhase.CONNECTING
        self.links = links
        self.deadline = now + min(self.timeout, ANSWER_SECONDS)
        # Main first: a server makes a key for each link, one after the other, and all need main.
        for link in sorted(links.values(), key=lambda link: link.key != MAIN):
            self.effects.append(Open(link.number, link.endpoint, self.timeout))

    def refuse(self, reason: str) -> None:
        """The target can't be connected to: say so and stay."""
        self._drop_links()
        self.phase = MigrationPhase.IDLE
        self.deadline = None
        self.answers.append(main.MigrateConnectError())
        self.events.append(MigrationAbandoned(number=self.number, reason=reason))

    # -- what happens on the connections -------------------------------------------------------

    def link_of(self, connection: int) -> ChannelLink | None:
        """The unclaimed target connection of that number."""
        for link in self.links.values():
            if link.number == connection:
                return link
        return None

    def connected(self, link: ChannelLink, now: float) -> None:
        """A connection to the target is up."""
        link.connected(now, self.timeout)

    def received(self, link: ChannelLink, data: bytes | memoryview, now: float) -> None:
        """Bytes from the target."""
        before = link.stage
        error = link.received(data)
        if error is not None:
            self._lost(link, error)
            return
        if link.stage is LinkStage.UP and before is LinkStage.LINKING and link.key == MAIN:
            self._main_accepted(link)
        if link.stage is LinkStage.UP and not link.paused:
            assert link.framing is not None
            if link.framing.buffered > PARKED_LIMIT:
                link.paused = True
                self.effects.append(Pause(link.number))
        if self.phase is MigrationPhase.CONNECTING:
            self._look_for_answer(link)
            self._check_ready(now)

    def closed(self, link: ChannelLink, error: AiospiceError | None) -> None:
        """A connection to the target could not be opened, or is gone."""
        link.stage = LinkStage.CLOSED
        if error is None:
            link.link.receive_eof()
            error = link.link.error or RemoteProtocolError(
                "the target closed the connection", where=link.name
            )
        self._lost(link, error)

    def _main_accepted(self, link: ChannelLink) -> None:
        for other in self.links.values():
            if other is not link:
                other.proceed()
        if self.version is not None and self._target_can(link):
            link.send(main.MigrateDstDoSeamless(src_version=self.version))
        else:
            self.agreed = False

    def _target_can(self, link: ChannelLink) -> bool:
        from aiospice.wire.caps import MainCap, has

        return has(link.link.server_channel_caps, MainCap.SEAMLESS_MIGRATE)

    def _look_for_answer(self, link: ChannelLink) -> None:
        if link.key != MAIN or link.framing is None or self.agreed is not None:
            return
        try:
            # Other messages of the target wait, in order, until main is on this connection.
            frame = link.framing.extract(_ANSWERS)
        except DecodeError as error:
            self._lost(link, error)
            return
        if frame is not None:
            self.agreed = frame[0] == main.MigrateDstSeamlessAck.number

    def _check_ready(self, now: float) -> None:
        if self.phase is not MigrationPhase.CONNECTING or self.agreed is None:
            return
        if any(link.stage is not LinkStage.UP for link in self.links.values()):
            return
        self.phase = MigrationPhase.READY
        self.deadline = None
        self.answers.append(
            main.MigrateConnectedSeamless() if self.agreed else main.MigrateConnected()
        )
        self.events.append(
            MigrationReady(number=self.number, mode=self.mode, seconds=now - self.began)
        )

    @property
    def mode(self) -> str:
        """What was agreed on."""
        return "seamless" if self.agreed else "semi-seamless"

    def _lost(self, link: ChannelLink, error: AiospiceError) -> None:
        if self.phase is MigrationPhase.CONNECTING:
            if isinstance(error, NeedSecured) and (again := link.secured()) is not None:
                self.effects.append(Close(link.number))
                self.links[link.key] = again
                self.effects.append(Open(again.number, again.endpoint, self.timeout))
                return
            self.refuse(f"{link.name} on the target: {error}")
        else:
            # Too late to tell the source; what it sends now decides.
            self.broken = self.broken or f"{link.name} on the target: {error}"
            self.effects.append(Close(link.number))
            link.stage = LinkStage.CLOSED

    # -- switching -----------------------------------------------------------------------------

    def claim(self, key: Key, now: float) -> ChannelLink | None:
        """Hand over the target's connection for a channel; None if it is gone."""
        link = self.links.get(key)
        if link is None or link.stage is not LinkStage.UP:
            return None
        del self.links[key]
        if self.switch_began is None:
            self.switch_began = now
        return link

    def switching(self, phase: MigrationPhase, now: float, limit: float = SWITCH_SECONDS) -> None:
        """The first channel is about to leave the source."""
        self.phase = phase
        self.deadline = now + limit
        if self.switch_began is None:
            self.switch_began = now

    def finish(self, mode: str, bytes_at_risk: int, now: float) -> None:
        """Every channel has moved."""
        self._drop_links()
        self.phase = MigrationPhase.IDLE
        self.deadline = None
        self.events.append(
            MigrationFinished(
                number=self.number,
                mode=mode,
                seconds=now - self.began,
                pause=now - (self.switch_began if self.switch_began is not None else now),
                bytes_at_risk=bytes_at_risk,
            )
        )

    def cancel(self) -> None:
        """The source has called it off; it gets its answer all the same, one to each question."""
        self._drop_links()
        if self.phase is MigrationPhase.CONNECTING:
            self.answers.append(main.MigrateConnectError())
        if self.phase is not MigrationPhase.IDLE:
            self.events.append(MigrationCancelled(number=self.number))
        self.phase = MigrationPhase.IDLE
        self.deadline = None

    def abort(self) -> None:
        """Drop everything silently: something else takes its place."""
        self._drop_links()
        self.phase = MigrationPhase.IDLE
        self.deadline = None

    def _drop_links(self) -> None:
        for link in self.links.values():
            if link.stage is not LinkStage.CLOSED:
                self.effects.append(Close(link.number))
        self.links = {}

    # -- time ----------------------------------------------------------------------------------

    def next_wake(self) -> float | None:
        """When `wake` wants to be called."""
        if not self.links:
            return self.deadline
        times = [link.deadline for link in self.links.values() if link.deadline is not None]
        if self.deadline is not None:
            times.append(self.deadline)
        return min(times, default=None)

    def wake(self, now: float) -> None:
        """Give up on what takes too long (switching is the session's to judge)."""
        for link in list(self.links.values()):
            if link.deadline is not None and link.deadline <= now:
                link.deadline = None
                self._lost(link, SpiceTimeout(f"no answer for {self.timeout:g} s"))
        connecting = self.phase is MigrationPhase.CONNECTING
        if connecting and self.deadline is not None and self.deadline <= now:
            waiting = [link.name for link in self.links.values() if link.stage is not LinkStage.UP]
            what = ", ".join(waiting) if waiting else "the target's answer on main"
            self.refuse(f"{what}: not there after {now - self.began:.1f} s")
