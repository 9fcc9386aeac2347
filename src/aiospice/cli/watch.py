"""``aiospice watch ADDRESS``."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

from aiospice.cli.options import add_common, connected
from aiospice.cli.stdio import write_line
from aiospice.errors import SessionLost

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager

    from aiospice.channels.events import Event

__all__ = ["arguments", "run"]

_MIGRATED = "migration-finished"
#: Events that come by the hundreds: told as one sum a second.
_SUMMED = {
    "screen-changed": "updates",
    "sound-packet": "sound_packets",
    "cursor-moved": "cursor_moves",
    "agent-data-received": "agent_pieces",
    "not-drawn": "not_drawn",
}
#: These carry how many there have been.
_COUNTED = ("unknown-message", "message-ignored")
#: The first of these are shown whole, since they tell that something is missing.
_SHOWN_FIRST = 3


def arguments(verb: str, parser: ArgumentParser) -> None:
    """Add the options."""
    add_common(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--until-migrated", metavar="N", type=int, default=0, help="end after N migrations"
    )
    parser.add_argument("--trace", metavar="FILE", help="write a Chrome trace (Trace Event JSON)")


class _Sums:
    """Counts what is too much to be shown one by one."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.counts: dict[str, int] = {}
        self.seen: dict[str, int] = {}

    def takes(self, event: Event) -> bool:
        """Count an event in; False if it is to be shown itself."""
        name = _SUMMED.get(event.kind)
        if name is None:
            count = getattr(event, "count", 1) if event.kind in _COUNTED else 1
            return str(count).strip("0") != "1"  # the 1st, 10th, 100th ... are shown
        self.seen[name] = self.seen.get(name, 0) + 1
        if event.kind == "not-drawn" and self.seen[name] <= _SHOWN_FIRST:
            return False
        self.counts[name] = self.counts.get(name, 0) + 1
        if self.since is None:
            self.since = event.at or 0.0
        return True

    def due(self, now: float, *, force: bool = False) -> dict[str, Any] | None:
        """The sums of the last second, once it is over."""
        if self.since is None or (now < self.since + 1 and not force):
            return None
        found: dict[str, Any] = {
            "time": round(now, 6),
            "event": "activity",
            "seconds": round(max(now - self.since, 0.0), 3),
            **self.counts,
        }
        self.since = None
        self.counts = {}
        return found


class _Trace:
    """The file, and what isn't in it yet: written once a second, and at the end."""

    def __init__(self, path: str, now: float) -> None:
        from aiospice.proof.chrome import TraceFile
        from aiospice.proof.timeline_events import ClientTimeline

        self._file = TraceFile(path)
        self._client = ClientTimeline(now)
        self._written = now

    def take(self, event: Event | None, now: float) -> None:
        """An event, or a second without one."""
        if event is not None:
            self._client.take(event)
        if now >= self._written + 1:
            self._written = now
            self._file.write(self._client.timeline)

    def close(self) -> None:
        """What has begun ends here."""
        from time import time

        self._file.write(self._client.finish(time()))
        self._file.close()


def _closing(trace: _Trace | None) -> AbstractContextManager[object]:
    return nullcontext() if trace is None else closing(trace)


async def run(verb: str, args: Namespace) -> int:
    """Show events until the session or the wait for migrations ends."""
    import time

    migrated = 0
    sums = _Sums()
    trace = _Trace(args.trace, time.time()) if args.trace else None
    with _closing(trace):
        async with connected(args) as session:
            session.discard_unclaimed()
            async for event in _with_ticks(session.events()):
                found = sums.due(time.time(), force=event is not None and event.kind == _MIGRATED)
                if found is not None:
                    await _show(found, args.json)
                if trace is not None:
                    trace.take(event, time.time())
                if event is None or sums.takes(event):
                    continue
                await _show(event.as_dict() if args.json else event, args.json)
                migrated += event.kind == _MIGRATED
                if 0 < args.until_migrated <= migrated:
                    return 0
    if args.until_migrated:
        raise SessionLost(f"the session ended after {migrated} of {args.until_migrated} migrations")
    return 0


async def _with_ticks(events: AsyncIterator[Event]) -> AsyncIterator[Event | None]:
    """The events, and None whenever a second has passed without one."""
    from asyncio import ensure_future, wait

    while True:
        coming = ensure_future(anext(events, None))
        try:
            while not (await wait({coming}, timeout=1))[0]:
                yield None
            event = await coming
        finally:
            coming.cancel()
        if event is None:
            return
        yield event


async def _show(what: Event | dict[str, Any], json: bool) -> None:
    if json:
        from json import dumps

        await write_line(dumps(what))
        return
    from aiospice.cli.escape import escape

    if isinstance(what, dict):
        values = {name: value for name, value in what.items() if name not in ("time", "event")}
        shown = " ".join(f"{name}={value}" for name, value in values.items())
        await write_line(f"{_clock(what['time'])} {what['event']} {shown}")
    else:
        await write_line(escape(f"{_clock(what.at)} {what}"))


def _clock(at: float | None) -> str:
    """The time of day with milliseconds."""
    if at is None:
        return "--:--:--.---"
    from time import localtime, strftime

    return f"{strftime('%H:%M:%S', localtime(at))}.{int(at % 1 * 1000):03d}"
