"""What happened when, in lanes: a lane for each channel of each party. Plain data.

::

    line = Timeline()
    line.state("client", "display:0", "at left", 0.0)
    line.state("client", "display:0", "at right", 0.1)
    line.finish(0.2)

`aiospice.proof.chrome` writes it for Perfetto, `aiospice.proof.timeline_svg` draws it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Arrow", "Lane", "Mark", "Span", "Timeline"]

Args = dict[str, Any] | None


class Lane(NamedTuple):
    """Whose lane it is, and what is in it."""

    party: str
    name: str


class Span(NamedTuple):
    """Something that took from ``begin`` to ``end``, in seconds of one clock."""

    lane: Lane
    name: str
    begin: float
    end: float
    args: dict[str, Any]


class Mark(NamedTuple):
    """Something that happened at a moment."""

    lane: Lane
    name: str
    at: float
    args: dict[str, Any]


class Arrow(NamedTuple):
    """A message from one party to another."""

    name: str
    sender: Lane
    sent: float
    receiver: Lane
    received: float


@dataclass
class _Burst:
    name: str
    begin: float
    end: float
    count: int = 1


@dataclass
class Timeline:
    """See the module's text. Spans of one lane don't overlap, but for those put in by hand."""

    #: What comes again within so many seconds belongs to one burst.
    gap: float = 0.05
    #: Lanes, in the order in which they are to be shown.
    lanes: dict[Lane, None] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    #: When it began, None: with whatever came first.
    start: float | None = None
    #: The moment that a drawing calls 0, None: when it began.
    zero: float | None = None
    _states: dict[Lane, tuple[str, float]] = field(default_factory=dict)
    _bursts: dict[Lane, _Burst] = field(default_factory=dict)

    def lane(self, party: str, name: str) -> Lane:
        """The lane of that name, which is there from now on."""
        found = Lane(party, name)
        self.lanes.setdefault(found)
        return found

    def span(self, lane: Lane, name: str, begin: float, end: float, args: Args = None) -> None:
        """Something has taken some time."""
        self.spans.append(Span(self.lane(*lane), name, begin, max(begin, end), args or {}))

    def mark(self, party: str, lane: str, name: str, at: float, args: Args = None) -> None:
        """Something has happened."""
        self.marks.append(Mark(self.lane(party, lane), name, at, args or {}))

    def arrow(
        self, name: str, sender: tuple[str, str], sent: float, to: tuple[str, str], received: float
    ) -> None:
        """A message went from a lane to another; each is a party and a name."""
        self.arrows.append(Arrow(name, self.lane(*sender), sent, self.lane(*to), received))

    def state(self, party: str, lane: str, name: str, at: float) -> None:
        """From here on the lane is in that state, "" for none; the one before ends."""
        place = self.lane(party, lane)
        before = self._states.get(place)
        if before is not None and before[0] == name:
            return
        self._end_state(place, at)
        if name:
            self._states[place] = (name, at)

    def _end_state(self, place: Lane, at: float) -> None:
        before = self._states.pop(place, None)
        if before is not None and at > before[1]:
            self.spans.append(Span(place, *before, at, {}))

    def state_of(self, party: str, lane: str) -> str:
        """What state a lane is in."""
        return self._states.get(Lane(party, lane), ("", 0.0))[0]

    def burst(self, party: str, lane: str, name: str, at: float) -> None:
        """Something that comes by the hundreds: what is closer together than `gap` is one span."""
        place = self.lane(party, lane)
        burst = self._bursts.get(place)
        if burst is not None and burst.name == name and at - burst.end <= self.gap:
            burst.end, burst.count = at, burst.count + 1
            return
        self._end_burst(place)
        self._bursts[place] = _Burst(name, at, at)

    def _end_burst(self, place: Lane) -> None:
        burst = self._bursts.pop(place, None)
        if burst is not None:
            args = {"count": burst.count}
            self.spans.append(Span(place, burst.name, burst.begin, burst.end, args))

    def finish(self, at: float) -> None:
        """Nothing more comes: what is still going on ends here."""
        for place in list(self._states):
            self._end_state(place, at)
        for place in list(self._bursts):
            self._end_burst(place)

    def drain(self) -> tuple[list[Span], list[Mark], list[Arrow]]:
        """What is complete, once: it isn't kept here any more."""
        found = (self.spans, self.marks, self.arrows)
        self.spans, self.marks, self.arrows = [], [], []
        return found
