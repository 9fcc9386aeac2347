"""The main channel, client end."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.keeping import KeepingChannel
from aiospice.errors import RemoteProtocolError
from aiospice.wire import main
from aiospice.wire.agent_stream import MAX_AGENT_DATA
from aiospice.wire.keep import Replay, Resume

__all__ = [
    "AgentConnected",
    "AgentDataReceived",
    "AgentDisconnected",
    "ChannelsListed",
    "GuestIdentified",
    "MainChannel",
    "MigrationRequested",
    "MouseModeChanged",
    "SessionStarted",
]

#: Agent messages that the server may send before it gets tokens back, and when it gets them.
#: Upstream's client grants 2**32 - 1, which switches flow control off.
AGENT_WINDOW = 32
AGENT_RETURN = 16


class SessionStarted(Event):
    """The server has opened a session."""

    session_id: int
    supported_mouse_modes: int
    current_mouse_mode: int
    agent_connected: bool


class ChannelsListed(Event):
    """What the server offers: (type, id) of each channel."""

    channels: tuple[tuple[int, int], ...]


class MouseModeChanged(Event):
    """1: relative motion (server mode), 2: absolute positions (client mode)."""

    supported: int
    current: int


class GuestIdentified(Event):
    """The machine's name or UUID, whichever came; the other is empty."""

    name: str
    uuid: str


class AgentConnected(Event):
    """The guest's agent is there."""


class AgentDisconnected(Event):
    """The guest's agent is gone."""


class AgentDataReceived(Event):
    """A piece of the agent's stream; tell `MainChannel.agent_consumed` when it's dealt with."""

    data: bytes


class MigrationRequested(Event):
    """The server asks for a step: ``begin``, ``cancel``, ``end`` or ``switch-host``."""

    step: str
    destination: main.DstInfo | None = None
    #: Version of the source's hand-over protocol, None when it can't do a seamless one.
    version: int | None = None


