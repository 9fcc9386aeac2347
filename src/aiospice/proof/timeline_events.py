"""Timelines of real runs, from the events that clients and servers tell.

`ClientTimeline` takes the events of a session as they come; `ServersTimeline` those of the control
sockets of both servers, brought to one clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.proof.timeline import Lane, Timeline

if TYPE_CHECKING:
    from aiospice.channels.events import Event

__all__ = ["ClientTimeline", "ServersTimeline"]

#: Kinds that come by the hundreds: the lane, and what is in it.
_BURSTS = {
    "screen-changed": ("screen", "changes"),
    "sound-packet": ("sound", "packets"),
    "cursor-moved": ("pointer", "moves"),
    "agent-data-received": ("agent", "pieces"),
    "device-data": ("devices", "bytes"),
}
#: Kinds that say nothing in a timeline.
_SILENT = ("not-drawn", "message-ignored", "unknown-message")
_SESSION, _MOVE = "session", "migration"


class ClientTimeline:
    """The client's side: a lane for each channel, one for migrations, and bars of what comes.

    ``start``: when it begins, by the clock of the events.
    """

    def __init__(self, start: float, party: str = "client") -> None:
        self.timeline = Timeline(start=start)
        self._party = party
        self._now = start
        self._target = ""
        for lane in (_SESSION, _MOVE):
            self.timeline.lane(party, lane)

    def take(self, event: Event) -> None:
        """The next event, with its time."""
        at = self._now = max(event.at or self._now, self._now)
        kind, party, line = event.kind, self._party, self.timeline
        if kind in _SILENT:
            return
        if kind in _BURSTS:
            lane, name = _BURSTS[kind]
            line.burst(party, lane, name, at)
            return
        values = event.as_dict()
        channel = str(values.get("channel") or "")
        line.mark(party, channel or _SESSION, kind, at, values)
        if kind == "channel-opened":
            line.state(party, channel, f"at {values['address']}", at)
        elif kind == "channel-moved":
            line.state(party, channel, "changes over", at - values["seconds"])
            line.state(party, channel, f"at {self._target}", at)
        elif kind == "channel-gone":
            line.state(party, channel, "", at)
        else:
            self._migrates(kind, values, at)

    def _migrates(self, kind: str, values: dict[str, Any], at: float) -> None:
        line, party = self.timeline, self._party
        if kind == "migration-started":
            self._target = values["target"]
            line.state(party, _MOVE, f"connects to {self._target}", at)
        elif kind == "migration-ready":
            line.state(party, _MOVE, f"ready ({values['mode']})", at)
        elif kind in ("migration-cancelled", "migration-abandoned"):
            line.state(party, _MOVE, "", at)
        elif kind == "migration-finished":
            line.state(party, _MOVE, f"changes over ({values['mode']})", at - values["pause"])
            line.state(party, _MOVE, "", at)
        elif kind == "session-ended":
            for lane in list(line.lanes):
                line.state(party, lane.name, "", at)

    def finish(self, at: float) -> Timeline:
        """Nothing more comes."""
        self.timeline.finish(max(at, self._now))
        return self.timeline


#: What a hand-over is at from an event of the source on.
_STEPS = {
    "handover-began": "the target is asked",
    "handover-agreed": "clients connect, the state is copied",
    "handover-ready": "the guest is stopped",
    "handover-stopped": "the target takes the guest up",
    "handover-running": "clients follow",
    "handover-uncertain": "nobody knows who has the guest",
    "handover-finished": "",
    "handover-failed": "",
}
_SOURCE, _TARGET = "source", "target"


class ServersTimeline:
    """The servers' side of one hand-over.

    Each server's events have times of its own monotonic clock, from an unknown beginning. What took
    the shortest time to get here says where that is, so that all are on the clock of who listens;
    between two events of one server the time is exact.
    """

    def __init__(self) -> None:
        self._events: list[tuple[str, dict[str, Any]]] = []
        #: For each server: what has to be added to its times.
        self._offsets: dict[str, float] = {}
        self._channels: list[tuple[int, str]] = []

    def status(self, status: dict[str, Any]) -> None:
        """What the source has said of itself before: channels that are open."""
        for client in status.get("clients", ()):
            for channel in client.get("channels", ()):
                self._channels.append((client["client"], channel["channel"]))

    def take(self, server: str, event: dict[str, Any], arrived: float) -> None:
        """An event of ``source`` or ``target``; ``arrived``: when, by the clock of who listens."""
        if not isinstance(event.get("time"), (int, float)):
            return
        self._events.append((server, event))
        offset = arrived - event["time"]
        self._offsets[server] = min(self._offsets.get(server, offset), offset)

    def finish(self) -> Timeline:
        """All of it, in order."""
        found = sorted(
            ((self._offsets[name] + event["time"], name, event) for name, event in self._events),
            key=lambda each: each[0],
        )
        begin = found[0][0] if found else 0.0
        line = Timeline(start=begin)
        for lane in ("hand-over", "guest", "clients"):
            line.lane(_SOURCE, lane)
        line.state(_SOURCE, "guest", "runs", begin)
        for client, channel in self._channels:
            line.state(_SOURCE, _lane(client, channel), "open", begin)
        line.lane(_TARGET, "guest")
        for at, server, event in found:
            _add(line, server, event, at)
        line.finish(found[-1][0] if found else 0.0)
        return _ordered(line)


def _lane(client: Any, channel: Any) -> str:
    return f"{channel} of client {client}"


def _add(line: Timeline, server: str, event: dict[str, Any], at: float) -> None:
    kind = event["event"]
    lane = "guest"
    if "channel" in event and "client" in event:
        lane = _lane(event["client"], event["channel"])
        if kind == "server-channel-opened":
            line.state(server, lane, "open", at)
        elif kind == "server-channel-closed":
            line.state(server, lane, "", at)
    elif "client" in event or kind.startswith("move-"):
        lane = "clients"
    if kind in _STEPS and server == _SOURCE:
        lane = "hand-over"
        line.state(_SOURCE, lane, _STEPS[kind], at)
        _guest(line, kind, event, at)
    line.mark(server, lane, kind, at, event)


def _guest(line: Timeline, kind: str, event: dict[str, Any], at: float) -> None:
    """Where the guest runs."""
    if kind == "handover-running":
        line.state(_SOURCE, "guest", "stands still", at - event["seconds"])
        line.state(_SOURCE, "guest", "", at)
        line.state(_TARGET, "guest", "runs", at)
    elif kind == "handover-uncertain":
        line.state(_SOURCE, "guest", "stands still", at)


def _ordered(line: Timeline) -> Timeline:
    """Lanes of clients by their numbers, behind the others; the source before the target."""
    first = ("hand-over", "guest", "clients")

    def place(lane: Lane) -> tuple[Any, ...]:
        client = lane.name.rpartition(" of client ")[2]
        known = first.index(lane.name) if lane.name in first else len(first)
        return (lane.party != _SOURCE, known, client, lane.name)

    line.lanes = dict.fromkeys(sorted(line.lanes, key=place))
    return line
