"""What one client holds of a display, and the cheapest message that brings it up to date.

A `Held` belongs to the display channel of one client. It follows the operations of its `Display`
as long as the client keeps up, and knows three things about every surface that the client has:
where it is as published, where it isn't (*dirty*), and where it is only roughly (*lossy*).

In step. Operations are put into a queue and leave in order; an image leaves when it is packed,
and the next few are packed meanwhile. An image that the client keeps is named, not sent again.

Behind. When the client's window is used up, its socket takes nothing more, or packing doesn't keep
up, what hasn't been begun is forgotten, and what it covered is dirty, as is all that changes from
then on. Dirty boxes are sent with the pixels of the moment when they can be. So what waits for a
client is bounded: a few images that are begun, and a region of at most
`aiospice.server.region.MAX_BOXES` boxes a surface, however much is drawn.

Invariant: what the client shows after everything queued has been read equals the published frame,
but for what is dirty, lossy, or shown by a video.

Plain data. `pump` is to be called after whatever the client or its socket does; it ends when
nothing more may be sent.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from aiospice.channels.server.display import DisplayReady, DisplayReported
from aiospice.server.atonce import send_at_once
from aiospice.server.choose import GLZ, ZLIB_GLZ, Wish
from aiospice.server.curtain import Curtain, creation
from aiospice.server.encode import (
    Encoded,
    EncodeJob,
    Method,
    Picture,
    VideoJob,
    cost,
)
from aiospice.server.kept import ClientCaches, ImageCache
from aiospice.server.line import Line
from aiospice.server.operations import (
    Change,
    Copy,
    Created,
    Destroyed,
    Draw,
    DrawOperation,
    Fill,
    Operation,
)
from aiospice.server.plane import Plane
from aiospice.server.region import Box, add, area, cut, intersect, meet, shift, size
from aiospice.server.sending import (
    INLINE,
    LINE_PIXELS,
    NEAR_BYTES,
    NEAR_LINE_PIXELS,
    QUEUE_BYTES,
    Sending,
)
from aiospice.server.streams import Streams
from aiospice.server.surface import strips
from aiospice.wire import display as messages
from aiospice.wire.caps import DisplayCap

if TYPE_CHECKING:
    from aiospice.channels.events import Event
    from aiospice.channels.server.display import DisplayServer
    from aiospice.server.arrival import Arrival
    from aiospice.server.config import ServerConfig
    from aiospice.server.frames import Display

__all__ = ["ACK_WINDOW", "LINE_PIXELS", "QUEUE_BYTES", "Held"]

#: Messages after which the client is to acknowledge (spice-server: 20, or 40 on wide lines).
ACK_WINDOW = 40
#: Images that are packed at the same time.
_AHEAD = 4


class Item:
    """An operation in the queue; ``method``: how its image is being packed, once it is begun."""

    __slots__ = ("exact", "method", "operation")

    def __init__(self, operation: Operation, exact: bool = False) -> None:
        self.operation = operation
        self.method: Method | None = None
        #: Nothing may be lost.
        self.exact = exact


class Held(Sending):
    """The display channel of one client. See the module's text."""

    def __init__(
        self,
        display: Display,
        channel: DisplayServer,
        config: ServerConfig,
        caches: ClientCaches | None = None,
        *,
        local: bool = False,
    ) -> None:
        """``caches``: those of the client's session. ``local``: its line is never thin."""
        self.display = display
        self.channel = channel
        self.config = config
        self.caches = ClientCaches() if caches is None else caches
        self.local = local
        self.line_pixels = NEAR_LINE_PIXELS if local else LINE_PIXELS
        self.images = ImageCache(self.caches)
        self.line = Line(local=local)
        #: The surfaces that the client has or is to have.
        self.planes: dict[int, Plane] = {}
        self.queue: deque[Item] = deque()
        self.streams = Streams(self)
        self.started = False
        self._now = 0.0
        self._gone: list[int] = []
        self._state_due = False
        self._has_screen = False
        self.curtain = Curtain(self)
        self._marked = False
        self._heads_told = -1
        self._jobs: dict[int, tuple[Picture, Method]] = {}
        self._new_jobs: list[tuple[int, EncodeJob | VideoJob]] = []
        self._last_job = 0
        self._inline = 0
        self._hurry = False
        #: What was asked for when an image was last chosen for, and what follows from it.
        self._asked: tuple[int, bool, bool] | None = None
        self._wish = Wish()
        self._refine_at: float | None = None
        #: On a target: what has happened since the machine came, until the client does.
        self.arrival: Arrival | None = None
        #: The machine stands still, nothing newer comes: what is left goes as fast as it is taken.
        self.leaving = False
        #: Its number among all clients that the display has had.
        self.number = display.attach(self)
        if channel.init is not None:
            self._begin(channel.init)

    # -- what the core tells ---------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> None:
        """An event of the channel."""
        self._now = now
        if isinstance(event, DisplayReady):
            assert self.channel.init is not None
            self._begin(self.channel.init)
        elif isinstance(event, DisplayReported):
            self.streams.report(event.report)

    def _begin(self, init: messages.Init) -> None:
        """The client has said what it has room for."""
        self.caches.announced(init.pixmap_cache_size, init.glz_dictionary_window_size)
        self.caches.ids = (init.pixmap_cache_id, init.glz_dictionary_id)
        channel = self.channel
        channel.start_acks(ACK_WINDOW)
        if self.local and channel.together:
            channel.together = NEAR_BYTES
        self.line.began(channel, self._now)
        channel.send(messages.InvalAllPalettes())
        for surface in self.display.published.values():
            self.planes[surface.id] = Plane(surface.width, surface.height, surface.alpha)
        self.started = True
        self._state_due = True

    def close(self) -> None:
        """The client is gone."""
        self.started = False
        self.queue.clear()
        self._new_jobs.clear()
        for picture, method in self._jobs.values():
            if picture.forms.get(method, self) is None:  # whoever waits for it begins anew
                del picture.forms[method]
        self._jobs.clear()
        self.caches.released(self)
        self.display.detach(self)
        self.display.wake_others(self, self._now)

    def jobs(self) -> list[tuple[int, EncodeJob | VideoJob]]:
        """What is to be packed elsewhere, each once: a number for `computed`, and the job."""
        jobs = self._new_jobs
        if jobs:
            self._new_jobs = []
        return jobs

    def computed(self, id: int, result: Any, now: float) -> None:
        """A job is done. Others may have waited for it, too: see `Display.woken`."""
        if self.streams.computed(id, result):
            self.pump(now)
            return
        found = self._jobs.pop(id, None)
        if found is None:
            return
        picture, method = found
        picture.packed(method, result)
        self.pump(now)
        self.display.wake_others(self, now)

    def next_wake(self) -> float | None:
        """When `wake` wants to be called."""
        if self._hurry:
            return self._now
        if self.display.videos is None:
            return self._refine_at
        times = (self._refine_at, self.streams.next_wake(), self.display.next_wake())
        return min((time for time in times if time is not None), default=None)

    def wake(self, now: float) -> None:
        """Time has passed."""
        if self._refine_at is not None and self._refine_at <= now:
            self._refine_at = None
            for plane in self.planes.values():
                for box in plane.fading:
                    plane.lossy = add(plane.lossy, box)
                plane.fading = []
        self.display.wake(now)
        self.pump(now)

    @property
    def waiting(self) -> bool:
        """An image or a frame that is to leave next is being packed."""
        if self.queue and self.queue[0].method is not None:
            return True
        return any(stream.frame is not None for stream in self.streams.playing.values())

    @property
    def thin(self) -> bool:
        """The client's line is narrow."""
        return self.line.thin and not self.local

    @property
    def behind(self) -> int:
        """Pixels that the client doesn't have as they are published."""
        queued = sum(
            size(item.operation.box)
            for item in self.queue
            if not isinstance(item.operation, (Created, Destroyed))
        )
        return queued + sum(area(plane.dirty) for plane in self.planes.values())

    # -- what the display tells ------------------------------------------------------------------

    def resized(self, now: float) -> None:
        """The screen has another size: all that was to be drawn on it is void."""
        if not self.started:
            if self.arrival is not None:
                self.arrival.resized()
            return
        self._collapse()
        screen = self.display.published[0]
        self.planes[0] = Plane(screen.width, screen.height, False)
        self._marked = False
        self._state_due = True
        self.streams.close()

    def rebased(self) -> None:
        """The machine has come from another server: all is as it was there."""
        if self.arrival is not None:
            self.arrival.rebase()
        elif self.started:  # a client that was here before it
            self._collapse()
            self._gone += [id for id, plane in self.planes.items() if id and plane.created]
            surfaces = self.display.published.values()
            self.planes = {each.id: Plane(each.width, each.height, each.alpha) for each in surfaces}
            self._marked = False
            self._state_due = True

    def take(self, operations: list[Operation], now: float) -> None:
        """What has happened on the display: do it, or note that it wasn't done."""
        if not self.started:
            if self.arrival is not None:
                self.arrival.take(operations)
            return
        self._now = now
        if self.in_step(now):
            if self._idle():
                self._inline = INLINE
                operations = operations[send_at_once(self, operations) :]
            room = self.line_pixels - self._queued_pixels()
            for operation in operations:
                room -= self._follow(operation, room)
        else:
            self._collapse()
            for operation in operations:
                self._miss(operation)
        if self.streams.playing or self.display.videos is not None:
            self.streams.follow()
        if self._heads_told != self.display.heads_version:
            self._state_due = True
        self.pump(now)

    def _follow(self, operation: Operation, room: int) -> int:
        """Queue an operation; gives the pixels that are to be packed for it."""
        if isinstance(operation, Created):
            self._miss(operation)
            self.planes[operation.surface].created = True
            self.queue.append(Item(operation))
            return 0
        plane = self.planes.get(operation.surface)
        if plane is None:
            return 0
        if isinstance(operation, Destroyed):
            del self.planes[operation.surface]
            self.queue.append(Item(operation))
            return 0
        pixels = operation.size if isinstance(operation, Picture) else 0
        if isinstance(operation, Change) or pixels > room or not self._can(operation, plane):
            plane.spoil(operation.box)
            return 0
        if plane.dirty:
            plane.dirty = self._still_dirty(operation, plane)
        self.queue.append(Item(operation))
        return pixels

    def _can(self, operation: Operation, plane: Plane) -> bool:
        """Whether the client has what an operation copies from."""
        if isinstance(operation, Copy):
            source = operation.source
            if any(intersect(source, box) for box in self.streams.boxes()):
                return False
            return area(meet(plane.dirty, source)) < size(source)
        if isinstance(operation, Draw):
            other = self.planes.get(operation.source)
            left, top, right, bottom = operation.box
            x, y = operation.x, operation.y
            box = (x, y, x + right - left, y + bottom - top)
            return other is not None and other.created and not meet(other.dirty, box)
        return True

    def _still_dirty(self, operation: DrawOperation, plane: Plane) -> list[Box]:
        """What is dirty on a surface after an operation."""
        dirty = cut(plane.dirty, operation.box)
        if isinstance(operation, Copy):
            stale = meet(plane.dirty, operation.source)
            for box in shift(stale, operation.dx, operation.dy):
                dirty = add(dirty, box)
        return dirty

    def _miss(self, operation: Operation) -> None:
        """The client doesn't learn of an operation now."""
        if isinstance(operation, Created):
            self.planes[operation.surface] = Plane(
                operation.width, operation.height, operation.alpha
            )
            self._state_due = self._state_due or not self._room()
        elif isinstance(operation, Destroyed):
            plane = self.planes.pop(operation.surface, None)
            if plane is not None and plane.created:
                self._gone.append(operation.surface)
                self._state_due = True
        else:
            plane = self.planes.get(operation.surface)
            if plane is not None:
                plane.spoil(operation.box)

    def _collapse(self) -> None:
        """Forget what is queued and not begun; what it would have drawn is dirty."""
        dropped: list[Operation] = []
        while self.queue and self.queue[-1].method is None:
            dropped.append(self.queue.pop().operation)
        uncreated: set[int] = set()
        for operation in reversed(dropped):
            if isinstance(operation, Created):
                uncreated.add(operation.surface)
                plane = self.planes.get(operation.surface)
                if plane is not None:
                    plane.created = False
                self._state_due = True
            elif isinstance(operation, Destroyed):
                if operation.surface in uncreated:
                    uncreated.discard(operation.surface)
                else:
                    self._gone.append(operation.surface)
                    self._state_due = True
            else:
                plane = self.planes.get(operation.surface)
                if plane is not None:
                    plane.spoil(operation.box)

    # -- sending ---------------------------------------------------------------------------------

    @property
    def at_rest(self) -> bool:
        """`pump` would do nothing, and there is nothing to be fetched."""
        return not (self.channel.answered or self._new_jobs) and self.started and self._idle()

    def _step(self) -> bool:
        """Send one thing; False when there is nothing that can be sent."""
        if self.curtain.late(self._now):
            self.curtain.rise()
        if self._has_screen and self.streams.step(self._now):
            return True
        if self.queue:
            return self._send_first()
        if self._state_due:
            self._send_state()
            return True
        if self._queue_dirty():
            return True
        if not self._marked and self._has_screen:
            self.curtain.rise()
            self._marked = True
            self.channel.send(messages.Mark())
            return True
        return self._queue_lossy()

    def _send_state(self) -> None:
        """Surfaces that come and go, and monitors."""
        self._state_due = False
        channel = self.channel
        for id in self._gone:
            channel.send(messages.SurfaceDestroy(surface_id=id))
        self._gone.clear()
        for id in sorted(self.planes):
            plane = self.planes[id]
            if not plane.created:
                self._create(id, plane)
            if id == 0:
                self._has_screen = True
                if not self.curtain.drawn:
                    self.tell_heads()

    def _create(self, id: int, plane: Plane) -> None:
        plane.created = True
        if id == 0:
            self.curtain.draw(plane, self._now)
        else:
            self.channel.send(creation(id, plane))

    def tell_heads(self) -> None:
        """Tell the monitors, if the client doesn't know them as they are."""
        if self._heads_told == self.display.heads_version:
            return
        self._heads_told = self.display.heads_version
        if not self.channel.can(DisplayCap.MONITORS_CONFIG):
            return
        heads = tuple(
            messages.Head(
                monitor_id=head.id,
                surface_id=0,
                width=head.width,
                height=head.height,
                x=head.x,
                y=head.y,
                flags=0,
            )
            for head in self.display.monitors()
        )
        self.channel.send(messages.MonitorsConfig(max_allowed=max(1, len(heads)), heads=heads))

    def _queue_dirty(self) -> bool:
        """Queue a piece of what is dirty, the screen first."""
        for id in sorted(self.planes):
            plane = self.planes[id]
            if plane.created and plane.dirty:
                self.queue.append(Item(self._piece(id, plane.dirty)))
                return True
        return False

    def _piece(self, id: int, region: list[Box]) -> Fill | Picture:
        """Take a piece out of a region: the published pixels of it."""
        surface = self.display.published[id]
        box = region.pop(0)
        whole = self.display.one_colour(surface, box)
        if whole is not None:
            return whole
        # The first thing on a screen is the whole of it: some clients (spicy-screenshot) take
        # their picture when the first draw has come.
        first = id == 0 and not self._marked
        piece = box if first else next(strips(box, surface.piece))
        region[:0] = cut([box], piece)
        return self.display.shot(surface, piece)

    def _queue_lossy(self) -> bool:
        """Queue a piece of what is lossy, to be exact, if nothing else is on the line."""
        if not any(plane.lossy for plane in self.planes.values()) or self.channel.queued_bytes:
            return False
        if self.line.on_the_way > self.line.budget // 2:
            self.line.ask(self.channel, self._now)
            return False
        for id in sorted(self.planes):
            plane = self.planes[id]
            if plane.lossy:
                self.queue.append(Item(self._piece(id, plane.lossy), exact=True))
                return True
        return False

    def _look_ahead(self) -> None:
        """Have the next images packed meanwhile."""
        if not self.queue or self.queue[0].method is None:
            return
        index = begun = 0
        while begun < _AHEAD:
            if index == len(self.queue) and (self._state_due or not self._queue_dirty()):
                return
            item = self.queue[index]
            if isinstance(item.operation, Picture) and not self._prepare(item, item.operation):
                return
            begun += 1
            index += 1

    def _prepare(self, item: Item, picture: Picture) -> bool:
        """Begin to pack an image that will leave later; False when none behind it may begin."""
        if item.method is not None:
            return True
        if self.images.has(self._key(picture)):
            return False
        method = self._method(picture, exact=item.exact)
        if method.type in (GLZ, ZLIB_GLZ) or self._at_once(picture, method):
            return False
        self._begin_packing(item, picture, method)
        return True

    def _begin_packing(self, item: Item, picture: Picture, method: Method) -> None:
        """See to it that an image is packed; it will be sent, whatever comes."""
        item.method = method
        self._pack(picture, method)

    def packed(self, picture: Picture, method: Method) -> Encoded | None:
        """A picture packed so; None: it is being packed, and `pump` is called when it is done."""
        form = picture.forms.get(method)
        if form is None:
            if method not in picture.forms and self._at_once(picture, method):
                return self._packed_now(picture, method)
            self._pack(picture, method)
        return form

    def _pack(self, picture: Picture, method: Method) -> None:
        if method not in picture.forms:
            picture.forms[method] = None
            self._jobs[self.work(picture.job(method))] = (picture, method)

    def work(self, job: EncodeJob | VideoJob) -> int:
        """Have something done elsewhere; gives its number."""
        self._last_job += 1
        self._new_jobs.append((self._last_job, job))
        return self._last_job

    # -- one operation ---------------------------------------------------------------------------

    def _send_first(self) -> bool:
        """Send the first operation; False when it can't be yet."""
        item = self.queue[0]
        operation = item.operation
        if isinstance(operation, Picture):
            if not self._send_picture(item, operation):
                return False
        elif isinstance(operation, Created):
            plane = self.planes.get(operation.surface)
            if plane is None:  # it will be destroyed by what is queued behind
                plane = Plane(operation.width, operation.height, operation.alpha)
            self._create(operation.surface, plane)
        elif isinstance(operation, Destroyed):
            self.channel.send(messages.SurfaceDestroy(surface_id=operation.surface))
        else:
            self._send_draw(operation)
        self.queue.popleft()
        return True

    def _send_picture(self, item: Item, picture: Picture) -> bool:
        key = self._key(picture)
        plane = self.planes.get(picture.surface)
        if item.method is None and self.images.use(key):
            self._send_kept(picture, key)
            if plane is not None:
                plane.sharpen(picture.box)
            return True
        method = item.method or self._method(picture, exact=item.exact)
        if method.type in (GLZ, ZLIB_GLZ):
            if not self._spend(picture, method):
                return False
            self._send_glz(picture, method)
            if plane is not None:
                plane.sharpen(picture.box)
            return True
        form = self._form(item, picture, method)
        if form is None:
            return False
        self._send_image(picture, key, form)
        if plane is not None:
            self._shown_as(picture, plane, form)
        return True

    def _spend(self, picture: Picture, method: Method) -> bool:
        """Whether an image may be packed at once, in this turn."""
        if self._inline <= 0:
            self._hurry = True
            return False
        self._inline -= cost(method, picture.size)
        return True

    def _form(self, item: Item, picture: Picture, method: Method) -> Encoded | None:
        """The packed image; None when it has to be waited for."""
        form = picture.forms.get(method)
        if form is not None:
            return form
        if method not in picture.forms and self._at_once(picture, method):
            return self._packed_now(picture, method)
        self._begin_packing(item, picture, method)
        return None