class MainChannel(KeepingChannel):
    """Main: session, mouse mode, clock, the agent's stream, and the steps of a migration."""

    handlers: ClassVar[dict[int, str]] = {
        main.Init.number: "_on_init",
        main.ChannelsList.number: "_on_channels_list",
        main.MouseMode.number: "_on_mouse_mode",
        main.MultiMediaTime.number: "_on_multi_media_time",
        main.AgentConnected.number: "_on_agent_connected",
        main.AgentConnectedTokens.number: "_on_agent_connected_tokens",
        main.AgentDisconnected.number: "_on_agent_disconnected",
        main.AgentData.number: "_on_agent_data",
        main.AgentToken.number: "_on_agent_token",
        main.Name.number: "_on_name",
        main.Uuid.number: "_on_uuid",
        main.MigrateBegin.number: "_on_migrate_begin",
        main.MigrateBeginSeamless.number: "_on_migrate_begin_seamless",
        main.MigrateCancel.number: "_on_migrate_cancel",
        main.MigrateEnd.number: "_on_migrate_end",
        main.MigrateSwitchHost.number: "_on_migrate_switch_host",
        main.MigrateDstSeamlessAck.number: "_on_stray_answer",
        main.MigrateDstSeamlessNack.number: "_on_stray_answer",
    }

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        #: INIT is expected: once for a new session, once after a semi-seamless hand-over.
        self.awaits_init = True
        self.session_id = 0
        self.supported_mouse_modes = 0
        self.current_mouse_mode = 0
        #: The server's clock when it last told, in ms, and when that was (our clock, seconds).
        self.multi_media_time = (0, 0.0)
        self.agent_connected = False
        #: Messages that may still go to the agent.
        self.agent_tokens = 0
        #: Messages that the server may still send from the agent, those that nobody has dealt with,
        #: and those used up unreturned.
        self.agent_granted = 0
        self._agent_unread = 0
        self._agent_used = 0
        self._agent_queue: deque[bytes] = deque()
        #: What has a token and hasn't left.
        self._agent_paid = 0

    # -- the agent's stream ----------------------------------------------------------------------

    def agent_send(self, data: bytes) -> None:
        """Queue one piece for the agent (at most 2048 bytes); it leaves when there is a token.

        A piece must not have bytes of two messages: spice-server (``server/agent-msg-filter.c``)
        ends the session then.
        """
        self._agent_queue.append(data)
        self._agent_pump()

    @property
    def agent_queued(self) -> int:
        """Pieces for the agent that wait for a token."""
        return len(self._agent_queue)

    def _agent_pump(self) -> None:
        while self._agent_queue and self.agent_connected and self.agent_tokens > 0:
            self.agent_tokens -= 1
            self._agent_paid += 1
            self.send(main.ClientAgentData(data=self._agent_queue.popleft()))

    def _agent_up(self) -> None:
        self.agent_connected = True
        self.agent_granted = AGENT_WINDOW
        self._agent_used = self._agent_unread = 0
        # Without it upstream's server can't hand the session over (it aborts on an agent that no
        # client has taken up with).
        self._reply(main.AgentStart(num_tokens=AGENT_WINDOW))
        self._events.append(AgentConnected())
        self._agent_pump()

    def _agent_down(self) -> None:
        if self.agent_connected:
            self._events.append(AgentDisconnected())
        self.agent_connected = False
        self._agent_queue.clear()
        if self.copies is not None:
            self.copies.restart()

    def _on_agent_connected(self, message: main.AgentConnected) -> None:
        self._agent_up()

    def _on_agent_connected_tokens(self, message: main.AgentConnectedTokens) -> None:
        self.agent_tokens = message.num_tokens
        self._agent_up()

    def _on_agent_disconnected(self, message: main.AgentDisconnected) -> None:
        self._agent_down()

    def _on_agent_token(self, message: main.AgentToken) -> None:
        self.agent_tokens = min(self.agent_tokens + message.num_tokens, 0xFFFFFFFF)
        if self.copies is not None:
            self.copies.settle(self.agent_tokens + self._agent_paid)
        self._agent_pump()

    def _on_agent_data(self, message: main.AgentData) -> None:
        self.agent_granted -= 1
        if self.agent_granted < 0 and self.agent_connected:
            # Upstream does not charge the short piece that it sends before a hand-over.
            self.agent_granted = 0
        self._agent_unread += 1
        self._events.append(AgentDataReceived(data=message.data))

    def agent_consumed(self, count: int = 1) -> None:
        """So many pieces have been dealt with: the server may send as many more.

        Without it the agent's stream stops after a window.
        """
        count = min(count, self._agent_unread)
        self._agent_unread -= count
        self._agent_used += count
        if self._agent_used >= AGENT_RETURN:
            self._reply(main.ClientAgentToken(num_tokens=self._agent_used))
            self.agent_granted += self._agent_used
            self._agent_used = 0

    # -- copies for the next server --------------------------------------------------------------

    def _left(self, number: int, body: bytes) -> None:
        if number == main.ClientAgentData.number:
            self._agent_paid -= 1
            self._copy(body)
        elif number == main.AgentStart.number and self.copies is not None:
            self.copies.restart()  # what came before was for the agent before

    def _queue_may_leave(self) -> bool:
        may = super()._queue_may_leave()
        if may and self.copies is not None and self.copies.full:
            return self._queue[0][0] != main.ClientAgentData.number
        return may

    def _resume(self, report: Replay) -> None:
        """Go on with a target that begins where the guest is; what it hasn't taken comes first."""
        copies = self.copies
        if copies is None:
            self._fail(RemoteProtocolError("no copies are kept", message="Replay"))
            return
        kept = len(copies.bodies)
        rest = copies.rest(report)
        if rest and report.partial:
            rest[0] = rest[0][report.partial :]
        started = self.agent_connected
        if any(number == main.AgentStart.number for number, _ in self._queue):
            started = False  # what is before it was for the agent before
        elif started:
            self.agent_tokens += kept + self._agent_paid
            rest += [body for number, body in self._queue if number == main.ClientAgentData.number]
            self._queue = deque(
                item for item in self._queue if item[0] != main.ClientAgentData.number
            )
            self.queued_bytes = sum(len(body) for _, body in self._queue)
            self._agent_paid = 0
            self._agent_queue.extendleft(reversed(rest))
        self._send_first(
            Resume(
                tokens=self.agent_tokens if started else 0,
                granted=self.agent_granted if started else 0,
                message_size=MAX_AGENT_DATA,
                started=int(started),
            )
        )
        self._agent_pump()

    def switch(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """Go on with the target, and send it what the guest hasn't taken, if it is to be told."""
        report = self.replay
        super().switch(framing, server_caps)
        if report is not None:
            self._resume(report)
        else:
            self.copies = None

    def switch_back(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """The source goes on."""
        super().switch_back(framing, server_caps)
        self.copies = None

    def clock(self, now: float) -> int:
        """The server's multi-media time at ``now``, in ms (32 bits)."""
        time, then = self.multi_media_time
        return (time + int((now - then) * 1000)) & 0xFFFFFFFF

    # -- session ---------------------------------------------------------------------------------

    def _on_init(self, message: main.Init) -> None:
        if not self.awaits_init:
            raise RemoteProtocolError("came again in a session that is up", message="Init")
        self.awaits_init = False
        self.session_id = message.session_id
        self.multi_media_time = (message.multi_media_time, self._now)
        self.agent_tokens = message.agent_tokens
        self._events.append(
            SessionStarted(
                session_id=message.session_id,
                supported_mouse_modes=message.supported_mouse_modes,
                current_mouse_mode=message.current_mouse_mode,
                agent_connected=bool(message.agent_connected),
            )
        )
        self._mouse_modes(message.supported_mouse_modes, message.current_mouse_mode)
        if message.agent_connected:
            self._agent_up()

    def _mouse_modes(self, supported: int, current: int) -> None:
        self.supported_mouse_modes = supported
        self.current_mouse_mode = current
        self._events.append(MouseModeChanged(supported=supported, current=current))
        if supported & main.MouseModes.CLIENT and current != main.MouseModes.CLIENT:
            self._reply(main.MouseModeRequest(mode=main.MouseModes.CLIENT))

    def _on_channels_list(self, message: main.ChannelsList) -> None:
        channels = tuple((channel.type, channel.id) for channel in message.available)
        self._events.append(ChannelsListed(channels=channels))

    def _on_mouse_mode(self, message: main.MouseMode) -> None:
        self._mouse_modes(message.supported_modes, message.current_mode)

    def _on_multi_media_time(self, message: main.MultiMediaTime) -> None:
        self.multi_media_time = (message.time, self._now)

    def _on_name(self, message: main.Name) -> None:
        name = message.name.split(b"\0", 1)[0].decode("utf-8", "replace")
        self._events.append(GuestIdentified(name=name, uuid=""))

    def _on_uuid(self, message: main.Uuid) -> None:
        digits = message.uuid.hex()
        parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        self._events.append(GuestIdentified(name="", uuid="-".join(parts)))

    # -- migration -------------------------------------------------------------------------------

    def _on_migrate_begin(self, message: main.MigrateBegin) -> None:
        self._events.append(MigrationRequested(step="begin", destination=message.destination))

    def _on_migrate_begin_seamless(self, message: main.MigrateBeginSeamless) -> None:
        self._events.append(
            MigrationRequested(
                step="begin", destination=message.destination, version=message.src_mig_version
            )
        )

    def _on_migrate_cancel(self, message: main.MigrateCancel) -> None:
        self._events.append(MigrationRequested(step="cancel"))

    def _on_migrate_end(self, message: main.MigrateEnd) -> None:
        self._events.append(MigrationRequested(step="end"))

    def _on_migrate_switch_host(self, message: main.MigrateSwitchHost) -> None:
        self._events.append(MigrationRequested(step="switch-host", destination=message.destination))

    def _on_stray_answer(self, message: main.MigrateDstSeamlessAck) -> None:
        self._ignored(type(message).__name__, "it answers nothing that was asked", b"")

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew on another server: INIT will come; the agent's stream is gone."""
        self._events = []
        self._agent_down()
        self.awaits_init = True
        self.copies = None
        self._agent_paid = 0
        self._queue.clear()
        self.queued_bytes = 0
        events, self._events = self._events, []
        return events + super().restart(framing, server_caps)
