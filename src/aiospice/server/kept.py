# cython: language_level=3, annotation_typing=False
"""What a client keeps for its server: cached images and the window of GLZ, one a session.

All display channels of a client share its caches. Here every channel names only images that it
sent itself (their numbers are mixed with the channel's), so none has to wait for another; what
they share is the room. Only one channel of a client uses GLZ, since its numbers and its window are
the session's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiospice.codecs.glz import GlzDictionary
    from aiospice.server.held import Held

__all__ = ["MAX_GLZ_PIXELS", "MAX_IMAGES", "ClientCaches", "ImageCache"]

#: Images that a client is told to keep on one channel.
MAX_IMAGES = 2048
#: Pixels of the window that is used of a client's: 4 MiB of memory here for each such client.
MAX_GLZ_PIXELS = 1 << 20


class ClientCaches:
    """The room that a client has, shared by its display channels. Plain data."""

    def __init__(self) -> None:
        #: Pixels of images that the client keeps, and that it has room for.
        self.pixels = 0
        self.limit = 0
        #: Pixels of the client's GLZ window.
        self.window = 0
        #: What the client calls its caches, as it told or as a record says; None before that.
        self.ids: tuple[int, int] | None = None
        #: On a source: the first record has said that the target empties the cache.
        self.frozen = False
        #: On a target: which channel empties the cache, and with which of its messages. Until then
        #: nothing may be kept. None for sessions that began here.
        self.awaits_clearing = False
        self.cleared_by: tuple[int, int] | None = None
        self._glz: GlzDictionary | None = None
        self._glz_owner: int | None = None

    def announced(self, pixels: int, window: int) -> None:
        """A display channel's ``Init`` tells the room, in pixels."""
        self.limit = max(self.limit, min(max(pixels, 0), 1 << 30))
        self.window = max(self.window, min(max(window, 0), 1 << 25))

    def glz(self, channel: int, pixels: int) -> bool:
        """Whether an image of so many pixels can be sent as GLZ on a channel."""
        if self._glz_owner is not None and self._glz_owner != channel:
            return False
        return pixels <= min(self.window, MAX_GLZ_PIXELS)

    def glz_dictionary(self, channel: int) -> GlzDictionary:
        """The dictionary, which is the channel's from now on."""
        if self._glz is None:
            from aiospice.codecs.glz import GlzDictionary

            self._glz = GlzDictionary(min(self.window, MAX_GLZ_PIXELS))
        self._glz_owner = channel
        return self._glz

    @property
    def next_glz(self) -> int:
        """The number of the next GLZ image."""
        return 0 if self._glz is None else self._glz.next_id

    def go_on(self, next_glz: int) -> None:
        """The session comes from another server, whose last GLZ image had the number before."""
        if self._glz is None and next_glz and self.window:
            from aiospice.codecs.glz import GlzDictionary

            self._glz = GlzDictionary(min(self.window, MAX_GLZ_PIXELS), next_glz)

    def released(self, held: Held) -> None:
        """A channel is closed."""
        self.pixels -= held.images.pixels
        if self._glz_owner == held.display.id:
            self._glz_owner = None


class ImageCache:
    """The images that one channel has told its client to keep, those used last at the end."""

    def __init__(self, caches: ClientCaches) -> None:
        self.caches = caches
        #: Pixels of them.
        self.pixels = 0
        self._sizes: dict[int, int] = {}
        self._seen: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def kept(self) -> list[tuple[int, int]]:
        """The images (number, pixels), the one that was used last at the end."""
        return list(self._sizes.items())

    def go_on(self, kept: tuple[tuple[int, int], ...]) -> None:
        """The client comes from another server, for which it keeps these (`kept`)."""
        self._sizes = dict(kept)
        self._seen = dict.fromkeys(self._sizes)
        self.pixels = sum(self._sizes.values())
        self.caches.pixels += self.pixels

    def use(self, id: int) -> bool:
        """Whether the client has an image; it is used then."""
        size = self._sizes.pop(id, None)
        if size is None:
            return False
        self._sizes[id] = size
        return True

    def has(self, id: int) -> bool:
        """Whether the client has an image."""
        return id in self._sizes

    def seen(self, id: int) -> bool:
        """Whether an image was sent not long ago; it is sent now."""
        known = id in self._seen
        self._seen[id] = None
        if len(self._seen) > MAX_IMAGES:
            del self._seen[next(iter(self._seen))]
        return known

    def put(self, id: int, size: int) -> list[int] | None:
        """The client is to keep an image of so many pixels: tells which it has to drop for that.

        None: there is no room for it. Some more are dropped than must be, to tell of many at once.
        """
        caches = self.caches
        mine = caches.limit - (caches.pixels - self.pixels)  # what the other channels leave
        if 4 * size > mine:
            return None
        dropped: list[int] = []
        if self.pixels + size > mine or len(self._sizes) >= MAX_IMAGES:
            room, images = mine - mine // 8 - size, MAX_IMAGES - MAX_IMAGES // 8
            while self.pixels > room or len(self._sizes) > images:
                dropped.append(self._drop())
        self._sizes[id] = size
        self.pixels += size
        caches.pixels += size
        return dropped

    def _drop(self) -> int:
        id = next(iter(self._sizes))
        size = self._sizes.pop(id)
        self.pixels -= size
        self.caches.pixels -= size
        return id
