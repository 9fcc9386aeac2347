"""A terminal's lines as pixels: changed cells are drawn, lines that have moved are moved."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aiospice.guests.font import CELL_HEIGHT, CELL_WIDTH, bgrx, glyph, masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiospice.guests.terminal_screen import Char, Row
    from aiospice.server.guest import HostDisplay

__all__ = ["TerminalView", "colour", "find_move"]

FOREGROUND, BACKGROUND = 0xD8DEE9, 0x14171C
#: Lines that must be found elsewhere for a move to be worth it.
_MOVE_LINES = 2

_NAMES = ("black", "red", "green", "brown", "blue", "magenta", "cyan", "white")
_DARK = (0x14171C, 0xCC4B4B, 0x6BA14B, 0xC9A227, 0x4B7BCC, 0xA65FB0, 0x3FA0A8, 0xC8CDD4)
_BRIGHT = (0x6B7280, 0xFF6E6E, 0x96D46B, 0xFFD75F, 0x7AA8FF, 0xD68FE0, 0x63D2DB, 0xFFFFFF)
_COLOURS = dict(zip(_NAMES, _DARK, strict=True))
_COLOURS |= {f"bright{name}": value for name, value in zip(_NAMES, _BRIGHT, strict=True)}
_COLOURS["bfightmagenta"] = _COLOURS["brightmagenta"]  # as pyte 0.8 spells it


def colour(name: str, default: int) -> int:
    """Return a colour of pyte's (a name, or six digits) as 0xRRGGBB."""
    if name in _COLOURS:
        return _COLOURS[name]
    try:
        return int(name, 16) if len(name) == 6 else default
    except ValueError:
        return default


class _Cell(NamedTuple):
    glyph: int
    ink: int
    paper: int
    lines: tuple[int, ...]


@lru_cache(maxsize=8192)
def _cell(char: Char) -> _Cell:
    """What a cell looks like."""
    ink, paper = colour(char.fg, FOREGROUND), colour(char.bg, BACKGROUND)
    if char.reverse:
        ink, paper = paper, ink
    rows = (*((13,) if char.underscore else ()), *((7,) if char.strikethrough else ()))
    return _Cell(glyph(char.data or " ", char.bold), ink, paper, rows)


def find_move(old: Sequence[Row], new: Sequence[Row]) -> tuple[int, int, int] | None:
    """Find lines that are elsewhere now: (first line they are at now, how many, how far up).

    The longest such run that begins or ends where the screens differ; None if it isn't worth it.
    """
    differ = [y for y in range(len(new)) if old[y] != new[y]]
    if len(differ) <= _MOVE_LINES:
        return None
    first, last = differ[0], differ[-1] + 1
    best: tuple[int, int, int] | None = None
    for shift in range(-(last - first - 1), last - first):
        start = max(first, first - shift)
        run = 0
        for y in range(start, min(last, last - shift) + 1):
            if shift and y < min(last, last - shift) and new[y] == old[y + shift]:
                run += 1
                continue
            gained = sum(1 for line in range(y - run, y) if new[line] != old[line])
            if gained > (best[1] if best else _MOVE_LINES - 1):
                best = (y - run, run, shift)
            run = 0
    return best


class TerminalView:
    """Shows lines on a display, from its top left corner."""

    def __init__(self, display: HostDisplay) -> None:
        self._display = display
        self._shown: list[Row] = []
        #: Of the display, in pixels.
        self.size = (0, 0)

    def resize(self, width: int, height: int) -> None:
        """Give the display another size; all lines are drawn next time."""
        self.size = (width, height)
        self._display.resize(width, height)
        self._display.fill(0, 0, width, height, BACKGROUND)
        self._shown = []

    def show(self, rows: list[Row]) -> None:
        """Show lines of equal length, all of the terminal."""
        old = self._shown
        if len(old) != len(rows):
            for y, row in enumerate(rows):
                self._draw(y, 0, row)
        else:
            old = self._moved(old, rows)
            for y, row in enumerate(rows):
                if old[y] != row:
                    self._draw_difference(y, old[y], row)
        self._shown = rows

    def _moved(self, old: list[Row], rows: list[Row]) -> list[Row]:
        """Move what can be moved; return the lines that are shown then."""
        move = find_move(old, rows)
        if move is None:
            return old
        first, count, up = move
        width, height = len(rows[0]) * CELL_WIDTH, count * CELL_HEIGHT
        place = first * CELL_HEIGHT
        self._display.copy(0, place + up * CELL_HEIGHT, width, height, 0, place)
        return old[:first] + old[first + up : first + up + count] + old[first + count :]

    def _draw_difference(self, y: int, old: Row, new: Row) -> None:
        differ = [x for x in range(len(new)) if old[x] != new[x]]
        start, end = differ[0], differ[-1] + 1
        self._draw(y, start, new[start:end])

    def _draw(self, y: int, x: int, chars: Row) -> None:
        """Draw cells of a line."""
        if not chars:
            return
        cells = [_cell(char) for char in chars]
        ink = np.array([bgrx(cell.ink) for cell in cells])
        paper = np.array([bgrx(cell.paper) for cell in cells])
        mask = masks()[[cell.glyph for cell in cells]]
        for number, cell in enumerate(cells):
            for row in cell.lines:
                mask[number, row] = True
        block = np.where(mask[..., None], ink[:, None, None], paper[:, None, None])
        line = block.transpose(1, 0, 2, 3).reshape(CELL_HEIGHT, -1, 4)
        left, top, width = x * CELL_WIDTH, y * CELL_HEIGHT, len(cells) * CELL_WIDTH
        self._display.pixels[top : top + CELL_HEIGHT, left : left + width] = line
        self._display.update(left, top, width, CELL_HEIGHT)
