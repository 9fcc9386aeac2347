"""The main channel, server end.

The agent's stream passes through as it is: what may be sent, and what is let through, the agent's
device decides (`aiospice.devices`).
"""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel, ServerPhase
from aiospice.errors import RemoteProtocolError
from aiospice.wire import common, main
from aiospice.wire.agent_stream import MAX_AGENT_DATA

__all__ = [
    "STALE_SECONDS",
    "AgentPiece",
    "AgentStarted",
    "AgentTokens",
    "AttachRequested",
    "MainServer",
    "MouseModeRequested",
    "StartRequested",
    "TargetAnswered",
    "WholeRequested",
]

#: How long the answer to a question that was withdrawn is waited for: longer than Linux tries to
#: connect to a host that is silent (127 s), for which a spice-gtk waits.
STALE_SECONDS = 150.0


class AttachRequested(Event):
    """The client asks which channels there are."""


class MouseModeRequested(Event):
    """The client asks for a mouse mode (`main.MouseModes`)."""

    mode: int


class AgentStarted(Event):
    """The client takes up with the agent; it may be sent so many pieces."""

    tokens: int


class AgentPiece(Event):
    """A piece of the client's stream to the agent, at most 2048 bytes."""

    data: bytes


class AgentTokens(Event):
    """The client may be sent so many more pieces of the agent's stream."""

    tokens: int


class TargetAnswered(Event):
    """The client's answer of a source's offer: number of the message."""

    answer: int


class WholeRequested(Event):
    """A target is asked to take the session over whole; the source's migration version."""

    version: int


class StartRequested(Event):
    """A target is asked to begin the session: nothing of it was handed over."""


