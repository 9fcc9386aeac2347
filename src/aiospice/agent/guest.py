"""The guest's end of the agent's protocol: what spice-vdagent does.

It sits behind the byte stream of a character device, cut into chunks by ``port`` and ``size``:
port 1 is the client's, port 2 the server's. Whoever plays the guest moves bytes both ways::

    agent.receive(device.read(agent.room))   # then look at agent.events()
    rest = data[device.write(data := agent.take(n)):]; agent.put_back(rest)

``room`` is 0 while what waits to be read by the other side is too much, so that a client that asks
and doesn't read stops itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.agent.arrivals import Arrivals
from aiospice.agent.clipboard import CONTENT_LIMIT, Clipboards
from aiospice.agent.guest_events import (
    ClientAnnounced,
    ClientLeft,
    DesktopConfigured,
    GraphicsDevices,
    MonitorsConfigured,
    PointerMoved,
    VolumeWanted,
)
from aiospice.agent.names import bits, capability_names, words
from aiospice.agent.outbox import Outbox
from aiospice.errors import RemoteProtocolError
from aiospice.wire.agent import (
    AGENT_MESSAGES,
    AgentCapability,
    AgentType,
    AnnounceCapabilities,
    AudioVolumeSync,
    ClientDisconnected,
    DisplayConfig,
    FileXferData,
    FileXferStart,
    FileXferStatus,
    GraphicsDeviceInfo,
    MaxClipboard,
    MonitorsConfig,
    MonitorsConfigFlags,
    MouseState,
    Reply,
    ReplyError,
    mask,
)
from aiospice.wire.agent_stream import (
    CLIENT_PORT,
    MAX_AGENT_DATA,
    SERVER_PORT,
    ChunkReader,
    Reassembler,
    pack_chunk,
)

if TYPE_CHECKING:
    from aiospice.events import Event
    from aiospice.wire.agent import AgentMessage
    from aiospice.wire.agent_stream import Assembled

__all__ = ["CAPABILITIES", "READ", "GuestAgent"]

#: What is announced, besides FILE_XFER_DISABLED.
CAPABILITIES = (
    AgentCapability.MOUSE_STATE,
    AgentCapability.MONITORS_CONFIG,
    AgentCapability.REPLY,
    AgentCapability.DISPLAY_CONFIG,
    AgentCapability.CLIPBOARD_BY_DEMAND,
    AgentCapability.CLIPBOARD_SELECTION,
    AgentCapability.SPARSE_MONITORS_CONFIG,
    AgentCapability.GUEST_LINEEND_LF,
    AgentCapability.MAX_CLIPBOARD,
    AgentCapability.AUDIO_VOLUME_SYNC,
    AgentCapability.MONITORS_CONFIG_POSITION,
    AgentCapability.FILE_XFER_DETAILED_ERRORS,
    AgentCapability.GRAPHICS_DEVICE_INFO,
    AgentCapability.CLIPBOARD_NO_RELEASE_ON_REGRAB,
    AgentCapability.CLIPBOARD_GRAB_SERIAL,
)
#: Bytes that are read of the device at once.
READ = 64 << 10
#: Messages that wait for the other side to read them while the device is still read.
WAITING_LIMIT = 1000
_CLIPBOARD = frozenset(
    (
        AgentType.CLIPBOARD,
        AgentType.CLIPBOARD_GRAB,
        AgentType.CLIPBOARD_REQUEST,
        AgentType.CLIPBOARD_RELEASE,
    )
)
#: Bytes of a clipboard that nobody has asked for: it is read past if it is larger.
_UNASKED = 64 << 10


class GuestAgent:
    """A guest's agent. Plain data.

    ``files``: whether files are taken at all. ``error`` tells why nothing is done any more: the
    device has to be closed and opened again then, with a new agent behind it.
    """

    def __init__(self, *, files: bool = True) -> None:
        self.error: RemoteProtocolError | None = None
        #: What the client can do, a bit for each capability; 0: no client is there.
        self.client = 0
        self._chunks = ChunkReader(max_chunk=MAX_AGENT_DATA)
        self._streams = {
            CLIENT_PORT: Reassembler({AgentType.CLIPBOARD: _UNASKED}),
            SERVER_PORT: Reassembler({AgentType.CLIPBOARD: _UNASKED}),
        }
        self._outbox = Outbox()
        self._ready = b""
        self.clipboards = Clipboards(self._outbox, agent=True)
        self.arrivals = Arrivals(self._outbox, enabled=files)
        self._events: list[Event] = []
        self._announce(request=1)

    # -- bytes -----------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many bytes of the device may be handed in now; 0: not before some are taken."""
        return 0 if self.error is not None or self._outbox.waiting > WAITING_LIMIT else READ

    @property
    def pending(self) -> int:
        """Bytes that wait to be taken, without the headers of chunks."""
        return self._outbox.pending + len(self._ready)

    def receive(self, data: bytes) -> None:
        """Take bytes of the device. What they lead to is among the `events`."""
        if self.error is not None:
            return
        try:
            for port, piece in self._chunks.receive(data):
                for message in self._streams[port].receive(piece):
                    self._message(message, port)
        except RemoteProtocolError as error:
            error.where = error.where or "agent's device"
            self.error = error

    def take(self, limit: int = READ) -> bytes:
        """The next bytes for the device, at most ``limit``; b"" if there are none."""
        parts, size = [self._ready], len(self._ready)
        while size < limit:
            piece = self._outbox.pop()
            if not piece.data:
                break
            if piece.tag and piece.last:
                self.clipboards.left(piece.tag)
            parts.append(pack_chunk(CLIENT_PORT, piece.data))
            size += len(parts[-1])
        joined = b"".join(parts)
        self._ready = joined[limit:]
        return joined[:limit]

    def put_back(self, data: bytes) -> None:
        """Hand back what the device did not take of what was taken last."""
        self._ready = data + self._ready

    def events(self) -> list[Event]:
        """What has happened, each once."""
        found, self._events = self._events, []
        return found

    # -- calls -----------------------------------------------------------------------------------

    def request(self, form: str = "text", selection: str = "clipboard") -> None:
        """Ask for what the client has to paste (`Clipboards.request`)."""
        self.clipboards.request(form, selection)
        self._streams[CLIENT_PORT].set_limit(AgentType.CLIPBOARD, CONTENT_LIMIT + 64)

    def accept_file(self, number: int) -> None:
        """Have a file sent that was offered; its parts follow as events."""
        self.arrivals.accept(number)

    def refuse_file(self, number: int) -> None:
        """Don't take a file, or no more of it."""
        self.arrivals.cancel(number)

    def fail_file(self, number: int, code: int = 0) -> None:
        """A file could not be stored; ``code``: a ``G_IO_ERROR_*`` (`aiospice.agent.files`)."""
        self.arrivals.fail(number, code)

    def no_space(self, number: int, free: int) -> None:
        """A file doesn't fit; ``free``: bytes that are free."""
        self.arrivals.no_space(number, free)

    def finish_file(self, number: int) -> None:
        """A file that came is in its place."""
        self.arrivals.finish(number)

    # -- in --------------------------------------------------------------------------------------

    def _message(self, message: Assembled, port: int) -> None:
        if message.type in _CLIPBOARD:
            self._events += self.clipboards.handle(message.type, message.body, message.size)
            if not self.clipboards.awaiting:
                self._streams[CLIENT_PORT].set_limit(AgentType.CLIPBOARD, _UNASKED)
            return
        kind = AGENT_MESSAGES.get(message.type)
        if kind is None:
            return  # of a protocol that is newer
        if message.body is None:
            if kind is not FileXferData:
                raise RemoteProtocolError(f"{message.size} bytes", message=f"agent {kind.__name__}")
            self._events += self.arrivals.lost_part(message.size)
            return
        name = _HANDLERS.get(message.type)
        if name is not None and (port == SERVER_PORT or message.type not in _SERVERS):
            getattr(self, name)(kind.parse(message.body), port)

    def _on_capabilities(self, message: AnnounceCapabilities, port: int) -> None:
        new = bool(message.request) or not self.client
        if new and self.client:
            self._leave("another client has taken over")
        self.client = mask(message.caps[:8])
        common = self.client & mask(words(CAPABILITIES))
        self.arrivals.detailed = bool(self.client & bits(AgentCapability.FILE_XFER_DETAILED_ERRORS))
        if message.request:
            self._announce(request=0)
        if new:
            self.clipboards.limit = CONTENT_LIMIT
            self.clipboards.start(common)
            self._events.append(ClientAnnounced(capabilities=capability_names(self.client)))
        else:
            self.clipboards.update(common)

    def _on_disconnected(self, message: ClientDisconnected, port: int) -> None:
        self._streams[CLIENT_PORT].reset()
        if self.client:
            self._leave("the client is gone")
            self.client = 0

    def _leave(self, reason: str) -> None:
        self._outbox.drop()
        self._events += self.arrivals.end_all(reason)
        self._events += self.clipboards.stop()
        self._events.append(ClientLeft())

    def _on_mouse(self, message: MouseState, port: int) -> None:
        self._events.append(
            PointerMoved(
                x=message.x, y=message.y, buttons=message.buttons, display=message.display_id
            )
        )

    def _on_monitors(self, message: MonitorsConfig, port: int) -> None:
        self._events.append(
            MonitorsConfigured(
                monitors=tuple((m.width, m.height, m.x, m.y, m.depth) for m in message.monitors),
                positions=bool(message.flags & MonitorsConfigFlags.USE_POS),
                sizes=tuple((size.width, size.height) for size in message.physical_sizes),
            )
        )
        if port == CLIENT_PORT:
            self._reply(AgentType.MONITORS_CONFIG)

    def _on_display(self, message: DisplayConfig, port: int) -> None:
        self._events.append(DesktopConfigured(flags=message.flags, depth=message.depth))
        if port == CLIENT_PORT:
            self._reply(AgentType.DISPLAY_CONFIG)

    def _on_volume(self, message: AudioVolumeSync, port: int) -> None:
        self._events.append(
            VolumeWanted(
                playback=bool(message.is_playback), mute=bool(message.mute), volume=message.volume
            )
        )

    def _on_devices(self, message: GraphicsDeviceInfo, port: int) -> None:
        devices = tuple(
            (
                info.channel_id,
                info.monitor_id,
                info.device_display_id,
                info.device_address.split(b"\0", 1)[0].decode("utf-8", "replace"),
            )
            for info in message.display_info
        )
        self._events.append(GraphicsDevices(devices=devices))

    def _on_max_clipboard(self, message: MaxClipboard, port: int) -> None:
        wanted = message.max if message.max >= 0 else CONTENT_LIMIT
        self.clipboards.limit = min(wanted, CONTENT_LIMIT)

    def _on_start(self, message: FileXferStart, port: int) -> None:
        self._events += self.arrivals.on_start(message)

    def _on_data(self, message: FileXferData, port: int) -> None:
        self._events += self.arrivals.on_data(message)

    def _on_status(self, message: FileXferStatus, port: int) -> None:
        self._events += self.arrivals.on_status(message)

    def _announce(self, request: int) -> None:
        disabled = () if self.arrivals.enabled else (AgentCapability.FILE_XFER_DISABLED,)
        self._push(AnnounceCapabilities(request=request, caps=words((*CAPABILITIES, *disabled))))

    def _reply(self, type: AgentType) -> None:
        self._push(Reply(type=type, error=ReplyError.SUCCESS))

    def _push(self, message: AgentMessage) -> None:
        self._outbox.push(message)


_HANDLERS: dict[int, str] = {
    AgentType.MOUSE_STATE: "_on_mouse",
    AgentType.MONITORS_CONFIG: "_on_monitors",
    AgentType.DISPLAY_CONFIG: "_on_display",
    AgentType.ANNOUNCE_CAPABILITIES: "_on_capabilities",
    AgentType.FILE_XFER_START: "_on_start",
    AgentType.FILE_XFER_STATUS: "_on_status",
    AgentType.FILE_XFER_DATA: "_on_data",
    AgentType.CLIENT_DISCONNECTED: "_on_disconnected",
    AgentType.MAX_CLIPBOARD: "_on_max_clipboard",
    AgentType.AUDIO_VOLUME_SYNC: "_on_volume",
    AgentType.GRAPHICS_DEVICE_INFO: "_on_devices",
}
#: What only the server may say.
_SERVERS = frozenset((AgentType.CLIENT_DISCONNECTED, AgentType.GRAPHICS_DEVICE_INFO))
