"""A display's channel that a client goes on with by itself (`aiospice.wire.keep.Shows`).

What it says that it shows is what the machine showed when it came here, if the sizes agree; it is
taken to be right there, or right but for losses. A client that says otherwise than it is shows
wrong pixels to itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.errors import DecodeError
from aiospice.server.arrival import _MOST_CACHE, _MOST_WINDOW
from aiospice.wire import display as messages
from aiospice.wire.handover import MAX_SURFACES

if TYPE_CHECKING:
    from aiospice.server.arrival import Arrival
    from aiospice.server.held import Held
    from aiospice.wire.keep import Shows

__all__ = ["go_on_showing"]


def _refuse(text: str, name: str) -> DecodeError:
    return DecodeError(text, field=name, message="Shows")


def go_on_showing(held: Held, shows: Shows, now: float) -> None:
    """Go on where the client says that it is; `DecodeError` for what can't be so."""
    arrival = held.arrival
    if arrival is None:
        raise _refuse("the machine isn't here", "serial")
    _check(shows)
    held.arrival = None
    caches = held.caches
    first = caches.ids is None
    caches.ids = caches.ids or (1, 1)
    caches.announced(shows.pixmap_cache_size, shows.glz_window_size)
    images = tuple((each.id, each.pixels) for each in shows.images)
    if first:  # the cache is one for all displays of a client
        if sum(pixels for _, pixels in images) > caches.limit:
            raise _refuse("more than there is room for", "images")
        held.images.go_on(images)
        caches.go_on(shows.glz_next)
    _take_surfaces(held, shows, arrival)
    channel = held.channel
    channel.serial = shows.serial
    held._now = now
    from aiospice.server.held import ACK_WINDOW

    channel.start_acks(ACK_WINDOW)
    held.line.began(channel, now)
    channel.send(messages.InvalAllPalettes())
    channel.init = messages.Init(
        pixmap_cache_id=caches.ids[0],
        pixmap_cache_size=shows.pixmap_cache_size,
        glz_dictionary_id=caches.ids[1],
        glz_dictionary_window_size=shows.glz_window_size,
    )
    held.started = True
    held._state_due = True


def _check(shows: Shows) -> None:
    if not 0 < shows.serial < 1 << 63:
        raise _refuse(f"{shows.serial} is no serial", "serial")
    if not 0 < shows.pixmap_cache_size <= _MOST_CACHE:
        raise _refuse(f"{shows.pixmap_cache_size} pixels", "pixmap_cache_size")
    if shows.glz_window_size > _MOST_WINDOW:
        raise _refuse(f"{shows.glz_window_size} pixels", "glz_window_size")
    if shows.glz_next >> 62:
        raise _refuse(f"{shows.glz_next} is no number of an image", "glz_next")
    for name, ids in (
        ("surfaces", [each.id for each in shows.surfaces]),
        ("images", [each.id for each in shows.images]),
    ):
        if len(set(ids)) < len(ids):
            raise _refuse("one is told of twice", name)
    if not all(each.pixels for each in shows.images):
        raise _refuse("an image without pixels", "images")


def _take_surfaces(held: Held, shows: Shows, arrival: Arrival) -> None:
    named: set[int] = set()
    for surface in shows.surfaces:
        plane = held.planes.get(surface.id)
        size = (surface.width, surface.height)
        known = (
            plane is not None
            and surface.id < MAX_SURFACES
            and surface.id not in arrival.replaced
            and arrival.base.get(surface.id) == size
            and surface.format
            == (messages.SurfaceFormat.ARGB32 if plane.alpha else messages.SurfaceFormat.XRGB32)
        )
        if plane is None or not known:
            if surface.id:
                held._gone.append(surface.id)
            continue
        named.add(surface.id)
        plane.created = True
        if shows.rough:
            plane.lossy = [(0, 0, *size)]
    for id, plane in held.planes.items():
        if id not in named:
            plane.dirty = [(0, 0, plane.width, plane.height)]
    if any(surface.id == 0 for surface in shows.surfaces):
        held.curtain._shown = True
        screen = held.planes.get(0)
        held._has_screen = held._marked = screen is not None and screen.created
