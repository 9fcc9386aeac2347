"""The first picture of a screen is shown whole, not put together before the user's eyes.

What a client is sent for a screen that is new to it, or has another size, is drawn on a surface
that isn't shown. When all is there the screen is made, and that surface is copied to it. So there
is no black in between, and a program that keeps what the first draw makes (``spicy-screenshot``)
keeps all of it. Where that takes long the screen is made at once, and the rest follows on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.server import pack
from aiospice.server.surface import strips
from aiospice.wire import display as messages
from aiospice.wire import draw
from aiospice.wire.display import SurfaceFlags, SurfaceFormat

if TYPE_CHECKING:
    from aiospice.server.held import Held
    from aiospice.server.plane import Plane

__all__ = ["Curtain", "creation"]

#: Seconds after which what is there is shown, though it isn't all.
PATIENCE = 0.5


def creation(id: int, plane: Plane) -> messages.SurfaceCreate:
    """The message that makes a surface; 0 is the screen."""
    return messages.SurfaceCreate(
        surface_id=id,
        width=plane.width,
        height=plane.height,
        format=SurfaceFormat.ARGB32 if plane.alpha else SurfaceFormat.XRGB32,
        flags=0 if id else SurfaceFlags.PRIMARY,
    )


class Curtain:
    """The curtain before one client's screen. Plain data."""

    #: The surface behind it; guests' surfaces have numbers from 1 on.
    behind = 0x7FFFFFFF

    def __init__(self, held: Held) -> None:
        self._held = held
        #: The screen isn't shown: what is drawn on it goes to the surface ``behind``.
        self.drawn = False
        self._since = 0.0
        self._plane: Plane | None = None
        #: The client shows a screen, maybe an older one.
        self._shown = False

    def late(self, now: float) -> bool:
        """It has been drawn for too long."""
        return self.drawn and now - self._since > PATIENCE

    def draw(self, plane: Plane, now: float) -> None:
        """The screen is another one: begin to draw it."""
        if self.drawn:
            self._destroy(self.behind)
        self._plane = plane
        if self._in_one_piece(plane):
            self._show(plane)
            return
        self.drawn, self._since = True, now
        self._held.channel.send(creation(self.behind, plane))

    def _in_one_piece(self, plane: Plane) -> bool:
        """Whether the first thing that is drawn is all of it."""
        whole = (0, 0, plane.width, plane.height)
        if plane.dirty != [whole]:
            return False
        display = self._held.display
        screen = display.published[0]
        one_colour = display.one_colour(screen, whole)
        return one_colour is not None or next(strips(whole, screen.piece)) == whole

    def _show(self, plane: Plane) -> None:
        self.drawn, self._plane = False, None
        if self._shown:
            self._destroy(0)
        self._shown = True
        self._held.channel.send(creation(0, plane))

    def rise(self) -> None:
        """Show the screen."""
        plane = self._plane
        if plane is None:
            return
        self._show(plane)
        self._held.tell_heads()
        size = plane.width, plane.height
        body = pack.draw_surface(0, (0, 0, *size), self.behind, 0, 0, size)
        self._held.channel.send_body(draw.DrawCopy.number, body)
        self._destroy(self.behind)

    def _destroy(self, id: int) -> None:
        self._held.channel.send(messages.SurfaceDestroy(surface_id=id))