class MainServer(ServerChannel):
    """Main: session, channels, mouse mode, clock, the agent's stream."""

    handlers: ClassVar[dict[int, str]] = {
        main.AttachChannels.number: "_on_attach",
        main.MouseModeRequest.number: "_on_mouse_mode",
        main.AgentStart.number: "_on_agent_start",
        main.ClientAgentData.number: "_on_agent_data",
        main.ClientAgentToken.number: "_on_agent_token",
        main.MigrateConnected.number: "_on_answer",
        main.MigrateConnectError.number: "_on_answer",
        main.MigrateConnectedSeamless.number: "_on_answer",
        main.ClientMigrateEnd.number: "_on_end",
        main.MigrateDstDoSeamless.number: "_on_do_seamless",
    }
    never_passed: ClassVar[frozenset[int]] = frozenset(
        (
            main.MigrateConnected.number,
            main.MigrateConnectError.number,
            main.MigrateConnectedSeamless.number,
            main.ClientMigrateEnd.number,
            main.MigrateDstDoSeamless.number,
        )
    )
    before_record: ClassVar[frozenset[int]] = frozenset(
        (
            common.ClientMigrateData.number,
            main.ClientMigrateEnd.number,
            main.MigrateDstDoSeamless.number,
        )
    )
    #: The largest message is a record of a session that moves (``SPICE_AGENT_MAX_DATA_SIZE`` times
    #: ten and headers); pieces of the agent have their own limit.
    limit: ClassVar[int] = 32 << 10

    def __init__(self, key: Key, framing: Framing, client_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, client_caps)
        #: On a source: `MigrateBegin` or `MigrateBeginSeamless` was sent, an answer is awaited.
        self.offered: int | None = None
        #: What is to be offered once the session, which arrives itself, is here.
        self._to_offer: main.MigrateBegin | main.MigrateBeginSeamless | None = None
        #: Answers that are still to come, of questions that were withdrawn, and until when.
        self.stale_answers = 0
        self._stale_until = 0.0
        #: On a target: the session is to arrive. What the client was told of a whole hand-over,
        #: None before it has asked.
        self.arriving = False
        self.agreed: bool | None = None

    def init(
        self,
        *,
        session_id: int,
        displays: int,
        supported_mouse_modes: int,
        mouse_mode: int,
        agent_tokens: int | None,
        time: int,
    ) -> None:
        """Begin the session; ``agent_tokens`` is None without an agent, ``time`` in ms."""
        self.send(
            main.Init(
                session_id=session_id,
                display_channels_hint=displays,
                supported_mouse_modes=supported_mouse_modes,
                current_mouse_mode=mouse_mode,
                agent_connected=int(agent_tokens is not None),
                agent_tokens=agent_tokens or 0,
                multi_media_time=time & 0xFFFFFFFF,
                ram_hint=0,
            )
        )

    def channels(self, keys: tuple[tuple[int, int], ...]) -> None:
        """Answer `AttachRequested`."""
        found = tuple(main.ChannelId(type=type, id=id) for type, id in keys)
        self.answer(main.ChannelsList(available=found))

    def mouse_mode(self, supported: int, current: int) -> None:
        """Tell the mouse mode."""
        self.answer(main.MouseMode(supported_modes=supported, current_mode=current))

    # -- in ----------------------------------------------------------------------------------

    def _on_attach(self, message: main.AttachChannels) -> None:
        self._events.append(AttachRequested())

    def _on_mouse_mode(self, message: main.MouseModeRequest) -> None:
        self._events.append(MouseModeRequested(mode=message.mode))

    def _on_agent_start(self, message: main.AgentStart) -> None:
        self._events.append(AgentStarted(tokens=message.num_tokens))

    def _on_agent_data(self, message: main.ClientAgentData) -> None:
        if len(message.data) > MAX_AGENT_DATA:
            raise RemoteProtocolError(
                f"{len(message.data)} bytes for the agent, the limit is {MAX_AGENT_DATA}"
            )
        self._events.append(AgentPiece(data=message.data))

    def _on_agent_token(self, message: main.ClientAgentToken) -> None:
        self._events.append(AgentTokens(tokens=message.num_tokens))

    # -- moving --------------------------------------------------------------------------------

    def offer(self, message: main.MigrateBegin | main.MigrateBeginSeamless) -> None:
        """Have the client connect to the target: `TargetAnswered` follows."""
        if self.phase is not ServerPhase.OPEN:
            self._to_offer = message
        else:
            self.offered = message.number
            self.send(message)

    def arrived(self) -> None:
        """The session is here, whole or anew."""
        message, self._to_offer = self._to_offer, None
        if message is not None:
            self.offer(message)

    def withdraw(self, now: float) -> None:
        """The migration is off, and the client is told so; its answer won't count.

        Answers have no number, but a client gives one to each question, and in order (spice-gtk's
        ``channel-main.c`` and ours). The CANCEL is between two questions: spice-gtk connects to
        one target at a time.
        """
        if self.offered is not None:
            self.stale_answers += 1
            self._stale_until = now + STALE_SECONDS
            self.send(main.MigrateCancel())
        self.offered = self._to_offer = None

    def expect_record(self, more: int = 0) -> None:
        """The session arrives from another server."""
        self.arriving = True
        super().expect_record(more)

    def record_came(self) -> None:
        """The source itself has told the record."""
        self.arriving = False
        super().record_came()

    def agree(self, whole: bool) -> None:
        """Answer `WholeRequested`."""
        self.agreed = whole
        self.phase = ServerPhase.WAITING
        kind = main.MigrateDstSeamlessAck if whole else main.MigrateDstSeamlessNack
        self._put(kind.number, b"")

    def _on_answer(self, message: main.MigrateConnected) -> None:
        number = message.number
        if self._now >= self._stale_until:
            self.stale_answers = 0
        if self.stale_answers:
            self.stale_answers -= 1
            self._ignored(type(message).__name__, "the migration it answers was called off", b"")
            return
        if self.offered is None:
            # A client that answers late is told that the migration is off, as upstream does.
            self.answer(main.MigrateCancel())
            self._ignored(type(message).__name__, "no migration is in progress", b"")
            return
        whole = self.offered == main.MigrateBeginSeamless.number
        if number == main.MigrateConnectedSeamless.number and not whole:
            raise RemoteProtocolError("the source has not offered to hand the session over whole")
        self.offered = None
        self._events.append(TargetAnswered(answer=number))

    def _on_do_seamless(self, message: main.MigrateDstDoSeamless) -> None:
        if not self.arriving:
            raise RemoteProtocolError("this server expects no session from elsewhere")
        if self.agreed is not None:
            raise RemoteProtocolError("came a second time")
        self.phase = ServerPhase.PARKED  # until `agree`
        self._events.append(WholeRequested(version=message.src_version))

    def _on_end(self, message: main.ClientMigrateEnd) -> None:
        if not self.arriving:
            raise RemoteProtocolError("this server expects no session from elsewhere")
        if self.agreed:
            raise RemoteProtocolError("the session was to be handed over whole")
        self.arriving = False
        self.phase = ServerPhase.PARKED
        self._events.append(StartRequested())

    def _on_migrate_data(self, message: common.ClientMigrateData) -> None:
        if self.arriving and not self.agreed:
            raise RemoteProtocolError(
                "a record, and it wasn't agreed to hand the session over whole",
                message="ClientMigrateData",
            )
        super()._on_migrate_data(message)
        self.arriving = False
