"""Windows on a display: what is seen of them, which one is where, moving and raising.

A window is plain data (`Window`); its pixels are either an off-screen surface of the server, so
that clients get it once and its parts are drawn from it, or an array of the guest's own, whose
changes go to the screen directly (moving pictures, text that scrolls). Whatever is done, each pixel
of the display that may have changed is drawn once, from the topmost window down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aiospice.guests.font import CELL_HEIGHT, Pixels, bgrx, draw_text
from aiospice.guests.rects import Rect, subtract, without

if TYPE_CHECKING:
    from aiospice.server.guest import HostDisplay, HostSurface

__all__ = ["BORDER", "TITLE", "Desktop", "View", "Window", "draw_frame"]

#: Pixels of a window's border, and of its title bar.
BORDER, TITLE = 1, 21

_TITLE_COLOUR, _TITLE_TEXT, _EDGE = 0x3B4252, 0xECEFF4, 0x1B1F27


@dataclass(slots=True)
class Window:
    """Where a window is; the size is that of all of it, frame included."""

    name: str
    title: str
    x: int
    y: int
    width: int
    height: int
    #: Has a frame with a title bar, by which it can be dragged.
    framed: bool = True
    #: Stays above windows that are not on top.
    on_top: bool = False
    #: Stays below all that are not.
    at_bottom: bool = False

    @property
    def rect(self) -> Rect:
        """The pixels of the display that it covers."""
        return Rect(self.x, self.y, self.width, self.height)

    @property
    def inside(self) -> Rect:
        """Its content, from its own top left corner."""
        if not self.framed:
            return Rect(0, 0, self.width, self.height)
        height = self.height - TITLE - BORDER
        return Rect(BORDER, TITLE, self.width - 2 * BORDER, height)


class View:
    """The pixels of a window."""

    def __init__(self, window: Window, surface: HostSurface | None = None) -> None:
        self.window = window
        self.surface = surface
        shape = (window.height, window.width, 4)
        self._own: Pixels = np.zeros(shape if surface is None else (0, 0, 4), np.uint8)

    @property
    def pixels(self) -> Pixels:
        """All of the window, writable; tell `Desktop.changed` what was written."""
        return self._own if self.surface is None else self.surface.pixels

    @property
    def content(self) -> Pixels:
        """The window without its frame."""
        part = self.window.inside
        return self.pixels[part.y : part.bottom, part.x : part.right]


def draw_frame(view: View) -> None:
    """Draw the title bar and the border of a window."""
    window, pixels = view.window, view.pixels
    pixels[:TITLE] = bgrx(_TITLE_COLOUR)
    pixels[-BORDER:] = pixels[:, :BORDER] = pixels[:, -BORDER:] = bgrx(_EDGE)
    draw_text(pixels, 8, (TITLE - CELL_HEIGHT) // 2 + 1, window.title, _TITLE_TEXT, bold=True)


class Desktop:
    """One display with its windows."""

    def __init__(self, display: HostDisplay, colour: int, order: list[str]) -> None:
        self.display = display
        self.colour = colour
        #: Names from the lowest window to the topmost; the caller's list, kept up to date.
        self.order = order
        self.views: dict[str, View] = {}

    @property
    def screen(self) -> Rect:
        """All of the display."""
        height, width = self.display.pixels.shape[:2]
        return Rect(0, 0, width, height)

    def add(self, view: View) -> None:
        """Put a window on the desktop: above all others if the order doesn't have it yet."""
        self.views[view.window.name] = view
        if view.window.name not in self.order:
            self.order.append(view.window.name)
        self._sort()

    def redraw(self) -> None:
        """Draw everything, as after the display has got another size."""
        self.refresh(self.screen)

    def refresh(self, rect: Rect) -> None:
        """Draw a part of the display again: of each pixel what is topmost there."""
        rest = [part for part in [rect.common(self.screen)] if not part.empty]
        for name in reversed(self.order):
            view = self.views[name]
            for part in rest:
                self._put(view, part.common(view.window.rect))
            rest = without(rest, view.window.rect)
        for part in rest:
            self.display.fill(*part, self.colour)

    def changed(self, name: str, rect: Rect | None = None) -> None:
        """Tell that pixels of a window were written (all, or a part from its own corner)."""
        view = self.views[name]
        window = view.window
        part = Rect(0, 0, window.width, window.height)
        part = part if rect is None else part.common(rect)
        if part.empty:
            return
        if view.surface is not None:
            view.surface.update(*part)
        for seen in self._seen(name, part.moved(window.x, window.y)):
            self._put(view, seen)

    def scroll(self, name: str, rect: Rect, up: int) -> None:
        """Move rows of a part of a window up; what is new at its end is the caller's to draw."""
        view = self.views[name]
        part = view.pixels[rect.y : rect.bottom, rect.x : rect.right]
        part[:-up] = part[up:].copy()
        place = rect.moved(view.window.x, view.window.y)
        if self._seen(name, place) == [place]:
            kept = place.height - up
            self.display.copy(place.x, place.y + up, place.width, kept, place.x, place.y)
        else:
            self.changed(name, rect)

    def top_at(self, x: int, y: int) -> str | None:
        """Return the name of the topmost window at a pixel."""
        for name in reversed(self.order):
            if self.views[name].window.rect.holds(x, y):
                return name
        return None

    def raise_(self, name: str) -> None:
        """Put a window above the others."""
        before = list(self.order)
        self.order.remove(name)
        self.order.append(name)
        self._sort()
        if self.order != before:
            self.refresh(self.views[name].window.rect)

    def move(self, name: str, x: int, y: int) -> None:
        """Put a window elsewhere; its title bar stays within reach."""
        window = self.views[name].window
        old = window.rect
        window.x, window.y = self._reachable(window, x, y)
        new = window.rect
        if new == old:
            return
        if self._seen(name, old) == [old] and self._seen(name, new) == [new]:
            self.display.copy(*old, new.x, new.y)
        else:
            self.refresh(new)
        for part in subtract(old, new):
            self.refresh(part)

    def gather(self) -> None:
        """Bring all windows back into reach; the display has become smaller."""
        for view in self.views.values():
            window = view.window
            window.x, window.y = self._reachable(window, window.x, window.y)

    def _reachable(self, window: Window, x: int, y: int) -> tuple[int, int]:
        if not window.framed:
            return x, y
        screen, grip = self.screen, 2 * TITLE
        x = min(max(x, grip - window.width), screen.width - grip)
        return x, min(max(y, 0), max(0, screen.height - 3 * TITLE))

    def _sort(self) -> None:
        places = {name: view.window for name, view in self.views.items()}
        self.order.sort(key=lambda n: n in places and places[n].on_top - places[n].at_bottom)

    def _seen(self, name: str, rect: Rect) -> list[Rect]:
        """What no window above hides of a part of the display, and the display has."""
        seen = [part for part in [rect.common(self.screen)] if not part.empty]
        for above in self.order[self.order.index(name) + 1 :]:
            seen = without(seen, self.views[above].window.rect)
        return seen

    def _put(self, view: View, place: Rect) -> None:
        """Show the part of a window that belongs to a part of the display."""
        if place.empty:
            return
        source = place.moved(-view.window.x, -view.window.y)
        if view.surface is not None:
            self.display.draw(view.surface, place.x, place.y, source)
            return
        part = view.pixels[source.y : source.bottom, source.x : source.right]
        self.display.pixels[place.y : place.bottom, place.x : place.right] = part
        self.display.update(*place)
