"""What one display channel shows: surfaces, draws, monitors and videos.

`Screen.apply` takes the messages of the channel one by one and returns what came of them. It is
plain data: pixels in byte arrays, everything else in small classes.

Order. A message whose image isn't decoded yet (that is done elsewhere, `Screen.take_jobs` and
`Screen.computed`) or copies from one that has not come waits, and so do all behind it; images of
the next few are decoded meanwhile (`aiospice.client.backlog`).

Memory. The surfaces of a screen take at most `Screen.surface_bytes` (1 GiB unless set otherwise),
one surface or image at most 512 MiB; a draw may need up to three times its image for the moment.
Images that are kept belong to `aiospice.client.caches`, which has its own limit.

What is drawn and how follows spice-common ``common/canvas_base.c``, the life of surfaces
spice-gtk ``src/channel-display.c``. What can't be drawn (yet) leaves the screen as it was and
gives a `NotDrawn`; what no server may send raises `RemoteProtocolError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aiospice.canvas import raster
from aiospice.canvas.pixels import BYTES, FORMAT_NAMES, RGB555, XRGB, Pixels, check_size
from aiospice.canvas.region import Box, Region, bounds
from aiospice.channels.events import Event
from aiospice.client.backlog import Backlog, Run, Waiting
from aiospice.client.batch import STOP, run
from aiospice.client.caches import Caches, PaletteCache
from aiospice.client.draws import Draws, box_of, images_of
from aiospice.client.images import MAX_JOB_PIXELS, CannotDraw, ImageReader, NotYet
from aiospice.client.picture import Picture
from aiospice.errors import RemoteProtocolError, StateError
from aiospice.wire import display
from aiospice.wire.message import SERVER
from aiospice.wire.registry import find
from aiospice.wire.shapes import DisplayBase

if TYPE_CHECKING:
    from aiospice.client.decode import DecodeJob
    from aiospice.client.streams import Frame, Job, Outcome, Stream, Streams
    from aiospice.wire.message import Message

__all__ = [
    "MAX_SURFACES",
    "SURFACE_BYTES",
    "Monitor",
    "MonitorsChanged",
    "NotDrawn",
    "Picture",
    "Screen",
    "ScreenChanged",
    "ScreenMarked",
    "StreamEnded",
    "StreamStarted",
    "SurfaceCreated",
    "SurfaceDestroyed",
]

#: Surfaces of one screen (``NUM_SURFACES`` in spice-server ``server/red-common.h``).
MAX_SURFACES = 10_000
#: Bytes of all surfaces of one screen.
SURFACE_BYTES = 1 << 30
#: Messages about videos, which are told of in order before they are carried out.
_VIDEO = frozenset((122, 123, 124, 125, 126, 316, 319))


class SurfaceCreated(Event):
    """A surface is there, all zero."""

    #: Number of the display channel.
    display: int
    surface_id: int
    width: int
    height: int
    #: ``32_xRGB``, ``32_ARGB``, ``16_555``, ``16_565``, ``8_A`` or ``1_A``.
    format: str
    #: It is what the screen shows.
    primary: bool


class SurfaceDestroyed(Event):
    """A surface is gone."""

    display: int
    surface_id: int
    primary: bool


class ScreenChanged(Event):
    """Pixels of what is shown have changed, inside of this box."""

    display: int
    x: int
    y: int
    width: int
    height: int


class ScreenMarked(Event):
    """The server says that the screen is complete and may be shown."""

    display: int


class MonitorsChanged(Event):
    """The monitors are others now: each ``(id, surface, x, y, width, height)``."""

    display: int
    monitors: tuple[tuple[int, int, int, int, int, int], ...]


class StreamStarted(Event):
    """A part of the screen is sent as a video from now on."""

    display: int
    stream_id: int
    codec: int
    width: int
    height: int


class StreamEnded(Event):
    """A video is over."""

    display: int
    stream_id: int
    frames: int


class NotDrawn(Event):
    """A message had no effect on the screen, which therefore may show something wrong."""

    display: int
    #: Name of the message.
    what: str
    surface_id: int
    #: Left, top, right and bottom of where it should have been.
    box: tuple[int, int, int, int]
    #: One of a fixed set; what more there is to say is in ``detail``.
    reason: str
    detail: str


class Monitor:
    """A monitor: the part of a surface that it shows, in pixels."""

    __slots__ = ("height", "id", "surface_id", "width", "x", "y")

    def __init__(self, id: int, surface_id: int, x: int, y: int, width: int, height: int) -> None:
        self.id = id
        self.surface_id = surface_id
        self.x = x
        self.y = y
        self.width = width
        self.height = height

    def as_tuple(self) -> tuple[int, int, int, int, int, int]:
        """Id, surface, x, y, width, height."""
        return (self.id, self.surface_id, self.x, self.y, self.width, self.height)


class Screen:
    """The surfaces of one display channel and what is drawn on them."""

    handlers: ClassVar[dict[int, str]] = {
        display.Mode.number: "_mode",
        display.Mark.number: "_mark",
        display.Reset.number: "_clear",
        display.InvalList.number: "_inval_list",
        display.InvalAllPixmaps.number: "_inval_all_pixmaps",
        display.InvalPalette.number: "_inval_palette",
        display.InvalAllPalettes.number: "_inval_all_palettes",
        display.StreamCreate.number: "_stream_create",
        display.StreamData.number: "_stream_data",
        display.StreamDataSized.number: "_stream_data",
        display.StreamDestroy.number: "_stream_destroy",
        display.StreamDestroyAll.number: "_stream_destroy",
        display.SurfaceCreate.number: "_surface_create",
        display.SurfaceDestroy.number: "_surface_destroy",
        display.MonitorsConfig.number: "_monitors_config",
        display.GlScanoutUnix.number: "_gl",
        display.GlDraw.number: "_gl",
    }

    def __init__(
        self, channel_id: int, caches: Caches, *, surface_bytes: int = SURFACE_BYTES
    ) -> None:
        #: Number of the display channel.
        self.id = channel_id
        self.caches = caches
        self.palettes = PaletteCache()
        self.surface_bytes = surface_bytes
        self.surfaces: dict[int, Pixels] = {}
        #: The surface that is shown, None when there is none.
        self.primary: int | None = None
        self.marked = False
        self.monitors: tuple[Monitor, ...] = ()
        self.max_monitors = 1
        #: Video codecs that can be decoded (`display.VideoCodecType`).
        self.video_codecs: tuple[int, ...] = (display.VideoCodecType.MJPEG,)
        #: Our clock (seconds) and the server's (ms), as `tick` told them last.
        self.time = (0.0, 0)
        self._videos: Streams | None = None
        self._outcome: Outcome = None
        #: Draws carried out, and pixels that they touched, since the start.
        self.draws = 0
        self.pixels = 0
        #: How often something wasn't drawn, by message name and reason.
        self.not_drawn: dict[tuple[str, str], int] = {}
        #: What has come and can't be carried out yet.
        self.backlog = Backlog()
        #: The GLZ image that the first message of the backlog waits for, None: for none.
        self.needs_glz: int | None = None
        self._stuck: Waiting | None = None
        self._held = 0
        self._drawn_on_primary = False
        self._reader = ImageReader(caches, self.palettes)
        self._draws = Draws(self.surfaces, self._reader)

    @property
    def ready(self) -> bool:
        """There is a surface to show, and it was marked as complete or drawn on."""
        return self.primary is not None and (self.marked or self._drawn_on_primary)

    @property
    def rough(self) -> bool:
        """Whether anything came with losses, and so may be shown with losses."""
        counts = self._reader.counts
        return self._videos is not None or any(name in counts for name in ("JPEG", "JPEG_ALPHA"))

    @property
    def restless(self) -> bool:
        """Something has to be decoded or waited for, or a video is there, which has a clock."""
        waits = self.needs_glz is not None or self.backlog.messages > 0
        return waits or self._videos is not None or len(self._reader.wanted) > 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is shown, in pixels; (0, 0) when there is nothing."""
        if self.primary is None:
            return (0, 0)
        shown = self.surfaces[self.primary]
        return (shown.width, shown.height)

    @property
    def images(self) -> dict[str, int]:
        """How many images have come, by the name of their type (``QUIC``, ``LZ_RGB``, ...)."""
        return dict(self._reader.counts)

    @property
    def videos(self) -> Streams:
        """The videos of this display, made when the first message about one comes."""
        if self._videos is None:
            from aiospice.client.streams import Streams

            self._videos = Streams(self.id, self.video_codecs)
        return self._videos

    @property
    def streams(self) -> dict[int, Stream]:
        """The videos that there are, by number."""
        return {} if self._videos is None else self._videos.playing

    def tick(self, now: float, clock: int) -> None:
        """Tell our time (seconds) and the server's (ms), before what comes now is applied."""
        self.time = (now, clock)

    def next_wake(self) -> float | None:
        """When `wake` wants to be called."""
        return None if self._videos is None else self._videos.next_wake()

    def wake(self, now: float) -> None:
        """Make the reports of videos that are due."""
        if self._videos is not None:
            self._videos.wake(now)

    def take_reports(self) -> list[display.StreamReport]:
        """What the server is to be told of its videos, if it takes reports; each once."""
        return [] if self._videos is None else self._videos.take_reports()

    def snapshot(self) -> Picture:
        """A copy of what is shown; `StateError` when there is no surface to show."""
        if self.primary is None:
            raise StateError(f"display {self.id} has no screen yet; wait until it is ready")
        shown = self.surfaces[self.primary]
        return Picture(shown.width, shown.height, bytes(shown.converted(XRGB).tight()))

    def reset(self) -> list[Event]:
        """Forget everything that came over the old connection: the new server starts from nothing.

        The images are the session's and stay: see `Caches.clear`.
        """
        events: list[Event] = [self._gone(surface_id) for surface_id in list(self.surfaces)]
        self.backlog.clear()
        self._reader.clear()
        self._stuck = self.needs_glz = None
        self.palettes.clear()
        if self._videos is not None:
            self._videos.reset()
        self.monitors = ()
        self.marked = False
        return events

    def apply(self, message: Message) -> list[Event]:
        """Carry out one message of the display channel and tell what came of it.

        Raises `RemoteProtocolError` for sizes, numbers and images that no server may send; a
        message that isn't about the screen gives no events. One that has to wait gives its events
        later, from `computed` or `go_on`.
        """
        return self._take_in(Waiting(message))

    def apply_batch(
        self, data: bytes | bytearray | memoryview, at: int, end: int, count: int
    ) -> list[Event]:
        """Carry out a run of ``count`` messages with mini headers; events of draws are summed up.

        They are ``data`` from ``at`` to ``end``, which nobody may write to any more; of a view,
        which is only lent, what has to wait is copied.

        Raises as `apply` does, and `DecodeError`; what came before the bad message is done then.
        """
        if self.backlog.messages:
            return self._take_in(Run(data, count, at, end))
        events = self._run(data, at, end, count)
        if self.backlog.messages:
            self._look_ahead()
        return events

    def take_jobs(self) -> list[tuple[int, DecodeJob | Job]]:
        """What is to be decoded elsewhere, each once: a number for `computed`, and the job."""
        jobs: list[tuple[int, DecodeJob | Job]] = [*self._reader.wanted]
        self._reader.wanted = []
        if self._videos is not None:
            jobs += self._videos.take_work()
        return jobs

    def computed(self, number: int, result: Any) -> list[Event]:
        """A job has ended, in whatever order: carry out what waited for it; raises as `apply`."""
        if self._videos is not None and self._videos.mine(number):
            self._videos.computed(number, result)
        else:
            self._reader.computed(number, result)
        return self.go_on()

    def go_on(self) -> list[Event]:
        """Carry out what has been waiting, as far as that is possible now; raises as `apply`."""
        events: list[Event] = []
        self._stuck = None
        while self.backlog and self._stuck is None:
            events += self._do(self.backlog.take())
        self._look_ahead()
        return events

    def _take_in(self, item: Waiting | Run) -> list[Event]:
        events: list[Event] = []
        if self.backlog.messages:
            self.backlog.add(item)
        else:
            events = self._do(item)
        if self.backlog.messages:
            self._look_ahead()
        return events

    def _look_ahead(self) -> None:
        """Have images decoded that will be needed soon."""
        for waiting in self.backlog.ahead():
            if not self._tell_videos(waiting, early=True):
                return
            for image in images_of(waiting.message):
                if not self._reader.start_early(image, waiting.reading):
                    return

    def _tell_videos(self, waiting: Waiting, *, early: bool = False) -> bool:
        """Tell the videos of a message, once; False when as much is decoded early as may be."""
        if waiting.message.number in _VIDEO and not waiting.told:
            if early and self.videos.ahead > MAX_JOB_PIXELS:
                return False
            waiting.told = True
            waiting.outcome = self.videos.tell(waiting.message, *self.time)
        return True

    def _do(self, item: Waiting | Run) -> list[Event]:
        """Carry out what comes first, or put it back."""
        if isinstance(item, Run):
            return self._run(item.data, item.at, item.end, item.count)
        events = self._try(item)
        if self._stuck is not None:
            self.backlog.put_back(item)
        return events

    def _try(self, waiting: Waiting) -> list[Event]:
        """Carry a message out; if it has to wait it is stuck, and nothing has happened."""
        self._tell_videos(waiting)
        self._reader.reading = waiting.reading
        self._outcome = waiting.outcome
        self._stuck = self.needs_glz = None
        try:
            events = self._carry_out(waiting.message)
        except NotYet as error:
            self._stuck = waiting
            self.needs_glz = error.glz_id
            return []
        self._reader.done(waiting.reading)
        return events

    def _carry_out(self, message: Message) -> list[Event]:
        name = Draws.handlers.get(message.number)
        other = self.handlers.get(message.number)
        try:
            if name is not None:
                return self._draw(name, message)
            if other is None:
                return []
            events: list[Event] = getattr(self, other)(message)
            return events
        except CannotDraw as error:
            return [self._left_out(message, error.reason, error.detail)]
        except RemoteProtocolError as error:
            error.message = error.message or type(message).__name__
            error.where = error.where or f"display:{self.id}"
            raise

    def _run(
        self, data: bytes | bytearray | memoryview, at: int, end: int, count: int
    ) -> list[Event]:
        events: list[Event] = []
        self._stuck = None

        def one(number: int, body: bytes) -> int:
            kind = find(2, SERVER, number)
            if kind is not None:
                events.extend(self._try(Waiting(kind.parse(body), len(body))))
                if self._stuck is not None:
                    return STOP
            return -1 if self.primary is None else self.primary

        changes = run(data, at, end, self.surfaces, self.primary, self._reader, one)
        self.draws += changes.draws
        self.pixels += changes.pixels
        if changes.count < count:
            self.backlog.put_back(Run(data, count - changes.count, changes.at, end))
        if self._stuck is not None:
            self.backlog.put_back(self._stuck)
        box = changes.box
        if box is not None:
            self._drawn_on_primary = True
            events.append(self._changed(box))
        return events

    def _left_out(self, message: Any, reason: str, detail: str) -> NotDrawn:
        what = type(message).__name__
        self.not_drawn[what, reason] = self.not_drawn.get((what, reason), 0) + 1
        base = getattr(message, "base", None)
        stream = self.streams.get(getattr(message, "id", -1))
        surface_id, box = 0, (0, 0, 0, 0)
        if isinstance(base, DisplayBase):
            surface_id, box = base.surface_id, box_of(base.box)
        elif stream is not None:
            surface_id, box = stream.surface_id, stream.dest
        return NotDrawn(
            display=self.id, what=what, surface_id=surface_id, box=box, reason=reason, detail=detail
        )

    # Surfaces

    def _mode(self, message: display.Mode) -> list[Event]:
        format = XRGB if message.bits == 32 else RGB555
        return self._create(0, message.x_res, message.y_res, format, primary=True)

    def _surface_create(self, message: display.SurfaceCreate) -> list[Event]:
        if message.format not in BYTES:
            raise RemoteProtocolError(f"{message.format} is not a surface format")
        primary = bool(message.flags & display.SurfaceFlags.PRIMARY)
        return self._create(
            message.surface_id, message.width, message.height, message.format, primary=primary
        )

    def _create(
        self, surface_id: int, width: int, height: int, format: int, *, primary: bool
    ) -> list[Event]:
        """Make a surface; a primary one like the one that is there keeps that one's pixels."""
        check_size(width, height, f"surface {surface_id}")
        events: list[Event] = []
        shown = self.surfaces.get(self.primary) if primary and self.primary is not None else None
        if shown is not None and self.primary is not None:
            same = (shown.width, shown.height, shown.format) == (width, height, format)
            if same and self.primary == surface_id:
                return []
            events.append(self._gone(self.primary))
        if surface_id in self.surfaces:
            events.append(self._gone(surface_id))
        size = width * height * BYTES[format]
        if self._held + size > self.surface_bytes or len(self.surfaces) >= MAX_SURFACES:
            raise RemoteProtocolError(
                f"surface {surface_id} of {width}x{height}: {len(self.surfaces)} surfaces take "
                f"{self._held} bytes, the limits are {MAX_SURFACES} and {self.surface_bytes}"
            )
        self.surfaces[surface_id] = Pixels(width, height, format)
        self._held += size
        if primary:
            self.primary = surface_id
        events.append(
            SurfaceCreated(
                display=self.id,
                surface_id=surface_id,
                width=width,
                height=height,
                format=FORMAT_NAMES[format],
                primary=primary,
            )
        )
        return events

    def _gone(self, surface_id: int) -> SurfaceDestroyed:
        self._held -= len(self.surfaces.pop(surface_id).data)
        primary = surface_id == self.primary
        if primary:
            self.primary = None
            self._drawn_on_primary = False
        return SurfaceDestroyed(display=self.id, surface_id=surface_id, primary=primary)

    def _surface_destroy(self, message: display.SurfaceDestroy) -> list[Event]:
        """An id that isn't there is passed over, as upstream does."""
        return [self._gone(message.surface_id)] if message.surface_id in self.surfaces else []

    def _mark(self, message: display.Mark) -> list[Event]:
        self.marked = True
        return [ScreenMarked(display=self.id)]

    def _clear(self, message: display.Reset) -> list[Event]:
        """Black the screen and forget the palettes; images and other surfaces stay."""
        self.palettes.clear()
        self.marked = False
        self._drawn_on_primary = False
        if self.primary is None:
            return []
        shown = self.surfaces[self.primary]
        whole = (0, 0, shown.width, shown.height)
        raster.fill(shown, [whole], 0, raster.CLEAR)
        return [self._changed(whole)]

    def _monitors_config(self, message: display.MonitorsConfig) -> list[Event]:
        """An empty configuration is passed over, as upstream does."""
        if not message.heads:
            return []
        self.max_monitors = max(message.max_allowed, 1)
        self.monitors = tuple(
            Monitor(head.monitor_id, head.surface_id, head.x, head.y, head.width, head.height)
            for head in message.heads
        )
        shown = tuple(monitor.as_tuple() for monitor in self.monitors)
        return [MonitorsChanged(display=self.id, monitors=shown)]

    # Caches

    def _inval_list(self, message: display.InvalList) -> list[Event]:
        for resource in message.resources:
            if resource.type == display.ResourceType.PIXMAP:
                self.caches.images.drop(resource.id)
        return []

    def _inval_all_pixmaps(self, message: display.InvalAllPixmaps) -> list[Event]:
        """The owner has waited for ``message.waits`` before this is applied."""
        self.caches.images.clear()
        return []

    def _inval_palette(self, message: display.InvalPalette) -> list[Event]:
        self.palettes.drop(message.id)
        return []

    def _inval_all_palettes(self, message: display.InvalAllPalettes) -> list[Event]:
        self.palettes.clear()
        return []

    # Videos

    def _told(self) -> Any:
        """What the videos made of the present message; raises what is wrong with it."""
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def _stream_create(self, message: display.StreamCreate) -> list[Event]:
        stream: Stream = self._told()
        width, height = stream.size
        started = StreamStarted(
            display=self.id, stream_id=stream.id, codec=stream.codec, width=width, height=height
        )
        if not stream.problem:
            return [started]
        return [started, self._left_out(message, stream.problem, "")]

    def _stream_data(self, message: display.StreamData | display.StreamDataSized) -> list[Event]:
        frame: Frame = self._told()
        picture = self.videos.picture(frame)
        if picture is None:
            return []
        surface = self.surfaces.get(frame.surface_id)
        if surface is None:
            raise CannotDraw("there is no such surface")
        from aiospice.client.streams import draw_frame

        return self._drawn(frame.surface_id, *draw_frame(surface, frame, picture))

    def _stream_destroy(self, message: Message) -> list[Event]:
        ended: list[Stream] = self._told()
        return [
            StreamEnded(display=self.id, stream_id=stream.id, frames=stream.frames)
            for stream in ended
        ]

    def _gl(self, message: Any) -> list[Event]:
        raise CannotDraw("DMA buffers are not shown")

    # Draws

    def _draw(self, name: str, message: Any) -> list[Event]:
        return self._drawn(message.base.surface_id, *getattr(self._draws, name)(message))

    def _drawn(self, surface_id: int, region: Region, pixels: int) -> list[Event]:
        self.draws += 1
        self.pixels += pixels
        if surface_id != self.primary:
            return []
        self._drawn_on_primary = True
        box = bounds(region)
        return [] if box is None else [self._changed(box)]

    def _changed(self, box: Box) -> ScreenChanged:
        left, top, right, bottom = box
        return ScreenChanged(
            display=self.id, x=left, y=top, width=right - left, height=bottom - top
        )
