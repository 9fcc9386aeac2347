"""The main channel, server end.

The agent's stream passes through as it is: what may be sent, and what is let through, the agent's
device decides (`aiospice.devices`).
"""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.events import Event
from aiospice.channels.server.base import ServerChannel
from aiospice.errors import RemoteProtocolError
from aiospice.wire import main
from aiospice.wire.agent_stream import MAX_AGENT_DATA

__all__ = [
    "AgentPiece",
    "AgentStarted",
    "AgentTokens",
    "AttachRequested",
    "MainServer",
    "MouseModeRequested",
]


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


class MainServer(ServerChannel):
    """Main: session, channels, mouse mode, clock, the agent's stream."""

    handlers: ClassVar[dict[int, str]] = {
        main.AttachChannels.number: "_on_attach",
        main.MouseModeRequest.number: "_on_mouse_mode",
        main.AgentStart.number: "_on_agent_start",
        main.ClientAgentData.number: "_on_agent_data",
        main.ClientAgentToken.number: "_on_agent_token",
        main.MigrateConnected.number: "_on_stray_answer",
        main.MigrateConnectError.number: "_on_stray_answer",
        main.MigrateConnectedSeamless.number: "_on_stray_answer",
        main.ClientMigrateEnd.number: "_on_not_expected",
        main.MigrateDstDoSeamless.number: "_on_not_expected",
    }
    #: The largest message is a record of a session that moves (``SPICE_AGENT_MAX_DATA_SIZE`` times
    #: ten and headers); pieces of the agent have their own limit.
    limit: ClassVar[int] = 32 << 10

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

    def _on_stray_answer(self, message: main.MigrateConnected) -> None:
        # A client that answers late is told that the migration is off, as upstream does.
        self.answer(main.MigrateCancel())
        self._ignored(type(message).__name__, "no migration is in progress", b"")

    def _on_not_expected(self, message: main.ClientMigrateEnd) -> None:
        raise RemoteProtocolError("this server expects no session from elsewhere")
