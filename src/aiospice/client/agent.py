"""The guest's agent in a session: what main brings for it, and what leaves as tokens allow.

Pieces for the agent are made when main can let them go, and no earlier: however large a file is,
little of it waits. When main moves to another server as if nothing had happened, so do they; when
the session starts over, files under way end, and what is to paste is offered anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.base import ChannelPhase

if TYPE_CHECKING:
    from aiospice.agent.client import ClientAgent
    from aiospice.channels.main import MainChannel
    from aiospice.client.config import ClientConfig
    from aiospice.events import Event

__all__ = ["WithAgent"]

#: Bytes that main has queued when more is made for the agent.
_LOW = 16 << 10


class WithAgent:
    """Mixed into the session."""

    config: ClientConfig
    _agent: ClientAgent | None = None
    _events: list[Event]

    @property
    def agent(self) -> ClientAgent:
        """The client's end of the agent's protocol, there or not."""
        if self._agent is None:
            from aiospice.agent.client import ClientAgent

            self._agent = ClientAgent()
        return self._agent

    def _on_agent(self, channel: MainChannel, event: Event, now: float) -> None:
        """Main says that the agent is there, or gone, or has said something."""
        self._events.append(event)
        name = type(event).__name__
        if name == "AgentDataReceived":
            channel.agent_consumed()
        if not self.config.agent:
            return
        if name == "AgentConnected":
            self.agent.connected()
        elif name == "AgentDisconnected":
            self.agent.disconnected()
        else:
            self.agent.receive(event.data, now)  # type: ignore[attr-defined]
        self._agent_told()

    def _agent_told(self) -> None:
        if self._agent is not None:
            self._events += self._agent.events()

    def _feed_agent(self, channel: MainChannel | None, now: float) -> None:
        """Hand main as many pieces for the agent as can leave soon."""
        if self._agent is None or channel is None or not channel.agent_connected:
            return
        while (
            channel.agent_tokens > 0
            and channel.queued_bytes < _LOW
            and channel.phase is ChannelPhase.OPEN
            and not channel.holds_back
        ):
            piece = self._agent.pop(now)
            if not piece:
                break
            channel.agent_send(piece)

    def _agent_wake(self) -> float | None:
        return None if self._agent is None else self._agent.next_wake()

    def _wake_agent(self, now: float) -> None:
        if self._agent is not None:
            self._agent.wake(now)
            self._agent_told()

    def _agent_starts_over(self, reason: str) -> None:
        if self._agent is not None:
            self._agent.forget(reason)
            self._agent_told()
