"""What a client keeps for its server: images, palettes, and the window that GLZ copies from.

The server decides what is kept and what is dropped, and knows how much there is room for, since
the display channel's ``Init`` tells it. A server that goes on beyond twice that room breaks the
protocol, so memory is bounded: `ImageCache` takes at most ``2 * limit * 4`` bytes of pixels (160
MiB as it is by default) and at most `MAX_IMAGES` objects, a `PaletteCache` `MAX_PALETTES` times
256 colours, the GLZ window four times what it was announced as (64 MiB).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.channels.display import GLZ_WINDOW_PIXELS, PIXMAP_CACHE_PIXELS
from aiospice.errors import RemoteProtocolError

if TYPE_CHECKING:
    from aiospice.canvas.pixels import Pixels
    from aiospice.codecs.glz_window import GlzWindow

__all__ = [
    "IMAGE_CACHE_PIXELS",
    "MAX_IMAGES",
    "MAX_PALETTES",
    "Caches",
    "ImageCache",
    "PaletteCache",
]

#: Pixels of images that a server may have us keep: what the display channel announces.
IMAGE_CACHE_PIXELS = PIXMAP_CACHE_PIXELS
#: Images that may be kept, of whatever size.
MAX_IMAGES = 1 << 17
#: Palettes that may be kept; spice-server has 128 of each client (``server/cache-item.h``).
MAX_PALETTES = 1024


class ImageCache:
    """Images by id, one cache for all display channels of a session.

    Two channels may be told to keep the same image; it is gone once it was dropped as often as
    it was put (spice-gtk ``src/spice-channel-cache.h``).
    """

    def __init__(self, limit: int = IMAGE_CACHE_PIXELS) -> None:
        #: Pixels that the server was told there is room for.
        self.limit = limit
        #: Pixels that are kept now.
        self.pixels = 0
        # image, put so often, came with losses
        self._images: dict[int, tuple[Pixels, int, bool]] = {}

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._images

    def put(self, image_id: int, image: Pixels, *, lossy: bool = False) -> None:
        """Keep an image (a copy unless it is tight), once more if it is there already.

        Raises `RemoteProtocolError` when that is more than twice what there is room for.
        """
        self._store(image_id, image, self._count(image_id) + 1, lossy)

    def replace(self, image_id: int, image: Pixels) -> None:
        """Put an image without losses in the place of one with losses (CACHE_REPLACE_ME)."""
        self._store(image_id, image, self._count(image_id) or 1, False)

    def _count(self, image_id: int) -> int:
        kept = self._images.get(image_id)
        return kept[1] if kept else 0

    def _store(self, image_id: int, image: Pixels, count: int, lossy: bool) -> None:
        self._forget(image_id)
        size = image.width * image.height
        if self.pixels + size > 2 * self.limit or len(self._images) >= MAX_IMAGES:
            raise RemoteProtocolError(
                f"the image cache has room for {self.limit} pixels; {len(self._images)} images of "
                f"{self.pixels} pixels are there, and {size} pixels more are to be kept"
            )
        own = image if image.is_tight and isinstance(image.data, bytes) else image.copy()
        self._images[image_id] = (own, count, lossy)
        self.pixels += size

    def get(self, image_id: int, *, lossless: bool = False) -> Pixels | None:
        """The image of that id, None if it isn't there (or has losses and must have none)."""
        kept = self._images.get(image_id)
        if kept is None or (lossless and kept[2]):
            return None
        return kept[0]

    def drop(self, image_id: int) -> None:
        """Take one put back; an id that isn't there is passed over, as upstream does."""
        kept = self._images.get(image_id)
        if kept is None:
            return
        if kept[1] > 1:
            self._images[image_id] = (kept[0], kept[1] - 1, kept[2])
        else:
            self._forget(image_id)

    def tell(self, most: int) -> list[tuple[int, int]]:
        """The newest ``most`` images without losses (number, pixels); the others are dropped."""
        exact = [id for id, (_, _, lossy) in self._images.items() if not lossy][-most:]
        for id in set(self._images) - set(exact):
            self._forget(id)
        for id in exact:  # whoever is told of them drops each once
            image, _, lossy = self._images[id]
            self._images[id] = (image, 1, lossy)
        return [(id, self._images[id][0].width * self._images[id][0].height) for id in exact]

    def _forget(self, image_id: int) -> None:
        kept = self._images.pop(image_id, None)
        if kept is not None:
            self.pixels -= kept[0].width * kept[0].height

    def clear(self) -> None:
        """Drop everything."""
        self._images.clear()
        self.pixels = 0


class PaletteCache:
    """Palettes by id. Each display channel has its own, as in spice-gtk and spice-server."""

    def __init__(self) -> None:
        self._palettes: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._palettes)

    def put(self, palette_id: int, colours: tuple[int, ...]) -> None:
        """Keep a palette; `RemoteProtocolError` beyond `MAX_PALETTES`."""
        if palette_id not in self._palettes and len(self._palettes) >= MAX_PALETTES:
            raise RemoteProtocolError(f"more than {MAX_PALETTES} palettes are to be kept")
        self._palettes[palette_id] = colours

    def get(self, palette_id: int) -> tuple[int, ...] | None:
        """The colours of that palette, None if it isn't there."""
        return self._palettes.get(palette_id)

    def drop(self, palette_id: int) -> None:
        """Drop one palette, if it is there."""
        self._palettes.pop(palette_id, None)

    def clear(self) -> None:
        """Drop all."""
        self._palettes.clear()


class Caches:
    """What all display channels of a session share."""

    def __init__(
        self, image_pixels: int = IMAGE_CACHE_PIXELS, glz_pixels: int = GLZ_WINDOW_PIXELS
    ) -> None:
        self.images = ImageCache(image_pixels)
        #: How many display channels there are: with several, images may come out of order.
        self.displays = 1
        self._glz_pixels = glz_pixels
        self._glz: GlzWindow | None = None

    @property
    def glz(self) -> GlzWindow:
        """The window of GLZ images, made when the first one comes."""
        if self._glz is None:
            from aiospice.codecs.glz_window import GlzWindow

            self._glz = GlzWindow(self._glz_pixels)
        return self._glz

    def has_glz(self, image_id: int) -> bool:
        """Whether that GLZ image has come."""
        return self._glz is not None and image_id in self._glz

    @property
    def next_glz(self) -> int:
        """The number behind the newest image of the GLZ window."""
        if self._glz is None:
            return 0
        state: Any = self._glz.__reduce__()[2]  # as it pickles
        _, images, _, _, all_before, _ = state
        return int(max(all_before, max(images, default=-1) + 1))

    def clear(self) -> None:
        """Forget everything: for a session that starts over with a server that knows nothing."""
        self.images.clear()
        if self._glz is not None:
            self._glz.clear()
