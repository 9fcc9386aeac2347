"""The client's end of the agent's protocol: what spice-gtk does.

It is handed the bodies of AGENT_DATA (`receive`) and gives them out (`pop`), one at a time, so that
what flow control doesn't let go yet isn't made yet. A message is completed even when the agent
has gone meanwhile, unless the whole connection is another (`forget`).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from aiospice.agent.clipboard import CONTENT_LIMIT, Clipboards
from aiospice.agent.names import bits, capability_names, words
from aiospice.agent.outbox import Outbox
from aiospice.agent.transfers import Transfer, Transfers
from aiospice.errors import LocalError, RemoteProtocolError, StateError, TransferFailed
from aiospice.events import Event
from aiospice.wire.agent import (
    AGENT_MESSAGES,
    AgentCapability,
    AgentType,
    AnnounceCapabilities,
    AudioVolumeSync,
    DisplayConfig,
    FileXferStatus,
    MaxClipboard,
    MonConfig,
    MonitorsConfig,
    MonitorsConfigFlags,
    Reply,
    ReplyError,
    mask,
)
from aiospice.wire.agent_stream import Reassembler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.agent.outbox import Piece
    from aiospice.wire.agent import AgentMessage
    from aiospice.wire.agent_stream import Assembled

__all__ = [
    "CAPABILITIES",
    "AgentFailed",
    "AgentPhase",
    "AgentReady",
    "AgentReplied",
    "ClientAgent",
]

#: What is announced.
CAPABILITIES = (
    AgentCapability.MOUSE_STATE,
    AgentCapability.MONITORS_CONFIG,
    AgentCapability.REPLY,
    AgentCapability.DISPLAY_CONFIG,
    AgentCapability.CLIPBOARD_BY_DEMAND,
    AgentCapability.CLIPBOARD_SELECTION,
    AgentCapability.MONITORS_CONFIG_POSITION,
    AgentCapability.FILE_XFER_DETAILED_ERRORS,
    AgentCapability.CLIPBOARD_NO_RELEASE_ON_REGRAB,
    AgentCapability.CLIPBOARD_GRAB_SERIAL,
)
#: Seconds that the guest may take for each step of a file.
TRANSFER_SECONDS = 60.0
#: Bytes of a clipboard that nobody has asked for: it is read past if it is larger.
_UNASKED = 64 << 10
_CLIPBOARD = frozenset(
    (
        AgentType.CLIPBOARD,
        AgentType.CLIPBOARD_GRAB,
        AgentType.CLIPBOARD_REQUEST,
        AgentType.CLIPBOARD_RELEASE,
    )
)


class AgentPhase(Enum):
    """Where the guest's agent is, as the client sees it."""

    ABSENT = "absent"
    ANNOUNCED = "announced"
    READY = "ready"
    FAILED = "failed"


class AgentReady(Event):
    """The guest's agent has told what it can do: clipboards and files may be used."""

    capabilities: tuple[str, ...]


class AgentReplied(Event):
    """The guest's agent says what came of something it was sent."""

    #: The message that is answered, such as ``monitors-config``.
    message: str
    success: bool


class AgentFailed(Event):
    """The guest's agent broke its protocol: nothing is done with it until it is started anew."""

    error: RemoteProtocolError


