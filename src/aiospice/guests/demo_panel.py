"""The panel of the demo desktop: buttons, and what input, clients and agent have done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.guests.desktop import BORDER, TITLE, Desktop
from aiospice.guests.font import CELL_HEIGHT, CELL_WIDTH, Pixels, bgrx, draw_text
from aiospice.guests.rects import Rect

if TYPE_CHECKING:
    from aiospice.guests.demo import DemoGuest

__all__ = ["BUTTONS", "Panel", "button_at"]

#: In the order of their keys, F5 first.
BUTTONS = ("tone", "mic", "copy", "paste")

_BACK, _INK, _FACE, _HELD, _ON = 0xE5E9F0, 0x2E3440, 0xC9D1DE, 0x81A1C1, 0xA3BE8C
_LOCKS = ((4, "caps"), (2, "num"), (1, "scroll"))
_LINE = CELL_HEIGHT + 4


def _button(number: int) -> Rect:
    """Where a button is in the panel's window."""
    return Rect(BORDER + 10 + 96 * number, TITLE + 10, 88, 26)


def button_at(x: int, y: int) -> str:
    """Return the button at a pixel of the window, "" for none."""
    found = [name for i, name in enumerate(BUTTONS) if _button(i).holds(x, y)]
    return found[0] if found else ""


def _one_line(text: str, columns: int) -> str:
    """The beginning of a text, without what would break the line."""
    shown = "".join(char if char.isprintable() else " " for char in text[: columns + 1])
    return shown if len(shown) <= columns else shown[: columns - 1] + "…"


class Panel:
    """Draws the panel; only what has changed is drawn again."""

    def __init__(self, desktop: Desktop, guest: DemoGuest) -> None:
        self._desktop = desktop
        self._guest = guest
        self._shown: dict[int, object] = {}
        self._pixels[TITLE:-BORDER, BORDER:-BORDER] = bgrx(_BACK)

    def draw_anew(self) -> None:
        """Show all of the state: it may be another one."""
        self._shown.clear()
        self.draw()

    @property
    def _pixels(self) -> Pixels:
        return self._desktop.views["panel"].pixels

    def draw(self) -> None:
        """Show the state of now."""
        for number, name in enumerate(BUTTONS):
            self._draw_button(number, name)
        for number, line in enumerate(self._lines()):
            self._draw_line(number, line)

    def _lines(self) -> list[str]:
        state, files = self._guest.state, self._guest.files.files
        x, y, display = state.pointer
        locks = [name for bit, name in _LOCKS if state.keyboard.locks & bit]
        lines = [
            f"pointer {x},{y} on {display}, buttons {state.buttons}",
            f"last input: {state.last}",
            f"locks: {' '.join(locks) or 'none'}",
            f"clients: {state.clients}",
            f"level: {'#' * (state.level * 30 // 32767)}",
            f"clipboard: {state.clipboard}",
        ]
        shown = files[-3:]
        return (
            lines + [f"file: {file.name} ({file.size})" for file in shown] + [""] * (3 - len(shown))
        )

    def _draw_button(self, number: int, name: str) -> None:
        state = self._guest.state
        on = {"tone": state.tone_since is not None, "mic": state.listening}.get(name, False)
        colour = _HELD if state.held == name else _ON if on else _FACE
        if self._shown.get(~number) == colour:
            return
        self._shown[~number] = colour
        place = _button(number)
        part = self._pixels[place.y : place.bottom, place.x : place.right]
        part[:] = bgrx(_INK)
        part[1:-1, 1:-1] = bgrx(colour)
        draw_text(part, (88 - CELL_WIDTH * len(name)) // 2, 6, name, _INK, bold=True)
        self._desktop.changed("panel", place)

    def _draw_line(self, number: int, line: str) -> None:
        window = self._desktop.views["panel"].window
        place = Rect(BORDER + 10, TITLE + 50 + _LINE * number, window.inside.width - 20, _LINE)
        line = _one_line(line, place.width // CELL_WIDTH)
        if self._shown.get(number) == line:
            return
        self._shown[number] = line
        part = self._pixels[place.y : place.bottom, place.x : place.right]
        part[:] = bgrx(_BACK)
        draw_text(part, 0, 0, line, _INK)
        self._desktop.changed("panel", place)
