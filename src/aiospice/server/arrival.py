"""A display's channel that moves: how a source lets it go, and how a target takes it over.

On the source the client is brought up to date first (`let_go`, `is_drained`), since a record has no
place for what it lacks; where that takes too long (`cut_short`), the client forgets the surfaces
that aren't right, and the target makes them anew.

On the target the machine arrives before its clients do. What it shows then is what the clients
show: `Arrival` notes what changes from there on. A client whose machine hasn't come shows anything,
and is sent everything. Facts: spice-server ``server/dcc.cpp``, ``server/display-channel.cpp``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.errors import DecodeError
from aiospice.server.operations import Created, Destroyed, Operation
from aiospice.server.plane import Plane
from aiospice.server.region import Box
from aiospice.wire import common
from aiospice.wire import display as messages
from aiospice.wire.handover import MAX_SURFACES, DisplayRecord, HeldSurface, LossySurface

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.server.held import Held

__all__ = [
    "Arrival",
    "clear_at_last",
    "cut_short",
    "drop_beyond",
    "freeze",
    "is_drained",
    "let_go",
    "thaw",
    "wait_for_clearing",
]

#: What spice-server says of its GLZ dictionaries (``MAX_GLZ_ENCODERS``).
_ENCODERS = 4
#: Messages of GLZ images and of caches have pixels up to these.
_MOST_WINDOW, _MOST_CACHE = 1 << 25, 1 << 30

# -- the source ------------------------------------------------------------------------------------


def let_go(held: Held) -> None:
    """The machine has stopped: videos end, and what they covered is to be exact."""
    held.leaving = True
    for stream in held.streams.playing.values():
        if not stream.over:
            held.streams._end(stream)
    for plane in held.planes.values():
        for box in plane.fading:
            plane.lossy = [*plane.lossy, box]
        plane.fading = []


def is_drained(held: Held) -> bool:
    """The client has been sent all that the machine shows."""
    if not held.started:
        return True
    if held.queue or held._state_due or held.streams.playing or held.curtain.drawn:
        return False
    return not any(plane.dirty for plane in held.planes.values())


def cut_short(held: Held) -> None:
    """Wait no longer: have the client forget the surfaces that aren't as they should be."""
    held._collapse()
    held.queue.clear()
    held.streams.close()
    for slot in held.streams.playing:
        held.channel.send(messages.StreamDestroy(id=slot))
    held.streams.playing.clear()
    if held.curtain.drawn:
        held.curtain._destroy(held.curtain.behind)
        held.planes[0].created = held.curtain._shown
        held.curtain.drawn = False
    for id in (*held._gone, *(id for id, plane in held.planes.items() if plane.dirty)):
        plane = held.planes.get(id)
        if plane is None or plane.created:
            held.channel.send(messages.SurfaceDestroy(surface_id=id))
        if plane is not None:
            plane.created = False
    held._gone.clear()
    held._state_due = False


def drop_beyond(held: Held) -> None:
    """Have the client forget surfaces whose number a record can't name."""
    for id, plane in held.planes.items():
        if id >= MAX_SURFACES and plane.created:
            plane.created = False
            held.channel.send(messages.SurfaceDestroy(surface_id=id))


def freeze(held: Held, *, told: bool = False) -> DisplayRecord:
    """The record of a channel that has nothing more to send than this record.

    ``told``: and not even that, since the target is told it by us.
    """
    caches, channel = held.caches, held.channel
    serial = channel.serial + channel.queued + int(not told)
    kept = {id: plane for id, plane in sorted(held.planes.items()) if plane.created}
    # Which form the surfaces have isn't said: spice-server goes by its setting, which is
    # ``low_bandwidth`` if that is "auto".
    rough = held.thin or any(plane.lossy or plane.fading for plane in kept.values())
    lossy = held.config.lossy == "always" or (held.config.lossy == "auto" and rough)
    surfaces: list[HeldSurface | LossySurface] = []
    for id, plane in kept.items():
        if lossy:
            left, top, right, bottom = _around([*plane.lossy, *plane.fading])
            surfaces.append(LossySurface(id=id, left=left, top=top, right=right, bottom=bottom))
        else:
            surfaces.append(HeldSurface(id=id))
    clients = [0, 0, 0, 0]
    if held.display.id < len(clients):
        clients[held.display.id] = serial
    first, caches.frozen = not caches.frozen, True
    cache, window = caches.ids or (1, 1)
    return DisplayRecord(
        message_serial=serial,
        low_bandwidth=int(held.thin or (lossy and held.config.lossy == "auto")),
        pixmap_cache_id=cache,
        pixmap_cache_size=caches.limit or -1,
        pixmap_cache_freezer=int(first and caches.limit > 0),
        pixmap_cache_clients=tuple(clients),
        glz_dict_id=window,
        glz_window_size=caches.window,
        glz_max_encoders=_ENCODERS,
        glz_last_image_id=caches.next_glz,
        surfaces=tuple(surfaces),
    )


