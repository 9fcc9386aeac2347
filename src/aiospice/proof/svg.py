"""Drawings as SVG: text, boxes and lines, and nothing that it would take a library for."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor, log10
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

__all__ = ["COLOURS", "Drawing", "Panel", "Series", "chart", "ticks"]

#: Told apart by people who see red and green as one, too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#777777")
_DASHES = ("", "6 3", "2 3", "9 3 2 3", "1 4", "12 4", "4 2", "8 2 2 2 2 2")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Drawing:
    """Shapes at pixels, the first at the bottom; `text` gives the file."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height = width, height
        self._title = title
        self._parts: list[str] = []

    def _add(self, tag: str, inner: str = "", **values: float | str) -> None:
        said = " ".join(
            f"{name.strip('_').replace('_', '-')}="
            + quoteattr(value if isinstance(value, str) else _number(value))
            for name, value in values.items()
        )
        self._parts.append(f"<{tag} {said}>{inner}</{tag}>" if inner else f"<{tag} {said}/>")

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, told: str = ""
    ) -> None:
        """A filled rectangle; ``told`` is shown where the mouse is on it."""
        inner = f"<title>{escape(told)}</title>" if told else ""
        self._add("rect", inner, x=x, y=y, width=width, height=height, fill=fill)

    def line(
        self, points: Iterable[tuple[float, float]], colour: str, width: float = 1, dash: str = ""
    ) -> None:
        """A line through points."""
        told = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        more = {"stroke_dasharray": dash} if dash else {}
        self._add("polyline", points=told, fill="none", stroke=colour, stroke_width=width, **more)

    def arrow(self, begin: tuple[float, float], end: tuple[float, float], told: str) -> None:
        """A thin line with a head at its end."""
        inner = f"<title>{escape(told)}</title>"
        ends = {"x1": begin[0], "y1": begin[1], "x2": end[0], "y2": end[1]}
        self._add("line", inner, **ends, stroke="#333", stroke_width=1, marker_end="url(#head)")

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "start", size: float = 12, **more: str
    ) -> None:
        """Text on a baseline."""
        self._add("text", escape(text), x=x, y=y, text_anchor=anchor, font_size=size, **more)

    def file(self) -> str:
        """All of it, as a file."""
        size = f'width="{_number(self.width)}" height="{_number(self.height)}"'
        view = f'viewBox="0 0 {_number(self.width)} {_number(self.height)}"'
        head = (
            '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#333"/></marker>'
        )
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-family="sans-serif">',
                f"<title>{escape(self._title)}</title>",
                f'<defs>{head}</defs><rect width="100%" height="100%" fill="#fff"/>',
                *self._parts,
                "</svg>\n",
            )
        )


def ticks(low: float, high: float, about: int = 8) -> list[float]:
    """Round numbers from ``low`` to ``high``, about so many."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    scale = 10.0 ** floor(log10(raw))
    step = next(each * scale for each in (1, 2, 2.5, 5, 10) if each * scale >= raw * 0.999)
    return [place * step for place in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


Series = tuple[str, list[tuple[float, float]]]


class Panel(NamedTuple):
    """One chart: lines through points, one for each of ``series``; both axes from 0."""

    title: str
    across: str
    up: str
    series: list[Series]


_PANEL = 400.0


def chart(title: str, panels: list[Panel]) -> str:
    """Panels side by side, and the names of the lines, which are the same in all of them."""
    names = list(dict.fromkeys(name for panel in panels for name, _ in panel.series))
    drawing = Drawing(_PANEL * len(panels) + 130, 400, title)
    drawing.text(16, 24, title, size=15)
    for number, panel in enumerate(panels):
        _panel(drawing, panel, _PANEL * number, names)
    for number, name in enumerate(names):
        left, y = _PANEL * len(panels) + 4, 80 + 22.0 * number
        drawing.line(((left, y - 4), (left + 30, y - 4)), *_style(number))
        drawing.text(left + 36, y, name)
    return drawing.file()


def _style(number: int) -> tuple[str, float, str]:
    return COLOURS[number % len(COLOURS)], 2.2, _DASHES[number % len(_DASHES)]


def _panel(drawing: Drawing, panel: Panel, left: float, names: list[str]) -> None:
    left, top, width, height = left + 64, 70.0, _PANEL - 90, 260.0
    most_x = max((x for _, points in panel.series for x, _ in points), default=1.0) or 1.0
    most_y = max((y for _, points in panel.series for _, y in points), default=1.0) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * x / most_x, top + height * (1 - y / most_y)

    drawing.text(left, top - 12, panel.title, size=13)
    for x in ticks(0, most_x, 6):
        drawing.line((place(x, 0), place(x, most_y)), "#ddd")
        drawing.text(place(x, 0)[0], top + height + 18, _number(x), anchor="middle")
    for y in ticks(0, most_y):
        drawing.line((place(0, y), place(most_x, y)), "#ddd")
        drawing.text(left - 8, place(0, y)[1] + 4, _number(y), anchor="end")
    drawing.text(left + width / 2, top + height + 40, panel.across, anchor="middle")
    turned = f"rotate(-90 {_number(left - 46)} {_number(top + height / 2)})"
    drawing.text(left - 46, top + height / 2, panel.up, anchor="middle", transform=turned)
    for name, points in panel.series:
        number = names.index(name)
        drawing.line([place(x, y) for x, y in points], *_style(number))
        for x, y in points:
            at = place(x, y)
            told = f"{name}: {x:g}, {y:.1f}"
            drawing.box(at[0] - 2.5, at[1] - 2.5, 5, 5, COLOURS[number % len(COLOURS)], told)
