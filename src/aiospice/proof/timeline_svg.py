"""A timeline drawn: time goes to the right, a lane for each channel of each party."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from aiospice.proof.svg import Drawing, ticks

if TYPE_CHECKING:
    from aiospice.proof.timeline import Lane, Span, Timeline

__all__ = ["draw_timeline"]

_LEFT, _WIDTH, _LANE, _PARTY, _TOP = 150.0, 1000.0, 20.0, 24.0, 46.0
#: The first words of a state, and what colour it has.
_FILLS = (
    ("at left", "#9ecae1"),
    ("at right", "#a1d99b"),
    ("at ", "#c7c7c7"),
    ("runs", "#74c476"),
    ("stands still", "#e6550d"),
    ("waits", "#fdd0a2"),
    ("has left", "#fdae6b"),
    ("leaves", "#fdae6b"),
    ("parked", "#dadaeb"),
    ("open", "#9ecae1"),
    ("changes", "#3182bd"),
    ("bytes", "#3182bd"),
)
_OTHER = "#d9d9d9"
_HALO: dict[str, Any] = {
    "size": 10.5,
    "font_weight": "bold",
    "paint_order": "stroke",
    "stroke": "#fff",
    "stroke_width": "3",
}
#: Arrows of one name that leave one party within so many pixels are named once.
_NEAR = 25.0


def _fill(name: str) -> str:
    return next((colour for first, colour in _FILLS if name.startswith(first)), _OTHER)


def draw_timeline(timeline: Timeline, title: str, begin: float, end: float) -> str:
    """What happens from ``begin`` to ``end`` (the timeline's clock), as an SVG file.

    The axis is in ms from `Timeline.zero` on. Lanes in which nothing is aren't drawn.
    """
    spans = [span for span in timeline.spans if span.end >= begin and span.begin <= end]
    used = {span.lane for span in spans}
    used |= {mark.lane for mark in timeline.marks if begin <= mark.at <= end}
    lanes = [lane for lane in timeline.lanes if lane in used]
    parties: dict[str, None] = dict.fromkeys(lane.party for lane in lanes)
    height = _TOP + _LANE * len(lanes) + _PARTY * len(parties) + 40
    drawing = Drawing(_LEFT + _WIDTH + 20, height, title)
    drawing.text(10, 20, title, size=15)
    rows = _rows(drawing, lanes)
    zero = timeline.zero if timeline.zero is not None else timeline.start or 0.0
    _axis(drawing, begin, end, zero, height)

    def across(at: float) -> float:
        return _LEFT + _WIDTH * (min(max(at, begin), end) - begin) / (end - begin)

    for span in spans:
        _box(drawing, span, rows[span.lane], across(span.begin), across(span.end))
    for mark in timeline.marks:
        if begin <= mark.at <= end:
            told = f"{mark.name} at {1000 * (mark.at - zero):.1f} ms"
            drawing.box(across(mark.at) - 1, rows[mark.lane] + 1, 2, _LANE - 4, "#b30000", told)
    named: dict[tuple[str, str, str], float] = {}
    for arrow in timeline.arrows:
        known = arrow.sender in rows and arrow.receiver in rows
        if not known or not (begin <= arrow.sent and arrow.received <= end):
            continue
        one = (across(arrow.sent), rows[arrow.sender] + _LANE / 2)
        other = (across(arrow.received), rows[arrow.receiver] + _LANE / 2)
        drawing.arrow(one, other, f"{arrow.name}: {1000 * (arrow.sent - zero):.1f} ms")
        kind = (arrow.name, arrow.sender.party, arrow.receiver.party)
        if one[0] - named.get(kind, -1e9) > _NEAR:
            named[kind] = one[0]
            place = (one[0] * 0.65 + other[0] * 0.35 + 3, one[1] * 0.65 + other[1] * 0.35)
            drawing.text(*place, arrow.name, **_HALO)
    return drawing.file()


def _rows(drawing: Drawing, lanes: list[Lane]) -> dict[Lane, float]:
    """Where each lane is; their names are written."""
    found: dict[Lane, float] = {}
    at = _TOP
    for party, group in groupby(_together(lanes), key=lambda lane: lane.party):
        drawing.text(10, at + _PARTY - 7, party, size=13, font_weight="bold")
        at += _PARTY
        for lane in group:
            found[lane] = at
            drawing.text(_LEFT - 8, at + _LANE - 6, lane.name, anchor="end", size=11)
            drawing.box(_LEFT, at + 1, _WIDTH, _LANE - 2, "#f7f7f7")
            at += _LANE
    return found


def _together(lanes: list[Lane]) -> list[Lane]:
    order = list(dict.fromkeys(lane.party for lane in lanes))
    return sorted(lanes, key=lambda lane: order.index(lane.party))


def _axis(drawing: Drawing, begin: float, end: float, zero: float, height: float) -> None:
    bottom = height - 34
    for ms in ticks(1000 * (begin - zero), 1000 * (end - zero), 14):
        x = _LEFT + _WIDTH * (zero + ms / 1000 - begin) / (end - begin)
        drawing.line(((x, _TOP), (x, bottom)), "#bbb" if abs(ms) > 1e-6 else "#000", 1, "2 3")
        drawing.text(x, bottom + 16, f"{ms:g} ms", anchor="middle", size=11)


def _box(drawing: Drawing, span: Span, y: float, left: float, right: float) -> None:
    width = max(right - left, 1.2)
    seconds = 1000 * (span.end - span.begin)
    told = f"{span.name}: {seconds:.1f} ms" + "".join(f", {k} {v}" for k, v in span.args.items())
    drawing.box(left, y + 2, width, _LANE - 4, _fill(span.name), told)
    if width > 6.2 * len(span.name):
        drawing.text(left + 4, y + _LANE - 6, span.name, size=10)