def _around(boxes: list[Box]) -> Box:
    """The smallest box around all; an empty one around none."""
    if not boxes:
        return (0, 0, 0, 0)
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return (min(lefts), min(tops), max(rights), max(bottoms))


# -- the target ------------------------------------------------------------------------------------


class Arrival:
    """What a client that hasn't come yet will show. Plain data."""

    def __init__(self, held: Held) -> None:
        self._held = held
        #: The surfaces as the machine had them when it came: what records may speak of.
        self.base: dict[int, tuple[int, int]] = {}
        #: The machine has come; before, nothing is known of what a client shows.
        self.exact = False
        #: The images that the client keeps, None if nobody has told.
        self.kept: tuple[tuple[int, int], ...] | None = None
        #: Surfaces that are others by now.
        self.replaced: set[int] = set()
        self.rebase(exact=False)

    def rebase(self, *, exact: bool = True) -> None:
        """The machine is here: what is published is what the client shows."""
        held = self._held
        self.exact = exact
        self.replaced.clear()
        held.planes = {}
        self.base = {}
        for surface in held.display.published.values():
            plane = Plane(surface.width, surface.height, surface.alpha)
            if exact:
                plane.dirty = []
            held.planes[surface.id] = plane
            self.base[surface.id] = (surface.width, surface.height)
        if exact:
            held._heads_told = held.display.heads_version

    def resized(self) -> None:
        """The screen has another size."""
        screen = self._held.display.published[0]
        self._held.planes[0] = Plane(screen.width, screen.height, False)
        self.replaced.add(0)

    def take(self, operations: list[Operation]) -> None:
        """What the client won't show."""
        planes = self._held.planes
        for operation in operations:
            if isinstance(operation, Created):
                planes[operation.surface] = Plane(
                    operation.width, operation.height, operation.alpha
                )
            elif isinstance(operation, Destroyed):
                planes.pop(operation.surface, None)
                self.replaced.add(operation.surface)
            elif operation.surface in planes:
                planes[operation.surface].spoil(operation.box)


def thaw(held: Held, record: DisplayRecord, now: float) -> None:
    """Go on with a client where its record says; `DecodeError` for what can't be so."""
    arrival = held.arrival
    assert arrival is not None
    lossy = {"always": True, "never": False, "auto": bool(record.low_bandwidth)}
    record.check(
        lossy=_form(record, lossy[held.config.lossy], held.config.lossy),
        surface_size=arrival.base.get,
        max_window=_MOST_WINDOW,
        max_cache=_MOST_CACHE,
    )
    _check_siblings(held, record)
    held.arrival = None
    _take_caches(held, record, arrival.kept)
    _take_surfaces(held, record, arrival)
    channel = held.channel
    channel.serial = record.message_serial
    held._now = now
    from aiospice.server.held import ACK_WINDOW

    channel.start_acks(ACK_WINDOW)
    held.line.began(channel, now)
    held.line.go_on(thin=bool(record.low_bandwidth))
    if arrival.kept is None:
        _clear_cache(held, record)
    channel.send(messages.InvalAllPalettes())
    held.started = True
    held._state_due = True


