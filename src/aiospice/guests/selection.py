"""What of a terminal is selected with the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiospice.guests.terminal_screen import Row

__all__ = ["Selection"]

#: Column and row.
_Place = tuple[int, int]


class Selection:
    """Cells from one place to another, line by line. Plain data."""

    def __init__(self) -> None:
        self._anchor: _Place | None = None
        self._end: _Place | None = None

    def start(self, place: _Place) -> None:
        """Begin at a cell; nothing is selected yet."""
        self._anchor, self._end = place, None

    def extend(self, place: _Place) -> None:
        """Select to a cell."""
        if self._anchor is not None:
            self._end = place

    def clear(self) -> None:
        """Select nothing."""
        self._anchor = self._end = None

    def _spans(self, rows: list[Row]) -> dict[int, tuple[int, int]]:
        """The selected columns of each row: first, and behind the last."""
        if self._anchor is None or self._end is None:
            return {}
        (x0, y0), (x1, y1) = sorted((self._anchor, self._end), key=lambda p: (p[1], p[0]))
        last = range(y0, min(y1 + 1, len(rows)))
        return {y: (x0 if y == y0 else 0, x1 + 1 if y == y1 else len(rows[y])) for y in last}

    def mark(self, rows: list[Row]) -> list[Row]:
        """Return the lines with what is selected reversed."""
        for y, (start, end) in self._spans(rows).items():
            row = rows[y]
            marked = tuple(char._replace(reverse=not char.reverse) for char in row[start:end])
            rows[y] = row[:start] + marked + row[end:]
        return rows

    def text(self, rows: list[Row]) -> str:
        """Return what is selected; blanks at the ends of lines are left out."""
        spans = self._spans(rows).items()
        return "\n".join("".join(c.data for c in rows[y][a:b]).rstrip() for y, (a, b) in spans)
