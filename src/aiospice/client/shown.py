"""What a client tells the next server of a display, where it has to do that itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.channels.display import GLZ_WINDOW_PIXELS
from aiospice.wire.display import Shows
from aiospice.wire.keep import MOST_IMAGES, MOST_SURFACES, ShownSurface, StoredImage

if TYPE_CHECKING:
    from aiospice.client.screen import Screen

__all__ = ["shown"]


def shown(screen: Screen, serial: int) -> Shows:
    """Surfaces and images of a screen whose channel has brought ``serial`` messages.

    Images that aren't told of are dropped: the server won't name them, nor have them dropped.
    """
    caches = screen.caches
    surfaces = [
        ShownSurface(
            id=id,
            width=surface.width,
            height=surface.height,
            format=surface.format,
            flags=int(id == screen.primary),
        )
        for id, surface in sorted(screen.surfaces.items())
    ]
    return Shows(
        serial=serial,
        pixmap_cache_size=caches.images.limit,
        glz_window_size=GLZ_WINDOW_PIXELS,
        glz_next=caches.next_glz,
        rough=int(screen.rough),
        surfaces=tuple(surfaces[:MOST_SURFACES]),
        images=tuple(
            StoredImage(id=id, pixels=pixels) for id, pixels in caches.images.tell(MOST_IMAGES)
        ),
    )