def _form(record: DisplayRecord, set_to: bool, setting: str) -> bool:
    """Which form is right here. Without JPEG at all, a lossy form can't be from an equal server."""
    return set_to if setting != "auto" else bool(record.lossy) or set_to


def _check_siblings(held: Held, record: DisplayRecord) -> None:
    caches = held.caches
    ids = (record.pixmap_cache_id, record.glz_dict_id)
    if caches.ids is not None and caches.ids != ids:
        raise _refuse("other caches than on the session's other displays", "pixmap_cache_id", 17)
    if record.pixmap_cache_freezer and caches.cleared_by is not None:
        raise _refuse("a second channel that froze the cache", "pixmap_cache_freezer", 26)
    if any(serial >> 63 for serial in record.pixmap_cache_clients):
        raise _refuse("no serials", "pixmap_cache_clients", 27)
    if record.glz_last_image_id >> 62:
        text = f"{record.glz_last_image_id} is no number of an image"
        raise _refuse(text, "glz_last_image_id", 68)


def _refuse(text: str, name: str, offset: int) -> DecodeError:
    return DecodeError(text, field=name, offset=offset, message="DisplayRecord")


def _take_caches(
    held: Held, record: DisplayRecord, kept: tuple[tuple[int, int], ...] | None
) -> None:
    caches = held.caches
    first = caches.ids is None
    caches.ids = (record.pixmap_cache_id, record.glz_dict_id)
    caches.announced(record.pixmap_cache_size, record.glz_window_size)
    if kept is not None:
        if caches.pixels + sum(size for _, size in kept) > caches.limit:
            raise _refuse("more images are kept than there is room for", "pixmap_cache_size", 18)
        held.images.go_on(kept)
    elif first:
        caches.awaits_clearing = True
    if first:
        caches.go_on(record.glz_last_image_id)
    held.channel.init = messages.Init(
        pixmap_cache_id=record.pixmap_cache_id,
        pixmap_cache_size=record.pixmap_cache_size,
        glz_dictionary_id=record.glz_dict_id,
        glz_dictionary_window_size=record.glz_window_size,
    )


def _take_surfaces(held: Held, record: DisplayRecord, arrival: Arrival) -> None:
    for surface in record.surfaces:
        plane = held.planes.get(surface.id)
        if plane is None or surface.id in arrival.replaced:
            if surface.id:
                held._gone.append(surface.id)
            continue
        plane.created = True
        if isinstance(surface, LossySurface) and surface.right > surface.left:
            plane.lossy = [(surface.left, surface.top, surface.right, surface.bottom)]
    named = {surface.id for surface in record.surfaces}
    for id, plane in held.planes.items():
        if id not in named:
            plane.dirty = [(0, 0, plane.width, plane.height)]
    if 0 in named:
        held.curtain._shown = True
        screen = held.planes.get(0)
        held._has_screen = held._marked = screen is not None and screen.created


def _clear_cache(held: Held, record: DisplayRecord) -> None:
    """Empty the client's cache, once: only then can images be kept again.

    Images of the session's other displays must come behind that, which `wait_for_clearing` sees to.
    """
    if record.pixmap_cache_freezer:
        _clear(held)
    elif held.caches.cleared_by is not None:
        wait_for_clearing(held)


def _clear(held: Held) -> None:
    held.channel.send(messages.InvalAllPixmaps(waits=()))
    held.caches.cleared_by = (held.display.id, held.channel.serial + held.channel.queued)
    held.caches.awaits_clearing = False


def clear_at_last(helds: Iterable[Held]) -> bool:
    """All records are here: if none says that it empties the cache, the first display does."""
    started = [held for held in helds if held.started]
    if not started or not started[0].caches.awaits_clearing or not started[0].caches.limit:
        return False
    _clear(started[0])
    for other in started[1:]:
        wait_for_clearing(other)
    return True


def wait_for_clearing(held: Held) -> None:
    """Have another channel of the session keep images only behind the clearing."""
    assert held.caches.cleared_by is not None
    display, serial = held.caches.cleared_by
    wait = common.WaitForChannel(channel_type=2, channel_id=display, message_serial=serial)
    held.channel.send(common.WaitForChannels(waits=(wait,)))
