"""One client's draws as messages: bodies, what is kept of them, and the GLZ dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.server import pack
from aiospice.server.choose import GLZ, ZLIB_GLZ
from aiospice.server.encode import JPEG, Encoded, Method, Picture
from aiospice.server.operations import Change, Copy, Draw, Fill
from aiospice.wire import display as messages
from aiospice.wire import draw
from aiospice.wire.display import ResourceId, ResourceType
from aiospice.wire.images import ImageFlags

if TYPE_CHECKING:
    from aiospice.channels.server.display import DisplayServer
    from aiospice.server.curtain import Curtain
    from aiospice.server.frames import Display
    from aiospice.server.kept import ClientCaches, ImageCache
    from aiospice.server.plane import Plane

__all__ = ["Sending"]

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
