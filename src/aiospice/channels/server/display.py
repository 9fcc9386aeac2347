"""The display channel, server end: tells what the client can do and wants, and how it keeps up."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.server.base import ServerChannel
from aiospice.errors import RemoteProtocolError
from aiospice.wire import display
from aiospice.wire.caps import DisplayCap, has
from aiospice.wire.header import FULL, MINI
from aiospice.wire.images import ImageCompression

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

    @property
    def pings(self) -> frozenset[int]:
        """The pings that are still to be answered."""
        return frozenset(self._pings)

    def _left(self, number: int, body: bytes) -> None:
        self.handed_out += len(body) + (MINI.size if self.framing.mini else FULL.size)

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
