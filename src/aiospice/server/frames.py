"""What one display of the guest shows, and how it becomes operations that clients carry out.

A `Display` has the pixels that the guest writes, and a second copy of them: the *published* frame,
which is what a client in step shows once it has read everything. `Display.publish` compares the
two where the guest says that something has changed, makes the cheapest operations that turn the
one into the other, and hands them to every client (`aiospice.server.held.Held`). What the guest
tells about how it drew (a fill, a move, a draw from a surface) is tried on the published frame
first; whatever then still differs is sent as pixels, so a guest can't tell it wrong.

Nothing is compared, copied or kept while no client looks.

Pixels are B, G, R and a fourth byte each, which counts only on surfaces with alpha.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiospice.errors import LocalError
from aiospice.server import compare
from aiospice.server.boxes import rectangles
from aiospice.server.compare import TILE
from aiospice.server.operations import (
    Copy,
    Created,
    Destroyed,
    Draw,
    Fill,
    Operation,
)
from aiospice.server.region import Box, intersect, size
from aiospice.server.settle import changes, image, paint, settle
from aiospice.server.surface import (
    NEAR_PIXELS,
    STRIP_PIXELS,
    Surface,
    check_surface,
    copy_rows,
    fill_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from aiospice.server.encode import Picture
    from aiospice.server.held import Held
    from aiospice.server.videos import Videos

__all__ = ["MAX_SURFACES", "SURFACE_BYTES", "Display", "DisplayState", "Head"]

#: Off-screen surfaces of one display, and bytes of all of its surfaces.
MAX_SURFACES = 1024
SURFACE_BYTES = 1 << 30
#: What the guest may tell of how it drew between two publications; the rest is only damage.
_MAX_HINTS = 128


class Head(NamedTuple):
    """A monitor: the part of the display that it shows, in pixels."""

    id: int
    x: int
    y: int
    width: int
    height: int


class DisplayState(NamedTuple):
    """What a display shows: width, height, alpha and pixels of each surface, and the monitors.

    Pixels are b"" where they go by another way (`aiospice.server.early`), and then come with copies
    of them, so that none have to be made when the guest is to run.
    """

    surfaces: dict[int, tuple[int, int, bool, bytes]]
    heads: tuple[Head, ...]
    copies: dict[int, bytearray] | None = None


class Display:
    """One display of the guest, shared by all its clients. Plain data.

    ``width`` and ``height`` in pixels; 0 for a display that shows nothing yet. Rectangles that
    reach beyond their surface are cut. What the guest does is seen by clients once `publish` is
    called.
    """

    def __init__(self, id: int, width: int = 0, height: int = 0) -> None:
        #: Number of the display channel.
        self.id = id
        #: The surfaces as the guest has them, 0 is the screen.
        self.surfaces: dict[int, Surface] = {}
        #: The surfaces that clients were told of; empty while nobody looks.
        self.published: dict[int, Surface] = {}
        #: The monitors; none: one that shows all of it.
        self.heads: tuple[Head, ...] = ()
        #: Counts changes of the monitors and of the size.
        self.heads_version = 0
        #: The clients that look.
        self.helds: list[Held] = []
        #: Clients that were sent something in somebody else's turn: the core takes them from here.
        self.woken: list[Held] = []
        self.videos: Videos | None = None
        self._clients = 0
        self._hints: list[Operation] = []
        self._resized = False
        self._heads_changed = False
        self._turn = 0
        self._shots: dict[tuple[int, Box], Fill | Picture] = {}
        if width or height:
            self.resize(width, height)

    # -- what the guest does ---------------------------------------------------------------------

    @property
    def width(self) -> int:
        """In pixels, 0 before there is a size."""
        return self.surfaces[0].width if 0 in self.surfaces else 0

    @property
    def height(self) -> int:
        """In pixels, 0 before there is a size."""
        return self.surfaces[0].height if 0 in self.surfaces else 0

    @property
    def array(self) -> NDArray[np.uint8]:
        """The pixels, to be written to: (height, width, 4), B G R and an unused byte.

        After `resize` it is another one.
        """
        if 0 in self.surfaces:
            return self.surfaces[0].array
        import numpy as np

        return np.zeros((0, 0, 4), np.uint8)

    def resize(self, width: int, height: int) -> None:
        """Give the display another size; everything is black then. `LocalError` if too large."""
        check_surface(width, height)
        self._check_bytes(4 * width * height - 4 * self.width * self.height)
        self.surfaces[0] = Surface(0, width, height, False)
        self._fit()
        self._hints = [hint for hint in self._hints if _surface(hint) != 0]
        self._resized = True
        self.set_heads(())

    def damage(self, x: int, y: int, width: int, height: int) -> None:
        """Pixels of that rectangle may be others now."""
        self.surface_damage(0, x, y, width, height)

    def fill(self, x: int, y: int, width: int, height: int, colour: int) -> None:
        """Fill a rectangle with a colour, 0xRRGGBB."""
        surface = self._surface(0)
        box = surface.clip(x, y, width, height)
        if box is not None:
            colour &= 0xFFFFFF
            fill_rows(surface.pixels, surface.width, box, colour)
            self._hint(Fill(0, box, colour))

    def copy(self, src_x: int, src_y: int, width: int, height: int, x: int, y: int) -> None:
        """Copy a rectangle of pixels to ``x``, ``y``; the two may overlap."""
        surface = self._surface(0)
        dx, dy = x - src_x, y - src_y
        source = surface.clip(src_x, src_y, width, height)
        if source is None:
            return
        box = intersect(_moved(source, dx, dy), surface.whole)
        if box is None or not (dx or dy):
            return
        copy_rows(
            surface.pixels, surface.width, box, surface.pixels, surface.width, box[0] - dx,
            box[1] - dy,
        )  # fmt: skip
        self._hint(Copy(0, box, dx, dy))

    def create_surface(self, width: int, height: int, alpha: bool = False) -> int:
        """Make an off-screen surface, all zero; gives its number. `LocalError` beyond the limits.

        With ``alpha`` the fourth byte of its pixels counts for what is drawn on the surface; a
        draw from it copies colours as they are.
        """
        check_surface(width, height)
        if len(self.surfaces) > MAX_SURFACES:
            raise LocalError(f"more than {MAX_SURFACES} surfaces on display {self.id}")
        self._check_bytes(4 * width * height)
        id = next(number for number in range(1, MAX_SURFACES + 2) if number not in self.surfaces)
        surface = Surface(id, width, height, alpha)
        self.surfaces[id] = surface
        self._fit()
        if self.helds:
            surface.show()
            surface.fresh = True
            surface.damage = [surface.whole]
            self._hints.append(Created(id, width, height, alpha))
        return id

    def surface_array(self, id: int) -> NDArray[np.uint8]:
        """The pixels of a surface, as `array`."""
        return self._surface(id).array

    def surface_damage(self, id: int, x: int, y: int, width: int, height: int) -> None:
        """Pixels of that rectangle of a surface may be others now."""
        surface = self._surface(id)
        surface.changed(surface.clip(x, y, width, height))

    def draw_surface(self, id: int, src: tuple[int, int, int, int], x: int, y: int) -> None:
        """Copy a rectangle (x, y, width, height) of a surface to ``x``, ``y`` of the screen."""
        surface, screen = self._surface(id), self._surface(0)
        source = surface.clip(*src)
        if id == 0 or source is None:
            return
        dx, dy = x - src[0], y - src[1]
        box = intersect(_moved(source, dx, dy), screen.whole)
        if box is not None:
            from_ = (box[0] - dx, box[1] - dy)
            copy_rows(screen.pixels, screen.width, box, surface.pixels, surface.width, *from_)
            self._hint(Draw(0, box, id, *from_))

    def destroy_surface(self, id: int) -> None:
        """Forget an off-screen surface."""
        self._surface(id)
        if id == 0:
            raise LocalError("the screen can't be destroyed; resize it")
        del self.surfaces[id]
        self._hints = [hint for hint in self._hints if not _uses(hint, id)]
        if self.helds:
            self._hints.append(Destroyed(id))

    def set_heads(self, heads: Iterable[Head | tuple[int, int, int, int, int]]) -> None:
        """The monitors of this display: each (id, x, y, width, height). None: one for all of it."""
        self.heads = tuple(Head(*head) for head in heads)
        self.heads_version += 1
        self._heads_changed = True

    def monitors(self) -> tuple[Head, ...]:
        """The monitors that clients are told of."""
        return self.heads or (Head(0, 0, 0, self.width, self.height),)

    def _surface(self, id: int) -> Surface:
        surface = self.surfaces.get(id)
        if surface is None:
            what = "has no size yet" if id == 0 else f"has no surface {id}"
            raise LocalError(f"display {self.id} {what}")
        return surface

    def _check_bytes(self, more: int) -> None:
        held = sum(len(surface.pixels) for surface in self.surfaces.values())
        if held + more > SURFACE_BYTES:
            raise LocalError(
                f"the surfaces of display {self.id} would take {held + more} bytes, the limit is "
                f"{SURFACE_BYTES}"
            )

    def _hint(self, hint: Fill | Copy | Draw) -> None:
        """Note how something was drawn, and that it may be different by now."""
        surface = self.surfaces[hint.surface]
        surface.changed(hint.box)
        if surface.shadow is None:
            return
        if len(self._hints) < _MAX_HINTS:
            self._hints.append(hint)

    # -- clients ---------------------------------------------------------------------------------

    def attach(self, held: Held) -> int:
        """A client looks from now on; gives it a number of its own."""
        if not self.helds:
            for surface in self.surfaces.values():
                surface.show()
            self.published = dict(self.surfaces)
            self._hints.clear()
            self._resized = False
        self.helds.append(held)
        self._fit()
        self._clients += 1
        return self._clients

    def detach(self, held: Held) -> None:
        """A client is gone."""
        if held in self.helds:
            self.helds.remove(held)
            self._fit()
        if held in self.woken:
            self.woken.remove(held)
        if not self.helds:
            self._rest()

    def _fit(self) -> None:
        """Images are as large as the lines of all clients allow."""
        near = all(held.local for held in self.helds)
        for surface in self.surfaces.values():
            surface.piece = NEAR_PIXELS if near else STRIP_PIXELS

    def _rest(self) -> None:
        """Nobody looks: nothing is kept but the pixels."""
        for surface in self.surfaces.values():
            surface.hide()
        self.published.clear()
        self._hints.clear()
        self._shots.clear()
        self._resized = self._heads_changed = False
        self.videos = None

    def wake_others(self, held: Held, now: float) -> None:
        """An image is packed that other clients may wait for, too."""
        for other in self.helds:
            if other is not held and other.waiting:
                self.woken.append(other)
                other.pump(now)

    # -- moving ----------------------------------------------------------------------------------

    def freeze(self) -> DisplayState:
        """What the display shows, for another server. All of it is published first.

        Of surfaces that have been told in strips, what the guest has said that it changed.
        """
        found: dict[int, tuple[int, int, bool, bytes]] = {}
        for surface in self.surfaces.values():
            pixels = b""
            if surface.dirty is None:
                surface.look(surface.whole)
                pixels = bytes(surface.pixels)
            found[surface.id] = (surface.width, surface.height, surface.alpha, pixels)
        return DisplayState(found, self.heads)

    def thaw(self, state: DisplayState) -> None:
        """Show what a display of another server showed; see `Held.arrival` for its clients."""
        found: dict[int, Surface] = {}
        for id, (width, height, alpha, pixels) in state.surfaces.items():
            surface = self.surfaces.get(id)
            same = surface is not None and (surface.width, surface.height) == (width, height)
            if surface is None or not same or (id and isinstance(pixels, bytearray)):
                check_surface(width, height)
                given = pixels if isinstance(pixels, bytearray) else bytearray(pixels)
                surface = Surface(id, width, height, alpha, given)
            else:
                surface.pixels[:] = pixels
            surface.alpha = alpha
            found[id] = surface
        self.surfaces = found
        self._fit()
        self.heads = state.heads
        self.heads_version += 1
        self.videos = None
        self._hints.clear()
        self._shots.clear()
        self._resized = self._heads_changed = False
        self.published = {}
        copies = state.copies or {}
        for surface in found.values():
            surface.damage, surface.fresh = [], False
            if self.helds:
                surface.show(copies.get(surface.id))
                self.published[surface.id] = surface
        for held in self.helds:
            held.rebased()

    # -- from pixels to operations ---------------------------------------------------------------

    def publish(self, now: float) -> None:
        """Find out what has changed and tell all clients, as far as they can take it now."""
        if not self.helds or 0 not in self.surfaces:
            self._rest()
            return
        self._turn += 1
        resized, self._resized = self._resized, False
        if resized:
            self.surfaces[0].show()
            self.published[0] = self.surfaces[0]
            self.videos = None
        changed = resized or self._heads_changed
        self._heads_changed = False
        wanted = False
        for held in self.helds:
            wanted = wanted or (not resized and held.in_step(now))
            if self.videos is None and held.streams.wanted:
                from aiospice.server.videos import Videos

                self.videos = Videos(self.surfaces[0], now)
        operations = self._operations(now, wanted)
        if self.videos is not None:
            self._film(self.videos, operations, now)
        if not (operations or changed or self.videos is not None):
            return
        self._shots.clear()
        for held in self.helds:
            if resized:
                held.resized(now)
            held.take(operations, now)
        if self.videos is not None:
            for video in self.videos.playing.values():
                video.changes = []

    def _film(self, videos: Videos, operations: list[Operation], now: float) -> None:
        """Tell videos what was drawn over them; find new ones."""
        if videos.playing:
            for operation in operations:
                if isinstance(operation, (Fill, Copy, Draw)) and operation.surface == 0:
                    videos.touched(operation.box, now)
        videos.update(self.surfaces[0], now)

    def next_wake(self) -> float | None:
        """When `wake` wants to be called: a video may be over."""
        return None if self.videos is None else self.videos.next_wake()

    def wake(self, now: float) -> None:
        """Time has passed without the guest."""
        if self.videos is None or 0 not in self.published:
            return
        before = list(self.videos.playing)
        self.videos.update(self.published[0], now)
        if before != list(self.videos.playing):
            for held in self.helds:
                held.take([], now)
                self.woken.append(held)

    def shot(self, surface: Surface, box: Box) -> Fill | Picture:
        """The published pixels of a box, for clients that are behind; shared between them."""
        key = (surface.id, box)
        found = self._shots.get(key)
        if found is None:
            if sum(size(box) for _, box in self._shots) > 1 << 21:
                self._shots.clear()
            found = self._shots[key] = image(surface, box, None)
        return found

    def one_colour(self, surface: Surface, box: Box) -> Fill | None:
        """The published pixels of a box, if they are all the same."""
        old, _ = surface.words()
        colour = compare.solid(old, surface.width, *box, surface.mask)
        return Fill(surface.id, box, colour) if colour >= 0 else None

    def _operations(self, now: float, wanted: bool) -> list[Operation]:
        operations: list[Operation] = []
        if self._hints:
            hints, self._hints = self._hints, []
            for hint in hints:
                self._try(hint, operations, now, wanted)
        for surface in self.surfaces.values():
            if surface.damage:
                self._compare(surface, operations, now, wanted)
        return operations

    def _try(self, hint: Operation, operations: list[Operation], now: float, wanted: bool) -> None:
        """Do on the published frame what the guest says it did."""
        if isinstance(hint, (Created, Destroyed)):
            if isinstance(hint, Created):
                self.published[hint.surface] = self.surfaces[hint.surface]
            else:
                self.published.pop(hint.surface, None)
            operations.append(hint)
            return
        surface = self.surfaces[hint.surface]
        shadow, width = surface.shadow, surface.width
        assert shadow is not None
        words = memoryview(shadow).cast("I")
        if isinstance(hint, Fill):
            if compare.solid(words, width, *hint.box, surface.mask) == hint.colour:
                return
            fill_rows(shadow, width, hint.box, hint.colour)
        elif isinstance(hint, Copy):
            box, dx, dy = hint.box, hint.dx, hint.dy
            grid = bytearray(-(-(box[2] - box[0]) // TILE) * -(-(box[3] - box[1]) // TILE))
            compare.moved(words, words, width, *box, dx, dy, surface.mask, grid)
            if 1 not in grid:
                return
            copy_rows(shadow, width, box, shadow, width, box[0] - dx, box[1] - dy)
        elif isinstance(hint, Draw):
            source = self.surfaces[hint.source]
            self._compare(source, operations, now, wanted)
            assert source.shadow is not None
            copy_rows(shadow, width, hint.box, source.shadow, source.width, hint.x, hint.y)
        operations.append(hint)

    def _compare(
        self, surface: Surface, operations: list[Operation], now: float, wanted: bool
    ) -> None:
        """Make operations of what is still different where the guest has drawn."""
        damage, surface.damage = surface.damage, []
        if not damage:
            return
        if surface.fresh:
            surface.fresh = False
            surface.accept(surface.whole)
            paint(surface, surface.whole, operations, wanted, surface.words())
            return
        if self.videos is not None and surface.id == 0:
            self._compare_filmed(self.videos, surface, damage, operations, now, wanted)
            return
        changes(surface, damage, operations, wanted, self._turn)

    def _compare_filmed(
        self,
        videos: Videos,
        surface: Surface,
        damage: list[Box],
        operations: list[Operation],
        now: float,
        wanted: bool,
    ) -> None:
        """`_compare` for a screen with videos, which see to what changes where they are."""
        old, new = surface.words()
        width, mask = surface.width, surface.mask
        columns = -(-width // TILE)
        grid = bytearray(columns * -(-surface.height // TILE))
        for box in damage:
            compare.mark(old, new, width, *box, mask, grid)
        if 1 not in grid:
            return
        videos.seen(grid, now)
        for tiles in rectangles(grid, columns):
            found = intersect(_scaled(tiles), surface.whole)
            tight = None if found is None else compare.tighten(old, new, width, *found, mask)
            if tight is None:
                continue
            outer, inner = videos.outside(tight, now)
            for part in inner:
                surface.accept(part)
            for part in outer:
                left = compare.tighten(old, new, width, *part, mask)
                if left is not None:
                    settle(surface, left, operations, wanted, self._turn, (old, new))


def _surface(hint: Operation) -> int:
    return hint.surface


def _uses(hint: Operation, id: int) -> bool:
    return hint.surface == id or (isinstance(hint, Draw) and hint.source == id)


def _moved(box: Box, dx: int, dy: int) -> Box:
    return (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)


def _scaled(box: Box) -> Box:
    """A box of tiles, in pixels."""
    return (TILE * box[0], TILE * box[1], TILE * box[2], TILE * box[3])
