"""Timelines as Chrome traces: Trace Event JSON, which https://ui.perfetto.dev and others open.

A party is a process there, a lane a thread, a message an arrow between two of them. The file is an
array of events, one a line, that is whole even if the end of it is missing: a program that was
killed leaves a trace that can be opened. Format: "Trace Event Format" (Chromium), phases X, i, s,
f, M; times in microseconds.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from aiospice.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from aiospice.proof.timeline import Arrow, Lane, Mark, Span, Timeline

__all__ = ["ChromeTrace", "TraceFile"]

#: Characters of a text that goes into a trace.
_TEXT = 300


class ChromeTrace:
    """Turns what a timeline has into events of the format; numbers stay the same from call to call.

    Times are counted from `Timeline.start`, or from the first that came.
    """

    def __init__(self) -> None:
        self._parties: dict[str, int] = {}
        self._lanes: dict[Lane, tuple[int, int]] = {}
        self._zero: float | None = None
        self._arrows = 0

    def events(self, timeline: Timeline) -> Iterator[dict[str, Any]]:
        """The events of what is complete, which the timeline then forgets."""
        spans, marks, arrows = timeline.drain()
        if self._zero is None:
            starts = [span.begin for span in spans] + [mark.at for mark in marks]
            first = min(starts, default=None)
            self._zero = first if timeline.start is None else timeline.start
        for lane in timeline.lanes:
            yield from self._name(lane)
        for span in sorted(spans, key=lambda span: (span.begin, -span.end)):
            yield self._span(span)
        for mark in marks:
            yield self._mark(mark)
        for arrow in arrows:
            yield from self._arrow(arrow)

    def _name(self, lane: Lane) -> Iterator[dict[str, Any]]:
        if lane in self._lanes:
            return
        if lane.party not in self._parties:
            pid = self._parties[lane.party] = len(self._parties) + 1
            yield _named("process_name", pid, 0, name=lane.party)
            yield _named("process_sort_index", pid, 0, sort_index=pid)
        pid = self._parties[lane.party]
        tid = 1 + sum(place[0] == pid for place in self._lanes.values())
        self._lanes[lane] = (pid, tid)
        yield _named("thread_name", pid, tid, name=lane.name)
        yield _named("thread_sort_index", pid, tid, sort_index=tid)

    def _at(self, seconds: float) -> float:
        return round((seconds - (self._zero or 0.0)) * 1e6, 3)

    def _where(self, lane: Lane) -> dict[str, int]:
        pid, tid = self._lanes[lane]
        return {"pid": pid, "tid": tid}

    def _span(self, span: Span) -> dict[str, Any]:
        begin = self._at(span.begin)
        return {
            "name": span.name[:_TEXT],
            "cat": "state",
            "ph": "X",
            "ts": begin,
            "dur": round(self._at(span.end) - begin, 3),
            **self._where(span.lane),
            "args": _plain(span.args),
        }

    def _mark(self, mark: Mark) -> dict[str, Any]:
        return {
            "name": mark.name[:_TEXT],
            "cat": "event",
            "ph": "i",
            "s": "t",
            "ts": self._at(mark.at),
            **self._where(mark.lane),
            "args": _plain(mark.args),
        }

    def _arrow(self, arrow: Arrow) -> Iterator[dict[str, Any]]:
        self._arrows += 1
        same = {"name": arrow.name[:_TEXT], "cat": "message", "id": self._arrows}
        yield {**same, "ph": "s", "ts": self._at(arrow.sent), **self._where(arrow.sender)}
        there = self._where(arrow.receiver)
        yield {**same, "ph": "f", "bp": "e", "ts": self._at(arrow.received), **there}


def _named(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"name": what, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": args}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """What is worth showing and can't hold what somebody typed or copied: numbers, short texts."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, (bool, int, float)) or value is None:
            found[name] = value
        elif isinstance(value, str):
            found[name] = value[:_TEXT]
    return found


class TraceFile:
    """A trace in the making: ``with TraceFile(path) as trace: ... trace.write(timeline)``.

    A file that is there is replaced. `LocalError` for one that can't be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._trace = ChromeTrace()
        self._any = False
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(error) from None
        self._file = os.fdopen(file, "w", encoding="utf-8")

    def _failed(self, error: OSError) -> LocalError:
        return LocalError(f"the trace {self.path} can't be written: {error.strerror}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, timeline: Timeline) -> None:
        """Add what is complete; it is on the disk then."""
        try:
            for event in self._trace.events(timeline):
                self._file.write((",\n" if self._any else "[\n") + json.dumps(event))
                self._any = True
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """End the array."""
        if self._file.closed:
            return
        try:
            self._file.write("\n]\n" if self._any else "[]\n")
            self._file.close()
        except OSError as error:
            raise self._failed(error) from None