class ClientAgent:
    """One guest's agent, as a client has it. Plain data."""

    def __init__(self) -> None:
        self.phase = AgentPhase.ABSENT
        #: What the agent can do, a bit for each capability.
        self.capabilities = 0
        self._outbox = Outbox()
        self._stream = Reassembler({AgentType.CLIPBOARD: _UNASKED})
        self.clipboards = Clipboards(self._outbox, agent=False)
        self.transfers = Transfers(self._outbox)
        self._events: list[Event] = []

    # -- what the main channel tells ---------------------------------------------------------------

    def connected(self) -> None:
        """The guest's agent is there, and new."""
        self._gone("the guest's agent was started anew")
        self.phase = AgentPhase.ANNOUNCED
        self._announce(request=1)

    def disconnected(self) -> None:
        """The guest's agent is gone."""
        self._gone("the guest's agent is gone")

    def forget(self, reason: str) -> None:
        """The connection is another, and so is the stream: nothing is to be completed."""
        self._gone(reason)
        self._outbox.clear()

    def receive(self, data: bytes, now: float) -> None:
        """Take the body of one AGENT_DATA. What it leads to is among the `events`."""
        if self.phase in (AgentPhase.ABSENT, AgentPhase.FAILED):
            return
        try:
            for message in self._stream.receive(data):
                self._message(message, now)
        except RemoteProtocolError as error:
            error.where = error.where or "the guest's agent"
            self._gone(f"the guest's agent broke its protocol ({error})")
            self.phase = AgentPhase.FAILED
            self._events.append(AgentFailed(error=error))

    def pop(self, now: float) -> bytes:
        """The next AGENT_DATA body, b"" if there is none now."""
        piece = self._outbox.pop()
        if piece.tag:
            self._left(piece, now)
        return piece.data

    def _left(self, piece: Piece, now: float) -> None:
        if piece.tag[0] == "file":
            self.transfers.left(piece, now)
        elif piece.last:
            self.clipboards.left(piece.tag)

    @property
    def pending(self) -> int:
        """Bytes that wait to leave."""
        return self._outbox.pending

    def events(self) -> list[Event]:
        """What has happened, each once."""
        found = self._events + self.transfers.events()
        self._events = []
        return found

    def next_wake(self) -> float | None:
        """When `wake` wants to be called."""
        return self.transfers.next_wake()

    def wake(self, now: float) -> None:
        """Give up on what has taken too long."""
        self.transfers.wake(now)

    def _gone(self, reason: str) -> None:
        if self.phase is not AgentPhase.ABSENT:
            self.transfers.end_all(reason)
            self._events += self.clipboards.stop()
        self.phase = AgentPhase.ABSENT
        self.capabilities = 0
        self._outbox.drop()
        self._stream.reset()
        self._stream.set_limit(AgentType.CLIPBOARD, _UNASKED)

    # -- calls -----------------------------------------------------------------------------------

    def can(self, capability: AgentCapability) -> bool:
        """Whether the agent has said that it can do this."""
        return self.phase is AgentPhase.READY and bool(self.capabilities & bits(capability))

    def request(self, form: str = "text", selection: str = "clipboard") -> None:
        """Ask for what the guest has to paste (`Clipboards.request`)."""
        self._check_ready()
        self.clipboards.request(form, selection)
        self._stream.set_limit(AgentType.CLIPBOARD, CONTENT_LIMIT + 64)

    def send_file(
        self, name: str, size: int, now: float, *, limit: float = TRANSFER_SECONDS
    ) -> Transfer:
        """Offer a file of ``size`` bytes; its content is handed in as `Transfers` wants it.

        ``limit``: seconds that the guest may take for each step. `StateError` without an agent,
        `TransferFailed` if it takes no files.
        """
        self._check_ready()
        if self.can(AgentCapability.FILE_XFER_DISABLED):
            raise TransferFailed(f"{name}: file transfer is switched off in the guest")
        return self.transfers.start(name, size, limit, now)

    def set_monitors(self, monitors: Iterable[tuple[int, int, int, int]]) -> None:
        """Ask for monitors: width, height, x and y in pixels of each; 0 x 0 is one that is off.

        `AgentReplied` tells whether the agent could. `StateError` without an agent.
        """
        if self.phase not in (AgentPhase.ANNOUNCED, AgentPhase.READY):
            raise StateError("no agent runs in the guest")
        found = tuple(
            MonConfig(height=height, width=width, depth=32, x=x, y=y)
            for width, height, x, y in monitors
        )
        if not any(monitor.width and monitor.height for monitor in found):
            raise LocalError("at least one monitor must be on")
        self._outbox.push(
            MonitorsConfig(flags=MonitorsConfigFlags.USE_POS, monitors=found, physical_sizes=())
        )

    def set_volume(
        self, volume: Iterable[int], *, mute: bool = False, playback: bool = True
    ) -> None:
        """Set the guest's volume, 0 to 65535 a channel, of its playback or its recording."""
        self._need(AgentCapability.AUDIO_VOLUME_SYNC, "set its volume")
        self._outbox.push(
            AudioVolumeSync(is_playback=int(playback), mute=int(mute), volume=tuple(volume))
        )

    def set_display_config(self, flags: int, depth: int = 0) -> None:
        """Say how the desktop should look (`DisplayConfigFlags`); ``depth`` in bits."""
        self._need(AgentCapability.DISPLAY_CONFIG, "change how its desktop looks")
        self._outbox.push(DisplayConfig(flags=flags, depth=depth))

    def _need(self, capability: AgentCapability, what: str) -> None:
        self._check_ready()
        if not self.can(capability):
            raise StateError(f"the guest's agent can't {what}")

    def _check_ready(self) -> None:
        if self.phase is AgentPhase.ANNOUNCED:
            raise StateError("the guest's agent has not told yet what it can do")
        if self.phase is AgentPhase.FAILED:
            raise StateError("the guest's agent broke its protocol and was given up")
        if self.phase is AgentPhase.ABSENT:
            raise StateError("no agent runs in the guest")

    # -- in --------------------------------------------------------------------------------------

    def _message(self, message: Assembled, now: float) -> None:
        if message.type in _CLIPBOARD:
            self._events += self.clipboards.handle(message.type, message.body, message.size)
            if not self.clipboards.awaiting:
                self._stream.set_limit(AgentType.CLIPBOARD, _UNASKED)
            return
        kind = AGENT_MESSAGES.get(message.type)
        if kind is None:
            return  # of a protocol that is newer
        if message.body is None:
            raise RemoteProtocolError(f"{message.size} bytes", message=f"agent {kind.__name__}")
        parsed = kind.parse(message.body)
        if isinstance(parsed, AnnounceCapabilities):
            self._on_capabilities(parsed)
        elif isinstance(parsed, FileXferStatus):
            self.transfers.handle(parsed, now)
        elif isinstance(parsed, Reply):
            self._on_reply(parsed)

    def _on_capabilities(self, message: AnnounceCapabilities) -> None:
        again = self.phase is AgentPhase.READY
        if again and message.request:
            # It asks at its beginning only: another process has taken the place of the one before.
            self.connected()
            self.phase, again = AgentPhase.READY, False
        elif message.request:
            self._announce(request=0)
        self.phase = AgentPhase.READY
        self.capabilities = mask(message.caps[:8])
        common = self.capabilities & mask(words(CAPABILITIES))
        self.clipboards.crlf = self.can(AgentCapability.GUEST_LINEEND_CRLF)
        if again:
            self.clipboards.update(common)
            return
        self.clipboards.start(common)
        if self.can(AgentCapability.MAX_CLIPBOARD):
            self._push(MaxClipboard(max=CONTENT_LIMIT))
        self._events.append(AgentReady(capabilities=capability_names(self.capabilities)))

    def _on_reply(self, message: Reply) -> None:
        known = message.type in AgentType._value2member_map_
        name = (
            AgentType(message.type).name.lower().replace("_", "-") if known else str(message.type)
        )
        success = message.error == ReplyError.SUCCESS
        self._events.append(AgentReplied(message=name, success=success))

    def _announce(self, request: int) -> None:
        self._push(AnnounceCapabilities(request=request, caps=words(CAPABILITIES)))

    def _push(self, message: AgentMessage) -> None:
        self._outbox.push(message)
