"""The display channel, client end: drawing is passed on to whoever keeps the screen."""

from __future__ import annotations

from typing import ClassVar

from aiospice.channels.base import ClientChannel, Key
from aiospice.channels.events import Event
from aiospice.channels.framing import Framing
from aiospice.channels.scan import scan
from aiospice.errors import RemoteProtocolError
from aiospice.wire import display
from aiospice.wire.caps import DisplayCap, has
from aiospice.wire.images import ImageCompression
from aiospice.wire.message import KINDS, SERVER, Message

__all__ = ["DisplayBatch", "DisplayChannel", "DisplayMessage"]

#: Sizes that upstream's client offers (spice-gtk ``src/channel-display.c``): 80 MiB of cached
#: images and 16 MiB of GLZ window, both counted in pixels of 4 bytes; ids 1.
PIXMAP_CACHE_PIXELS = 20 << 20
GLZ_WINDOW_PIXELS = 4 << 20


class DisplayMessage(Event):
    """A message that changes what is on the screen."""

    key: tuple[int, int]
    message: Message


class DisplayBatch(Event):
    """A run of such messages, as they came: with mini headers, one behind the other.

    They are ``data`` from ``begin`` to ``end``; nobody writes to it any more, but to a view: that
    is lent (`aiospice.channels.framing.Framing.lend`).
    """

    key: tuple[int, int]
    data: bytes | bytearray | memoryview
    begin: int
    end: int
    count: int


class DisplayChannel(ClientChannel):
    """Display: hands every message on, and may ask how images and videos are to be packed."""

    handlers: ClassVar[dict[int, str]] = {
        display.InvalAllPixmaps.number: "_on_inval_all_pixmaps",
        display.GlScanoutUnix.number: "_on_gl",
        display.GlDraw.number: "_on_gl",
        display.QualityIndicator.number: "_on_quality_indicator",
    }

    def __init__(self, key: Key, framing: Framing, server_caps: tuple[int, ...] = ()) -> None:
        super().__init__(key, framing, server_caps)
        #: `ImageCompression` to be asked for, INVALID: none.
        self.compression: int = ImageCompression.INVALID
        #: `VideoCodecType` of the videos that are to be asked for, the best first; none: as the
        #: server likes.
        self.video_codecs: tuple[int, ...] = ()
        self._after_waits: Event | None = None

    def start(self) -> list[Event]:
        """Send INIT, and which compression is wanted."""
        self.send(
            display.Init(
                pixmap_cache_id=1,
                pixmap_cache_size=PIXMAP_CACHE_PIXELS,
                glz_dictionary_id=1,
                glz_dictionary_window_size=GLZ_WINDOW_PIXELS,
            )
        )
        self._ask()
        return []

    def _ask(self) -> None:
        """Tell the server what is liked best, if it knows the messages."""
        wanted = self.compression != ImageCompression.INVALID
        if wanted and has(self.server_caps, DisplayCap.PREF_COMPRESSION):
            self.send(display.PreferredCompression(image_compression=self.compression))
        if self.video_codecs and has(self.server_caps, DisplayCap.PREF_VIDEO_CODEC_TYPE):
            self.send(display.PreferredVideoCodecType(codecs=self.video_codecs))

    def switch(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """Go on with the target, which is told again what is liked best.

        The record doesn't carry it, and the target begins with its own default.
        """
        report = self.replay
        super().switch(framing, server_caps)
        self.shows_due = report is not None
        self.gate_open = not self.shows_due
        self._ask()

    def switch_back(self, framing: Framing, server_caps: tuple[int, ...]) -> None:
        """The source goes on, which knows."""
        super().switch_back(framing, server_caps)
        self.shows_due, self.gate_open = False, True

    def tell_shown(self, shows: display.Shows) -> None:
        """Tell the target what is shown and kept, as `shows_due` asks for."""
        self.shows_due, self.gate_open = False, True
        self._send_first(shows)

    def _other(self, kind: type[Message], body: bytes) -> None:
        self._events.append(DisplayMessage(key=self.key, message=kind.parse(body)))

    def _take_run(self) -> bool:
        run = self.next_run()
        if run is None:
            return False
        data, at, end, count = run
        self._events.append(DisplayBatch(key=self.key, data=data, begin=at, end=end, count=count))
        return True

    def next_run(self) -> tuple[bytes | bytearray | memoryview, int, int, int] | None:
        """Take the messages that come next and are only passed on; None if there are none.

        What a `DisplayBatch` has: the data, where they begin and end in it, and how many they are.
        """
        framing = self.framing
        if not framing.mini:  # the serial is in each header then
            return None
        data, at = framing.buffer, framing.start
        end, count = scan(data, at, _passed or _passed_on(), framing.limit)
        if not count:
            return None
        if isinstance(data, bytearray) and end < len(data):  # the framing goes on with it
            data, at, end = bytes(memoryview(data)[at:end]), 0, end - at
            framing.taken(framing.start + end)
        else:
            framing.taken(end)
        self._counted(0, count)
        return data, at, end, count

    def _on_inval_all_pixmaps(self, message: display.InvalAllPixmaps) -> None:
        event = DisplayMessage(key=self.key, message=message)
        if message.waits:
            self._after_waits = event
            self._wait_for(message.waits)
        else:
            self._events.append(event)

    def released(self, now: float) -> list[Event]:
        """The points that were waited for are reached: forget the images, go on reading."""
        if self._after_waits is not None:
            self._events.append(self._after_waits)
            self._after_waits = None
        return super().released(now)

    def _on_gl(self, message: Message) -> None:
        # Only a server on this host that was told to may send it: a descriptor over a UNIX socket.
        raise RemoteProtocolError(
            "the server shares its screen as a file descriptor (GL), which this client did not "
            "offer to take: start the server without gl=on",
            message=type(message).__name__,
        )

    def _on_quality_indicator(self, message: display.QualityIndicator) -> None:
        self._ignored("QualityIndicator", "nothing is done with it", message.data)

    def restart(self, framing: Framing, server_caps: tuple[int, ...]) -> list[Event]:
        """Begin anew: surfaces and caches are gone, and asked for again."""
        self._after_waits = None
        self.shows_due, self.gate_open = False, True
        self._queue.clear()
        self.queued_bytes = 0
        return super().restart(framing, server_caps)


_passed: bytes = b""


def _passed_on() -> bytes:
    """A 1 for each number of a message that is only passed on."""
    global _passed
    if not _passed:
        numbers = {number for channel, sender, number in KINDS if channel == 2 and sender == SERVER}
        numbers -= {*DisplayChannel.handlers, display.Replay.number}
        _passed = bytes(number in numbers for number in range(max(numbers) + 1))
    return _passed
