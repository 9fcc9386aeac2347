"""The display channel, server end: tells what the client can do and wants, and how it keeps up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aiospice.channels.base import Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel, ServerPhase
from aiospice.channels.server.together import take_together
from aiospice.errors import RemoteProtocolError
from aiospice.wire import display
from aiospice.wire.caps import DisplayCap, has
from aiospice.wire.images import ImageCompression

if TYPE_CHECKING:
    from collections import deque

__all__ = [
    "DisplayReady",
    "DisplayReported",
    "DisplayServer",
    "DisplayWishes",
]


class DisplayReady(Event):
    """The client has told its caches (`DisplayServer.init`): the channel can begin."""

    key: tuple[int, int]


class DisplayWishes(Event):
    """The client wants images or videos packed in another way from now on."""

    key: tuple[int, int]


class DisplayReported(Event):
    """The client tells how a video comes out."""

    key: tuple[int, int]
    report: display.StreamReport


class DisplayServer(ServerChannel):
    """Display: what the client says of itself; what is sent is for `aiospice.server.held`."""

    handlers: ClassVar[dict[int, str]] = {
        display.Init.number: "_on_init",
        display.StreamReport.number: "_on_stream_report",
        display.PreferredCompression.number: "_on_preferred_compression",
        display.GlDrawDone.number: "_on_gl_draw_done",
        display.PreferredVideoCodecType.number: "_on_preferred_video_codec_type",
    }
    limit: ClassVar[int] = 4 << 10
    #: Wishes and reports may come in any order; answers to pings have to come at once.
    awaits_late: ClassVar[bool] = False

    def __init__(self, key: Key, framing: Framing, client_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, client_caps)
        #: A body is bytes, or a list of such that are joined when they leave.
        self._queue: deque[tuple[int, Any]]
        #: What the client began with, None before that.
        self.init: display.Init | None = None
        #: `ImageCompression` that the client asks for, INVALID: none.
        self.compression: int = ImageCompression.INVALID
        #: Video codecs that the client asks for, the best first; none: what its capabilities say.
        self.video_codecs: tuple[int, ...] = ()
        #: Bytes that were taken so far.
        self.handed_out = 0
        #: Pings that were answered, and when.
        self.answered: list[tuple[int, float]] = []

    def can(self, capability: DisplayCap) -> bool:
        """Whether the client announced a capability of display channels."""
        return has(self.client_caps, capability)

    def send_with(self, number: int, head: bytes, data: bytes | bytearray) -> None:
        """Queue a message whose body has ``data`` at its end, which isn't copied here."""
        if self.phase is ServerPhase.OPEN:
            self._queue.append((number, [head, data]))
            self.queued_bytes += len(head) + len(data)

    def take(self) -> bytes:
        """The next message with its header, b"" if there is none; small ones come together."""
        queue = self._queue
        if not queue or self.phase is ServerPhase.CLOSED:
            return b""
        data = take_together(self)
        if not queue:
            self._asked = 0
        return data

    def pinged(self, number: int) -> bool:
        """Whether a ping is still to be answered."""
        return number in self._pings

    def _ponged(self, id: int) -> None:
        self.answered.append((id, self._now))
        del self.answered[:-8]

    def _on_init(self, message: display.Init) -> None:
        if self.init is not None:
            raise RemoteProtocolError("came a second time", message="Init")
        self.init = message
        self._events.append(DisplayReady(key=self.key))

    def _on_preferred_compression(self, message: display.PreferredCompression) -> None:
        wish = message.image_compression
        if not ImageCompression.OFF <= wish <= ImageCompression.LZ4:
            self._ignored("PreferredCompression", f"there is no compression {wish}", b"")
            return
        self.compression = wish
        self._events.append(DisplayWishes(key=self.key))

    def _on_preferred_video_codec_type(self, message: display.PreferredVideoCodecType) -> None:
        self.video_codecs = tuple(message.codecs)
        self._events.append(DisplayWishes(key=self.key))

    def _on_stream_report(self, message: display.StreamReport) -> None:
        self._events.append(DisplayReported(key=self.key, report=message))

    def _on_gl_draw_done(self, message: display.GlDrawDone) -> None:
        raise RemoteProtocolError("nothing was drawn by GL", message="GlDrawDone")
