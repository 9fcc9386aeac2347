# cython: language_level=3, annotation_typing=False
"""What `aiospice.server.held.Held` does for each frame of a client that keeps up.

One client's draws become messages: bodies, what is kept of them, and the GLZ dictionary; whether
there is room for them, and how an image is packed. Compiled where possible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.server.base import ServerPhase
from aiospice.server import pack
from aiospice.server.choose import GLZ, ZLIB_GLZ, Wish, choose
from aiospice.server.encode import JPEG, Encoded, Method, Picture, cost, is_light
from aiospice.server.operations import Change, Copy, Draw, Fill
from aiospice.wire import display as messages
from aiospice.wire import draw
from aiospice.wire.caps import DisplayCap
from aiospice.wire.display import ResourceId, ResourceType
from aiospice.wire.images import ImageFlags

if TYPE_CHECKING:
    from collections import deque

    from aiospice.channels.server.display import DisplayServer
    from aiospice.server.config import ServerConfig
    from aiospice.server.curtain import Curtain
    from aiospice.server.frames import Display
    from aiospice.server.held import Item
    from aiospice.server.kept import ClientCaches, ImageCache
    from aiospice.server.line import Line
    from aiospice.server.plane import Plane
    from aiospice.server.streams import Streams

__all__ = ["INLINE", "LINE_PIXELS", "NEAR_BYTES", "NEAR_LINE_PIXELS", "QUEUE_BYTES", "Sending"]

#: Bytes that may wait for the socket before nothing is added.
QUEUE_BYTES = 64 << 10
#: The same for a client on this machine, whose socket takes a frame at once: they leave together.
NEAR_BYTES = 1 << 20
#: Pixels of images that may wait to be packed; the rest of what has changed is only dirty.
LINE_PIXELS = 1 << 19
#: The same for a client on this machine, whose images are larger.
NEAR_LINE_PIXELS = 1 << 20
#: Nanoseconds' worth of packing that is done at once in one turn, so that others have theirs.
INLINE = 3_000_000
#: Seconds after which what is lossy and hasn't changed becomes exact: once to twice as many.
_REFINE = 0.5

#: Images that are worth keeping, in pixels; drawings up to a size are kept at once, everything
#: else when it comes the second time.
_KEEP_LEAST, _KEEP_AT_ONCE = 1 << 8, 1 << 14
_DRAW_COPY = draw.DrawCopy.number


class Sending:
    """The half of `aiospice.server.held.Held` that puts messages together."""

    display: Display
    channel: DisplayServer
    caches: ClientCaches
    images: ImageCache
    planes: dict[int, Plane]
    curtain: Curtain
    config: ServerConfig
    line: Line
    queue: deque[Item]
    streams: Streams
    started: bool
    local: bool
    line_pixels: int
    leaving: bool
    _now: float
    _state_due: bool
    _marked: bool
    _inline: int
    _hurry: bool
    _asked: tuple[int, bool, bool] | None
    _wish: Wish
    _refine_at: float | None
    if TYPE_CHECKING:

        @property
        def thin(self) -> bool: ...

        def _step(self) -> bool: ...

        def _look_ahead(self) -> None: ...

    def _on(self, surface: int) -> int:
        """What the client calls a surface: while the curtain is drawn, the screen is behind it."""
        return self.curtain.behind if surface == 0 and self.curtain.drawn else surface

    def _send_draw(self, operation: Fill | Copy | Draw | Change) -> None:
        plane = self.planes.get(operation.surface)
        box = operation.box
        if isinstance(operation, Fill):
            body = pack.draw_fill(self._on(operation.surface), box, operation.colour)
            number = draw.DrawFill.number
        elif isinstance(operation, Copy):
            left, top, _, _ = operation.source
            body = pack.copy_bits(self._on(operation.surface), box, left, top)
            number = messages.CopyBits.number
        else:
            assert isinstance(operation, Draw)
            x, y = operation.x, operation.y
            source = self.display.published.get(operation.source)
            area_ = (source.width, source.height) if source else (x + box[2], y + box[3])
            on = self._on(operation.surface)
            body = pack.draw_surface(on, box, operation.source, x, y, area_)
            number = draw.DrawCopy.number
        if plane is not None:
            if isinstance(operation, Copy):
                plane.drag(operation)
            else:
                plane.sharpen(box)
        self.channel.send_body(number, body)

    def _key(self, picture: Picture) -> int:
        """The number under which the client keeps an image."""
        return (picture.id + self.display.id * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF

    def _send_kept(self, picture: Picture, key: int) -> None:
        """Name an image that the client keeps."""
        body = pack.draw_cached(self._on(picture.surface), picture.box, key)
        self.channel.send_body(_DRAW_COPY, body)

    def _send_image(self, picture: Picture, key: int, form: Encoded) -> None:
        flags = 0
        if form.type == JPEG:  # a thin line shows what it has; spice-html5 draws these too late
            self.curtain.rise()
        elif self._worth_keeping(picture, key):
            dropped = self.images.put(key, picture.size)
            if dropped is not None:
                flags = ImageFlags.CACHE_ME
                self._drop(dropped)
        on = self._on(picture.surface)
        head = pack.draw_copy(
            on, picture.box, key, form.type, flags, form.data, alpha=picture.alpha
        )
        self.channel.send_with(_DRAW_COPY, head, form.data)

    def _worth_keeping(self, picture: Picture, key: int) -> bool:
        if picture.size < _KEEP_LEAST or self.images.has(key) or self.caches.awaits_clearing:
            return False
        seen = self.images.seen(key)
        return seen or (picture.size <= _KEEP_AT_ONCE and not picture.picture)

    def _drop(self, keys: list[int]) -> None:
        if keys:
            resources = tuple(ResourceId(type=ResourceType.PIXMAP, id=key) for key in keys)
            self.channel.send(messages.InvalList(resources=resources))

    def _send_glz(self, picture: Picture, method: Method) -> None:
        from aiospice.codecs import lz, zlib

        dictionary = self.caches.glz_dictionary(self.display.id)
        kind = lz.RGBA if picture.alpha else lz.RGB32
        data = dictionary.encode(picture.pixels, picture.width, picture.height, kind)
        type, inflated = GLZ, 0
        if method.type == ZLIB_GLZ:
            smaller = zlib.deflate(data)
            if len(smaller) < len(data):
                type, inflated, data = ZLIB_GLZ, len(data), smaller
        head = pack.draw_copy(
            self._on(picture.surface),
            picture.box,
            self._key(picture),
            type,
            0,
            data,
            inflated=inflated,
        )
        self.channel.send_with(_DRAW_COPY, head, data)

    # -- the way of each frame --------------------------------------------------------------------

    def in_step(self, now: float) -> bool:
        """Whether the client can follow what happens now."""
        if not self.started or self._state_due or not self._room():
            return False
        return not self.queue or self._queued_pixels() < self.line_pixels

    def _queued_pixels(self) -> int:
        pixels = 0
        for item in self.queue:
            if isinstance(item.operation, Picture):
                pixels += item.operation.size
        return pixels

    def _room(self) -> bool:
        """Whether the client and its socket can take more."""
        channel, line = self.channel, self.line
        if channel.phase is not ServerPhase.OPEN:
            return False
        if channel.queued_bytes > QUEUE_BYTES and (
            not self.local or channel.queued_bytes > NEAR_BYTES
        ):
            return False
        if self.leaving:
            return True
        window = channel.ack_window  # as `blocked` and `full` say: it is asked often
        if window and channel.unacked >= 2 * window:
            return False
        return line.left - line.arrived <= line.budget

    def pump(self, now: float) -> None:
        """Send what may be sent now."""
        if not self.started:
            return
        self._now = now
        channel, line = self.channel, self.line
        if channel.answered:
            for number, at in channel.answered:
                line.answered(number, at)
            channel.answered.clear()
        line.sent(channel, now)
        self._inline = INLINE
        self._hurry = False
        while not self._idle() and self._room():
            if not self._step():
                self._look_ahead()
                break
            line.sent(channel, now)

    def _idle(self) -> bool:
        """The client has all there is, which is soon told: so it is most often asked."""
        if self.queue or not self._marked or self._state_due or self.curtain.drawn:
            return False
        if self.streams.playing or self.display.videos is not None:
            return False
        for plane in self.planes.values():  # noqa: SIM110 - this is asked several times a frame
            if plane.dirty or plane.lossy:
                return False
        return True

    def _method(self, picture: Picture, *, exact: bool) -> Method:
        can_glz = self.caches.glz(self.display.id, picture.size)
        asked = (self.channel.compression, self.thin, can_glz)
        if self._asked != asked:
            self._asked = asked
            self._wish = Wish(
                Wish.named(asked[0], self.config.compression),
                self.config.lossy,
                self.channel.can(DisplayCap.LZ4_COMPRESSION),
                *asked[1:],
            )
        exact = exact or picture.surface != 0  # what is drawn from later is never rough
        return choose(picture, self._wish, self.line.rate, exact=exact)

    def _at_once(self, picture: Picture, method: Method) -> bool:
        """Whether an image is better packed in this turn than in a thread."""
        return self._inline > 0 and is_light(method, picture.size)

    def _packed_now(self, picture: Picture, method: Method) -> Encoded:
        self._inline -= cost(method, picture.size)
        return picture.packed(method, picture.job(method).run())

    def _shown_as(self, picture: Picture, plane: Plane, form: Encoded) -> None:
        """An image was sent: it is exact, or will have to be made so."""
        if form.type == JPEG:
            plane.blur(picture.box)
            if self._refine_at is None:
                self._refine_at = self._now + _REFINE
        else:
            plane.sharpen(picture.box)
